"""Write README.md, with its pictures, from nbs/index.ipynb, and CONTRIBUTING.md likewise."""
import os
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r'(\]\(|\b(?:src|href)=")(?![a-z]+:|#|/)([^)"\s]+)')


def readme(root=ROOT):
    "The files to write: a dict from path, relative to `root`, to bytes."
    return markdown(root, 'README', 'index') | markdown(root, 'CONTRIBUTING', 'contributing')


def markdown(root, name, page):
    "A page of the site as a file at the top, with its pictures beside it."
    nb = nbformat.read(root/'nbs'/f'{page}.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not re.match(r'#\|\s*hide\b', c.source)]
    nb.metadata.language_info = {'name': 'python'}      # colours code; nbdev_clean removes it
    # links start from nbs/ in the notebook, and from the top in the file
    inside = lambda text: LINK.sub(lambda m: m[1] + os.path.normpath('nbs/' + m[2]), text)
    captions = {}
    for i, c in enumerate(nb.cells):
        if c.cell_type == 'markdown': c.source = inside(c.source)
        else:
            option = dict(re.findall(r'^#\|\s*([\w-]+):\s*"?(.*?)"?\s*$', c.source, re.M))
            captions[i] = option.get('fig-alt', ''), option.get('fig-cap', '')
            c.metadata.transient = {'remove_source': option.get('echo') == 'false'}
            c.source = re.sub(r'^#\|.*\n', '', c.source, flags=re.M)
            for o in c.outputs:
                shown = o.get('data', {})
                if 'text/markdown' in shown: shown['text/markdown'] = inside(shown['text/markdown'])
    body, made = MarkdownExporter().from_notebook_node(
        nb, {'unique_key': name, 'output_files_dir': f'{name}_files'})
    def picture(m):
        alt, caption = captions[int(m[2])]
        return f'![{alt}]({m[1]})' + (f'\n\n*{caption}*' if caption else '')
    body = re.sub(rf'!\[\w+\]\(({name}_files/{name}_(\d+)_\d+\.\w+)\)', picture, body)
    body = re.sub(r'\n(?:[ \t]*\n){2,}', '\n\n', body)
    note = f'<!-- Made from nbs/{page}.ipynb by `make readme`; do not edit here. -->\n\n'
    return {f'{name}.md': (note + body.strip() + '\n').encode()} | made['outputs']


if __name__ == '__main__':
    for old in ROOT.glob('README_files/*'): old.unlink()
    for path, data in readme().items():
        (ROOT/path).parent.mkdir(exist_ok=True)
        (ROOT/path).write_bytes(data)
