"""A page's reference: the public names of its module, read from the module's text."""
import ast
import html
import io
import re
import tokenize

from nbdev.config import get_config

from tools.site.meanings import meaning
from tools.site.symbols import anchor, members, pages, parsed, public

WIDEST = 95                  # characters of a constant's value that are shown


def plain(text):
    "Text in which Markdown finds nothing to do outside `code` and $formulas$, in one line."
    parts = re.split(r'(`[^`]*`|\$[^$\n]+\$)', ' '.join(text.split()))
    special = re.compile(r'([\\*_<>\[\]^~|@#{}])')
    return ''.join(p if i % 2 else special.sub(r'\\\1', p) for i, p in enumerate(parts))


def comments(text):
    "From line number to the comment that stands on it."
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type == tokenize.COMMENT}


def code(node_or_text):
    "Inline code."
    text = node_or_text if isinstance(node_or_text, str) else ast.unparse(node_or_text)
    return f'`{" ".join(text.split())}`'


def markup(text):
    "Text with `code` and $formulas$ as HTML."
    text = re.sub(r'`([^`]*)`', r'<code>\1</code>', html.escape(text, quote=False))
    return re.sub(r'\$([^$]+)\$', r'<span class="math inline">\\(\1\\)</span>', text)


def listed(node):
    "The parameters of a function as (name, parameter, default), without self."
    a = node.args
    positional = a.posonlyargs + a.args
    found = list(zip(positional, [None]*(len(positional) - len(a.defaults)) + a.defaults))
    found += [(a.vararg, None)]*bool(a.vararg) + list(zip(a.kwonlyargs, a.kw_defaults))
    found += [(a.kwarg, None)]*bool(a.kwarg)
    stars = {a.vararg: '*', a.kwarg: '**'}
    return [(stars.get(p, '') + p.arg, p, d) for p, d in found if p.arg not in ('self', 'cls')]


def parameters(node, notes):
    "Rows (name, type, default, note) of a function's parameters and of what it returns."
    rows, last = [], [(d or p).end_lineno for _, p, d in listed(node)]
    returned = node.returns.end_lineno if node.returns else None    # a comment there is of returns
    for i, (name, p, default) in enumerate(listed(node)):
        ends_line = last[i] not in [*last[i + 1:], returned]    # that of the line's last parameter
        rows.append((name, p.annotation, default, notes.get(last[i], '') if ends_line else ''))
    if node.returns: rows.append(('returns', node.returns, None, notes.get(returned, '')))
    return rows


def fields(node, notes):
    "Rows (name, type, default, note) of the fields that a class declares."
    return [(n.target.id, n.annotation, n.value, notes.get(n.end_lineno, '')) for n in node.body
            if isinstance(n, ast.AnnAssign) and not n.target.id.startswith('_')]


def signature(method):
    "The parameters' names and defaults, as a call is written."
    return ', '.join(name + (f'={ast.unparse(d)}' if d else '') for name, _, d in listed(method))


def table(rows):
    "A table of parameters, with the columns that have something to say."
    shown = lambda node: markup(code(node)) if node else ''
    cells = [('<em>returns</em>' if name == 'returns' else shown(name), shown(kind),
              shown(default), markup(note)) for name, kind, default, note in rows]
    used = [i for i in range(4) if i == 0 or any(c[i] for c in cells)]
    heads = [f'<th>{("Name", "Type", "Default", "Meaning")[i]}</th>' for i in used]
    body = [''.join(f'<td>{c[i]}</td>' for i in used) for c in cells]
    lines = ''.join(f'<tr>{line}</tr>\n' for line in body)
    table = f'<table>\n<thead><tr>{"".join(heads)}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>'
    return f'```{{=html}}\n{table}\n```'


def documented(node):
    "From parameter to what a docstring's list of parameters says of it, in lines `name: meaning`."
    for part in (ast.get_docstring(node) or '').split('\n\n'):
        if part.startswith('Parameters:'):
            lines = re.sub(r'\n\s{8,}', ' ', part).splitlines()[1:]
            return dict(line.strip().split(': ', 1) for line in lines)
    return {}


def rows_of(node, notes, owner):
    "The parameters of a function, or what a class is made from, each with its meaning."
    made = node
    if isinstance(node, ast.ClassDef):
        made = next((n for n in node.body if getattr(n, 'name', '') == '__init__'), None)
    rows = parameters(made, notes) if made else fields(node, notes)
    said = documented(node)
    return [(name, kind, default, said.get(name.lstrip('*')) or note
             or ('' if name == 'returns' else meaning(owner, name)))
            for name, kind, default, note in rows
            if name != 'returns' or made is node]


def member(name, m, notes):
    "A method or a property: a line, and a table of what it takes."
    is_property = any('property' in ast.unparse(d) for d in m.decorator_list)
    shown = code(f'.{m.name}' + ('' if is_property else f'({signature(m)})'))
    returns = f' → {code(m.returns)}' if m.returns else ''
    doc = ' '.join(plain(p) for p in (ast.get_docstring(m) or '').split('\n\n'))
    yield f'[{shown}]{{#{anchor(f"{name}.{m.name}")} .member}}{returns}  {doc}'
    rows = rows_of(m, notes, f'{name}.{m.name}')
    if any(row[0] != 'returns' for row in rows): yield table(rows)


def entry(module, name, node):
    "The paragraphs of one public name."
    path, text, _ = parsed(module)
    cfg, notes = get_config(), comments(text)
    first = min([node.lineno, *(d.lineno for d in getattr(node, 'decorator_list', []))])
    where = f'{cfg.git_url}/blob/{cfg.branch}/{path.relative_to(cfg.config_path).as_posix()}'
    yield f'### {code(name)} {{#{anchor(name)} .entry}}'
    yield (f'[source]({where}#L{first}-L{node.end_lineno})'
           f'{{.source-link aria-label="source of {name}"}}')
    if isinstance(node, ast.Assign):
        note = notes.get(node.lineno) or notes.get(node.end_lineno)
        if note: yield plain(note)
        if len(value := ast.unparse(node.value)) <= WIDEST: yield code(value)
        return
    if not isinstance(node, ast.ClassDef):
        yield code(f'{name}({signature(node)})')
    elif any(getattr(n, 'name', '') == '__init__' for n in node.body):
        start = next(n for n in node.body if getattr(n, 'name', '') == '__init__')
        yield code(f'{name}({signature(start)})')
    yield from (plain(p) for p in (ast.get_docstring(node) or '').split('\n\n')
                if p and not p.startswith('Parameters:'))
    if rows := rows_of(node, notes, name): yield table(rows)
    if isinstance(node, ast.ClassDef):
        for m in members(module, node): yield from member(name, m, notes)


def reference(module):
    "The page's last section, or nothing where the module has no public names."
    found = [part for name, node in public(module) for part in entry(module, name, node)]
    head = f'The public names of `deep_sparse_nb.{module}`, in the order of the page.'
    return ['## Reference {#reference}', head, *found] if found else []


def first_sentence(node):
    "What an index says of a name."
    if isinstance(node, ast.Assign): return ''
    return re.split(r'(?<=[.:]) ', (ast.get_docstring(node) or '').split('\n\n')[0])[0].rstrip(':')


def index():
    "Every public name from A to Z, with its module and a sentence, linked to its entry."
    found = [(name, module, page, node) for module, page in pages().items()
             for name, node in public(module)]
    letter = ''
    for name, module, page, node in sorted(found, key=lambda f: (f[0].lower(), f[1])):
        if name[0].upper() != letter:
            letter = name[0].upper()
            yield f'## {letter} {{#letter-{letter.lower()}}}'
        yield (f'[`{name}`]({page.as_posix()}#{anchor(name)})  {code(module)}  '
               f'{plain(first_sentence(node))}')
