"""Which names the library makes public, and on which page each is explained."""
import ast
import json
import os
import re
from functools import cache
from pathlib import Path

from nbdev.config import get_config

def notebooks():
    "The project's notebooks, relative to the folder of notebooks."
    top = Path(get_config().nbs_path)
    return sorted(f.relative_to(top) for f in top.rglob('*.ipynb')
                  if not any(part.startswith(('.', '_')) for part in f.relative_to(top).parts))


def source(cell): return ''.join(cell['source'])


def module_of(cells):
    "The module that a notebook exports to, such as 'kernels.cpu', or None."
    for c in cells:
        found = re.search(r'^#\|\s*default_exp\s+(\S+)', source(c), re.M)
        if found and c['cell_type'] == 'code': return found[1]


@cache
def pages():
    "From module to its page, relative to the folder of notebooks."
    top, found = Path(get_config().nbs_path), {}
    for f in notebooks():
        module = module_of(json.loads((top/f).read_text(encoding='utf-8'))['cells'])
        if module: found[module] = f
    return found


@cache
def parsed(module):
    "The text and the syntax tree of an exported module."
    path = Path(get_config().lib_path)/(module.replace('.', '/') + '.py')
    if not path.exists(): path = path.with_suffix('')/'__init__.py'
    text = path.read_text(encoding='utf-8')
    return path, text, ast.parse(text)


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def public_names(module):
    "The module's `__all__`."
    for node in parsed(module)[2].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__':
            return set(ast.literal_eval(node.value))
    return set()


def public(module):
    "The public definitions of a module as (name, node), in the order of their source."
    names, found = public_names(module), []
    for node in parsed(module)[2].body:
        if isinstance(node, DEFINITIONS) and node.name in names: found.append((node.name, node))
        if isinstance(node, ast.Assign):
            found += [(t.id, node) for t in node.targets if getattr(t, 'id', None) in names]
    return found


def members(module, node):
    "The public methods and properties of a class, and those of private classes it is made of."
    own = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith('_')]
    there = {n.name: n for n in parsed(module)[2].body if isinstance(n, ast.ClassDef)}
    bases = [there[b.id] for b in node.bases if getattr(b, 'id', ' ')[0] == '_' and b.id in there]
    known = {m.name for m in own}
    return own + [m for b in bases for m in members(module, b) if m.name not in known]


def anchor(name): return 'api-' + name      # apart from the ids of headings


@cache
def symbols():
    "From each public name, `module.name` and `Class.method` to its (page, anchor)."
    found = {}
    for module, page in pages().items():
        names = [n for n, _ in public(module)]
        names += [f'{n}.{m.name}' for n, node in public(module) if isinstance(node, ast.ClassDef)
                  for m in members(module, node)]
        for name in names:
            found[name] = None if name in found else (page, anchor(name))
            found[f'{module}.{name}'] = page, anchor(name)
    return {k: v for k, v in found.items() if v}


def link_names(text, here):
    "Link `name`, `name()` and `module.name`, once in a text; headings, blocks and links stay."
    seen = set()

    def link(m):
        name = re.sub(r'^deep_sparse_nb\.', '', m[1].removesuffix('()'))
        if name not in symbols() or name in seen: return m[0]
        seen.add(name)
        page, at = symbols()[name]
        target = '' if page == here else os.path.relpath(page, here.parent).replace(os.sep, '/')
        return f'[{m[0]}]({target}#{at})'

    blocks = re.split(r'(```.*?```|^#.*$|\[[^\]]*\]\([^)]*\)|<[^>]*>)', text, flags=re.S | re.M)
    name = re.compile(r'(?<![\w`])`([A-Za-z_][\w.]*(?:\(\))?)`(?!`)')
    return ''.join(b if i % 2 else name.sub(link, b) for i, b in enumerate(blocks))
