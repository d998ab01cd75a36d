"""What the site does with a notebook, beside what nbdev does: code once and in full, folded cells, links, a reference.

nbdev finds `Book` by way of `procs` in settings.ini. Nothing here runs or imports the library: the reference is read
from the exported modules' text, so that a page can be built wherever nbdev is installed.
"""
import ast
import base64
import io
import json
import os
import re
import struct
import tokenize
from functools import lru_cache
from pathlib import Path

import yaml
from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor

WIDEST = 95                  # characters of a line of code that a page shows without scrolling
CSS_DPI = 96                 # a picture stored at 180 dots an inch is drawn at this many, and so sharp on every screen
IMAGES = ('image/png', 'image/svg+xml', 'image/jpeg')


# ---- where things are ----

def notebooks():
    "The project's notebooks, relative to the folder of notebooks."
    top = Path(get_config().nbs_path)
    return sorted(f.relative_to(top) for f in top.rglob('*.ipynb')
                  if not any(part.startswith(('.', '_')) for part in f.relative_to(top).parts))


def source(cell): return ''.join(cell['source'])


def module_of(cells):
    "The module that a notebook exports to, such as 'kernels.cpu', or None."
    found = [m[1] for c in cells if c['cell_type'] == 'code' and (m := re.search(r'^#\|\s*default_exp\s+(\S+)', source(c), re.M))]
    return found[0] if found else None


@lru_cache(maxsize=None)
def pages():
    "From module to its page, relative to the folder of notebooks."
    top, found = Path(get_config().nbs_path), {}
    for f in notebooks():
        module = module_of(json.loads((top/f).read_text(encoding='utf-8'))['cells'])
        if module: found[module] = f
    return found


@lru_cache(maxsize=None)
def parsed(module):
    "The text and the syntax tree of an exported module."
    path = Path(get_config().lib_path)/(module.replace('.', '/') + '.py')
    if not path.exists(): path = path.with_suffix('')/'__init__.py'
    text = path.read_text(encoding='utf-8')
    return path, text, ast.parse(text)


# ---- public names ----

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def public_names(module):
    "The module's `__all__`."
    for node in parsed(module)[2].body:
        if isinstance(node, ast.Assign) and any(getattr(t, 'id', '') == '__all__' for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def public(module):
    "The public definitions of a module as (name, node), in the order of their source."
    names, found = public_names(module), []
    for node in parsed(module)[2].body:
        if isinstance(node, DEFINITIONS) and node.name in names: found.append((node.name, node))
        if isinstance(node, ast.Assign):
            found += [(t.id, node) for t in node.targets if isinstance(t, ast.Name) and t.id in names]
    return found


def members(node):
    "The public methods and properties of a class."
    return [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith('_')]


def anchor(name): return 'api-' + name      # apart from the ids of headings


@lru_cache(maxsize=None)
def symbols():
    "From each public name, `module.name` and `Class.method` to (page, anchor). A name that two modules have is ambiguous."
    found = {}
    for module, page in pages().items():
        names = [n for n, _ in public(module)]
        names += [f'{n}.{m.name}' for n, node in public(module) if isinstance(node, ast.ClassDef) for m in members(node)]
        for name in names:
            found[name] = None if name in found else (page, anchor(name))
            found[f'{module}.{name}'] = page, anchor(name)
    return {k: v for k, v in found.items() if v}


def link_names(text, here):
    "Link `name`, `name()` and `module.name` to the reference, once in a text; headings, code blocks and links stay."
    seen = set()

    def link(m):
        name = re.sub(r'^deep_sparse_nb\.', '', m[1].removesuffix('()'))
        if name not in symbols() or name in seen: return m[0]
        seen.add(name)
        page, at = symbols()[name]
        target = '' if page == here else os.path.relpath(page, here.parent).replace(os.sep, '/')
        return f'[{m[0]}]({target}#{at})'

    blocks = re.split(r'(```.*?```|^#.*$|\[[^\]]*\]\([^)]*\)|<[^>]*>)', text, flags=re.S | re.M)
    return ''.join(b if i % 2 else re.sub(r'(?<![\w`])`([A-Za-z_][\w.]*(?:\(\))?)`(?!`)', link, b) for i, b in enumerate(blocks))


# ---- the reference at the page's end ----

def plain(text):
    "Text in which Markdown finds nothing to do outside `code` and $formulas$, in one line."
    parts = re.split(r'(`[^`]*`|\$[^$\n]+\$)', ' '.join(text.split()))
    return ''.join(p if i % 2 else re.sub(r'([\\*_<>\[\]^~|@#{}])', r'\\\1', p) for i, p in enumerate(parts))


def comments(text):
    "From line number to the comment that stands on it."
    return {t.start[0]: t.string.lstrip('# ') for t in tokenize.generate_tokens(io.StringIO(text).readline)
            if t.type == tokenize.COMMENT}


def code(text):
    "Inline code, also within a table."
    return f'`{" ".join(text.split())}`'.replace('|', r'\|') if text else ''


def parameters(node, notes):
    "Rows (name, type, default, note) of a function's parameters and of what it returns."
    a = node.args
    positional = a.posonlyargs + a.args
    defaults = [None]*(len(positional) - len(a.defaults)) + a.defaults
    listed = list(zip(positional, defaults))
    if a.vararg: listed.append((ast.arg('*' + a.vararg.arg, a.vararg.annotation, lineno=a.vararg.lineno), None))
    listed += list(zip(a.kwonlyargs, a.kw_defaults))
    if a.kwarg: listed.append((ast.arg('**' + a.kwarg.arg, a.kwarg.annotation, lineno=a.kwarg.lineno), None))
    listed = [(p, d) for p, d in listed if p.arg not in ('self', 'cls')]
    on_line = [(d or p).end_lineno if d is not None else getattr(p, 'end_lineno', p.lineno) for p, d in listed]
    rows = []
    for i, (p, d) in enumerate(listed):      # a comment belongs to the line's last parameter
        note = notes.get(on_line[i], '') if i + 1 == len(listed) or on_line[i + 1] != on_line[i] else ''
        rows.append((p.arg, ast.unparse(p.annotation) if p.annotation else '', ast.unparse(d) if d is not None else '', note))
    first = node.body[0].lineno
    after = on_line[-1] if on_line else node.lineno
    if node.returns:
        line = node.returns.end_lineno
        note = notes.get(line, '') if line != after or len(on_line) == 0 or not rows[-1][3] else ''
        if line < first or note: rows.append(('returns', ast.unparse(node.returns), '', note))
    return rows


def fields(node, notes):
    "Rows (name, type, default, note) of a dataclass's fields."
    return [(n.target.id, ast.unparse(n.annotation), ast.unparse(n.value) if n.value else '', notes.get(n.end_lineno, ''))
            for n in node.body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith('_')]


def signature(node):
    a = ast.parse(ast.unparse(node.args) and f'def f({ast.unparse(node.args)}): pass' or 'def f(): pass').body[0].args
    a.posonlyargs = [p for p in a.posonlyargs if p.arg not in ('self', 'cls')]
    a.args = [p for p in a.args if p.arg not in ('self', 'cls')]
    for p in [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]: p.annotation = None
    return f'({ast.unparse(a)})'


def table(rows):
    "A Markdown table of parameters, with the columns that have something to say."
    heads = ['', 'Type', 'Default', 'Meaning']
    used = [i for i in range(4) if i == 0 or any(r[i] for r in rows)]
    cells = [[('*returns*' if r[0] == 'returns' else code(r[0])), code(r[1]), code(r[2]), plain(r[3])] for r in rows]
    lines = [' | '.join(heads[i] for i in used), ' | '.join('---' for _ in used)]
    lines += [' | '.join(c[i] for i in used) for c in cells]
    return '\n'.join(f'| {line} |' for line in lines)


def is_dataclass(node): return any('dataclass' in ast.unparse(d) for d in node.decorator_list)


def entry(module, name, node):
    "The reference entry of one public name."
    path, text, _ = parsed(module)
    cfg, notes = get_config(), comments(text)
    start = min([node.lineno, *(d.lineno for d in getattr(node, 'decorator_list', []))])
    where = f'{cfg.git_url}/blob/{cfg.branch}/{path.relative_to(cfg.config_path).as_posix()}#L{start}-L{node.end_lineno}'
    out = [f'### {code(name)} {{#{anchor(name)} .entry}}', f'[source]({where}){{.source-link aria-label="source of {name}"}}']
    if isinstance(node, ast.Assign):
        value = ast.unparse(node.value)
        out.append((plain(notes[node.lineno]) + '\n\n' if node.lineno in notes else '') + (code(value) if len(value) <= WIDEST else ''))
        return [o for o in out if o]
    if (doc := ast.get_docstring(node)): out += [plain(p) for p in doc.split('\n\n')]
    if isinstance(node, ast.ClassDef):
        start = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)
        rows = fields(node, notes) if is_dataclass(node) or not start else parameters(start, notes)
    else: rows = parameters(node, notes)
    if rows: out.append(table(rows))
    if isinstance(node, ast.ClassDef) and members(node):
        for m in members(node):
            is_property = any('property' in ast.unparse(d) for d in m.decorator_list)
            returns = f' → {code(ast.unparse(m.returns))}' if m.returns else ''
            shown = code('.' + m.name + ('' if is_property else signature(m)))
            doc = plain((ast.get_docstring(m) or '').split('\n\n')[0])
            out.append(f'[{shown}]{{#{anchor(f"{name}.{m.name}")} .member}}{returns}  {doc}')
    return out


def reference(module):
    "The page's last section, or nothing where the module has no public names."
    entries = [entry(module, *e) for e in public(module)]
    if not entries: return []
    return ['## Reference {#reference}', f'The public names of `deep_sparse_nb.{module}`, in the order of the page.',
            *(part for e in entries for part in e)]


# ---- cells ----

def has_picture(cell): return any(set(o.get('data', {})) & set(IMAGES) for o in cell.get('outputs', []))


def names_of(trees): return [n.name for n in trees if isinstance(n, DEFINITIONS)]


def only_imports(trees):
    return bool(trees) and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in trees)


def fold(cell):
    "The summary under which a cell is folded, or None where it is shown."
    given, trees = cell.directives_, cell.parsed_() or []
    if only_imports(trees): return 'Imports'
    if 'exporti' in given: return 'Helper: ' + ', '.join(names_of(trees)) if names_of(trees) else 'Helper'
    if 'export' in given: return None
    if has_picture(cell): return 'Plotting code'
    if not cell.get('outputs') and 'assert ' in cell.source: return 'Check'


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


def as_markup(cell):
    "Turn what a cell shows as HTML into raw HTML of the page, for which Quarto loads no scripts from elsewhere."
    for o in cell.get('outputs', []):
        html = o.get('data', {}).get('text/html')
        if html:
            html = re.sub(r'<style scoped>.*?</style>\s*', '', ''.join(html), flags=re.S).replace('border="1" ', '')
            o['data'] = {'text/markdown': f'```{{=html}}\n{html.strip()}\n```\n'}


class Book(Processor):
    "Shows what is explained, folds what supports it, links names, and puts the reference at the end."
    def begin(self):
        cfg, nb = get_config(), self.nb
        here = Path(nb.path_).resolve()
        self.here = here.relative_to(Path(cfg.nbs_path).resolve())
        module = module_of(nb.cells)
        for cell in nb.cells:
            if cell.cell_type == 'markdown': cell.source = link_names(cell.source, self.here)
            elif cell.cell_type == 'code': self.code_cell(cell)
        self.front_matter(nb.cells[0], cfg)
        if module and parsed(module): nb.cells += [mk_cell(part, 'markdown') for part in reference(module)]

    def code_cell(self, cell):
        if 'default_exp' in cell.directives_: cell.source = None; return
        draw_sharp(cell)
        as_markup(cell)
        given = {k.rstrip(':') for k in cell.directives_}
        summary = None if given & {'code-fold', 'echo'} else fold(cell)
        if summary: cell.source = f'#| code-fold: true\n#| code-summary: "{summary}"\n{cell.source}'

    def front_matter(self, cell, cfg):
        "A link to the notebook that can be run elsewhere, beside the page's own."
        if cell.cell_type != 'raw': return
        front = yaml.safe_load(cell.source.strip().strip('-'))
        path = f'{Path(cfg.nbs_path).name}/{self.here.as_posix()}'
        run = dict(text='Run in Colab', icon='play-circle',
                   href=f'https://colab.research.google.com/github/{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{path}')
        front['other-links'] = front.get('other-links', []) + [run]
        cell.source = f'---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)}---\n\n'
