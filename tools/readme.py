"""Write README.md from nbs/index.ipynb, with the pictures it shows, and CONTRIBUTING.md from nbs/contributing.ipynb."""
import os
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r'(\]\(|\b(?:src|href)=")(?![a-z]+:|#|/)([^)"\s]+)')


def readme(root=ROOT):
    "The files to write: a dict from path, relative to `root`, to bytes."
    return markdown(root, 'README', 'index') | markdown(root, 'CONTRIBUTING', 'contributing')


def markdown(root, name, page):
    "A page of the site as a file at the top, with its pictures beside it."
    nb = nbformat.read(root/'nbs'/f'{page}.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not re.match(r'#\|\s*hide\b', c.source)]
    nb.metadata.language_info = {'name': 'python'}      # nbdev_clean removes it; code blocks are coloured by it
    for i, c in enumerate(nb.cells):
        if re.search(r'^#\|\s*echo:\s*false', c.source, re.M):     # only what the cell shows, not the cell
            nb.cells[i] = nbformat.v4.new_markdown_cell(''.join(o['data']['text/markdown'] for o in c.outputs))
    captions = {}
    for i, c in enumerate(nb.cells):
        if c.cell_type == 'markdown':     # links start from nbs/ in the notebook and from the top in README.md
            c.source = LINK.sub(lambda m: m[1] + os.path.normpath('nbs/' + m[2]), c.source)
        else:
            cap = re.search(r'^#\|\s*fig-cap:\s*"?(.*?)"?\s*$', c.source, re.M)
            if cap: captions[i] = cap[1]
            c.source = re.sub(r'^#\|.*\n', '', c.source, flags=re.M)
    body, made = MarkdownExporter().from_notebook_node(
        nb, {'unique_key': name, 'output_files_dir': f'{name}_files'})
    body = re.sub(rf'!\[\w+\]\(({name}_files/{name}_(\d+)_)',
                  lambda m: f'![{captions.get(int(m[2]), "")}]({m[1]}', body)
    body = re.sub(r'\n(?:[ \t]*\n){2,}', '\n\n', body)
    note = f'<!-- Made from nbs/{page}.ipynb by `make readme`; do not edit here. -->\n\n'
    return {f'{name}.md': (note + body.strip() + '\n').encode()} | made['outputs']


if __name__ == '__main__':
    for old in ROOT.glob('README_files/*'): old.unlink()
    for path, data in readme().items():
        (ROOT/path).parent.mkdir(exist_ok=True)
        (ROOT/path).write_bytes(data)
