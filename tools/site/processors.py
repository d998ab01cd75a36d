"""What the site does with a notebook: code once and in full, folded cells, links, a reference.

nbdev finds `Book` by way of `procs` in settings.ini. Nothing here runs or imports the library: the
reference is read from the exported modules' text, so that a page is built wherever nbdev is.
"""
import ast
import base64
import re
import struct
from pathlib import Path

from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor

from tools.site.reference import index, reference
from tools.site.symbols import DEFINITIONS, link_names, module_of

CSS_DPI = 96                 # dots an inch at which a picture is drawn; more are stored
INDEX = Path('reference.ipynb')   # the page that lists every public name
IMAGES = {'image/png', 'image/svg+xml', 'image/jpeg'}
SHORT = re.compile(r'(<td style="text-align: \w+)("\s*>[^<]{1,18}</td>)')    # stays on one line
WORDS = re.compile(r'<td( style="text-align: left"\s*>([^<]{19,})</td>)')      # keep some width


def has_picture(cell): return any(set(o.get('data', {})) & IMAGES for o in cell.get('outputs', []))


def names_of(trees): return [n.name for n in trees if isinstance(n, DEFINITIONS)]


def only_imports(trees):
    "Those for type checkers alone, below an `if`, included."
    return bool(trees) and all(isinstance(n, (ast.Import, ast.ImportFrom))
                               or (isinstance(n, ast.If) and only_imports(n.body)) for n in trees)


def fold(cell, everything=False):
    "The summary under which a cell is folded, or None where it is shown."
    given, trees = cell.directives_, cell.parsed_() or []
    if only_imports(trees): return 'Imports'
    if 'exporti' in given: return ': '.join(['Helper', *filter(None, [', '.join(names_of(trees))])])
    if 'export' in given: return None
    if has_picture(cell): return 'Plotting code'
    if not cell.get('outputs') and 'assert ' in cell.source: return 'Check'
    if everything: return 'Code'


def picture_width(data):
    "The width in CSS pixels of a PNG picture that says its dots an inch, else None."
    png = base64.b64decode(''.join(data))
    width, = struct.unpack('>I', png[16:20])
    at = png.find(b'pHYs')
    if at < 0: return None
    dpi = struct.unpack('>I', png[at + 4:at + 8])[0]*0.0254
    return round(width*CSS_DPI/dpi) if dpi else None


def draw_sharp(cell):
    "Give every picture its width, so that one stored at two dots a pixel is drawn at its size."
    for o in cell.get('outputs', []):
        png = o.get('data', {}).get('image/png')
        if png and (width := picture_width(png)):
            meta = dict(o.get('metadata', {}))
            meta['image/png'] = dict(meta.get('image/png', {}), width=width)
            o['metadata'] = meta


def wordy(m): return f'<td class="{"long" if len(m[2]) > 40 else "phrase"}"{m[1]}'


def as_markup(cell):
    "Turn what a cell shows as HTML into HTML of the page, which needs no scripts from elsewhere."
    for o in cell.get('outputs', []):
        html = o.get('data', {}).get('text/html')
        if html:
            html = re.sub(r'<style scoped>.*?</style>\s*', '', ''.join(html), flags=re.S)
            html = html.replace('border="1" ', '').strip()
            html = SHORT.sub(r'\1; white-space: nowrap\2', html)
            html = WORDS.sub(wordy, html)
            o['data'] = {'text/markdown': f'```{{=html}}\n{html}\n```\n'}


class Book(Processor):
    "Shows what is explained, folds what supports it, links names, and adds the reference."
    def begin(self):
        nb = self.nb
        here = Path(nb.path_).resolve()
        self.here = here.relative_to(Path(get_config().nbs_path).resolve())
        module = module_of(nb.cells)
        for cell in nb.cells:
            if cell.cell_type == 'markdown': cell.source = link_names(cell.source, self.here)
            elif cell.cell_type == 'code': self.code_cell(cell)
        if self.here == INDEX: nb.cells += [mk_cell(part, 'markdown') for part in index()]
        if module: nb.cells += [mk_cell(part, 'markdown') for part in reference(module)]

    def code_cell(self, cell):
        if 'default_exp' in cell.directives_: cell.source = None; return
        draw_sharp(cell)
        as_markup(cell)
        given = {k.rstrip(':') for k in cell.directives_}
        wing = self.here.parts[0]
        as_it_is = wing == 'howto' or given & {'code-fold', 'echo'}     # how-tos are copied whole
        summary = None if as_it_is else fold(cell, wing == 'experiments')
        if summary:
            cell.source = f'#| code-fold: true\n#| code-summary: "{summary}"\n{cell.source}'
