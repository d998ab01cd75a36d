"""Measure anew what a page shows from a table: `python tools/results/tables.py NOTEBOOK ...`.

Such a page has a cell with `if measuring:`, which appends rows to a table of results/ where
MEASURE is set. Its code runs here up to that cell. Rows that the table has are left as they are.
"""
import json
import os
import re
import sys
from pathlib import Path

import matplotlib


def measure(path):
    "Run a page's code, up to the cell that fills the table, without what it shows in short."
    sources, section = [], ''
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            section = (re.findall('^## (.*)', text, re.MULTILINE) or [section])[-1]
        elif section != 'In short': sources.append(text)
    last = [i for i, source in enumerate(sources) if '\nif measuring:' in f'\n{source}']
    if not last: sys.exit(f'{path} measures nothing')
    os.chdir(path.parent)
    page = {'__name__': '__main__'}
    for source in sources[:last[0] + 1]: exec(compile(source, str(path), 'exec'), page)


if __name__ == '__main__':
    matplotlib.use('agg')
    os.environ['MEASURE'] = '1'
    top = Path.cwd()
    for name in sys.argv[1:]: measure(top/name)
