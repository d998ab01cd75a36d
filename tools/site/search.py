"""What the site's search looks through: headings, prose and names, and no code."""
import json
import re
from pathlib import Path

from nbdev.config import get_config

from tools.site import symbols


def anchor(heading):
    "The identifier that pandoc gives to a heading."
    given = re.search(r'\{#([\w.-]+)', heading)
    if given: return given[1]
    heading = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', re.sub(r'\{[^}]*\}\s*$', '', heading))
    words = re.sub(r'[^\w\s.-]', '', heading.replace('`', '').replace('*', '').lower())
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', words.strip()))


def address(page):
    "Where a notebook stands on the site: without the number of its place in the book."
    return page.with_name(re.sub(r'^\d+[a-z]*_', '', page.stem) + '.html').as_posix()


def prose(markdown):
    "Markdown without code, formulas, links' addresses and tags."
    markdown = markdown.replace(r'$\lambda$', 'λ')
    for what, instead in ((r'```.*?```', ' '), (r'\$\$.*?\$\$(\s*\{[^}]*\})?', ' '),
                          (r'\$[^$]*\$', ' '), (r'\[([^\]]*)\]\([^)]*\)', r'\1'),
                          (r'<[^>]*>', ' '), (r'(?m)^> ', ''), (r'[*`|]', ' ')):
        markdown = re.sub(what, instead, markdown, flags=re.S)
    return re.sub(r' ([,.;:])', r'\1', re.sub(r'\s+', ' ', markdown)).strip()


def entries_of(page, cells):
    "One for the top of a page, and one for each heading of the second level."
    whole = '\n\n'.join(symbols.source(c) for c in cells if c['cell_type'] == 'markdown')
    whole = re.sub(r'^(---|- [\w-]+:).*$', '', whole, flags=re.M)
    title, *_ = re.findall(r'^# (.*)$', whole, re.M) or [page.stem]
    href = address(page)
    fenced = re.sub(r'```.*?```', lambda m: m[0].replace('\n#', '\n '), whole, flags=re.S)
    top, *parts = re.split(r'^## ', re.sub(r'^# .*$', '', fenced, flags=re.M), flags=re.M)
    yield dict(objectID=href, href=href, title=prose(title), section=WORDS.get(href, ''),
               text=prose(top))
    for part in parts:
        heading, _, text = part.partition('\n')
        at = f'{href}#{anchor(heading)}'
        yield dict(objectID=at, href=at, title=prose(title), section=prose(heading),
                   text=prose(text))


def names_of(module, page):
    "One for each public name: what it does, and its parameters."
    for name, node in symbols.public(module):
        if not isinstance(node, symbols.DEFINITIONS): continue
        doc = symbols.ast.get_docstring(node) or ''
        args = getattr(node, 'args', None)
        for part in getattr(node, 'body', ()):
            if getattr(part, 'name', '') == '__init__': args = part.args
        given = [a.arg for a in (*args.args, *args.kwonlyargs)] if args else []
        at = f'{address(page)}#{symbols.anchor(name)}'
        yield dict(objectID=at, href=at, title=f'{name}, reference', section='',
                   text=f'{prose(doc)} Parameters: {", ".join(given)}')


def words():
    "One for each word of the glossary."
    told = json.loads((Path(get_config().nbs_path)/'_widgets'/'glossary.json').read_text('utf-8'))
    acronyms = {a: f'{full}. {more}' for a, (full, more) in told['acronyms'].items()}
    meanings = told['words'] | acronyms
    for word, meaning in meanings.items():
        href = f'glossary.html#{word if word in acronyms else "words"}'
        yield dict(objectID=f'{href}-{word}', href=href, title=f'Glossary: {word}', section='',
                   text=meaning)


WORDS = {'index.html': 'Install'}    # what people look for and no heading says


def entries():
    "All of them, in the form of Quarto's search.json."
    top, made = Path(get_config().nbs_path), []
    for page in symbols.notebooks():
        cells = json.loads((top/page).read_text(encoding='utf-8'))['cells']
        made.extend(entries_of(page, cells))
    for module, page in symbols.pages().items(): made.extend(names_of(module, page))
    return [*{entry['objectID']: entry for entry in [*words(), *made]}.values()]
