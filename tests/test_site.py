"""What a reader of the site sees, told without Quarto; `make test-site` looks at built pages."""
import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools.site.build_site import tidy
from tools.site.meanings import MEANINGS
from tools.site.reference import WIDEST as REFERENCE_WIDTH, comments, rows_of
from tools.site.search import anchor, entries
from tools.site.symbols import members, pages as pages_of_modules, parsed
from tools.site.symbols import public as public_of

WIDEST = 100                # characters of code that fit a page of 1400 pixels
IMAGES = {'image/png', 'image/svg+xml', 'image/jpeg'}

def run(script, cwd, path):
    done = subprocess.run([sys.executable, '-c', script], cwd=cwd, capture_output=True, text=True,
                          env=os.environ | {'PYTHONPATH': str(path)})
    assert done.returncode == 0, done.stderr

@pytest.fixture(scope='session')
def pages(tmp_path_factory):
    "Every page as nbdev and tools/site/processors.py leave it to Quarto: from path to its cells."
    top = tmp_path_factory.mktemp('site')
    # nbdev silently skips whatever lies below a folder whose name starts with a dot
    assert not any(part.startswith('.') for part in top.parts), f'TMPDIR has a dot in it: {top}'
    skip = shutil.ignore_patterns('node_modules', '__pycache__', '.*')
    for f in ['nbs', 'tools', 'deep_sparse_nb']: shutil.copytree(ROOT/f, top/f, True, skip)
    for f in ['settings.ini', '_quarto.yml']: shutil.copy2(ROOT/f, top/f)
    run('from tools.site.build_site import process; process()', cwd=top, path=top)
    proc, found = top/'_proc', {}
    for f in sorted(proc.rglob('*.ipynb')):
        found[str(f.relative_to(proc))] = json.loads(f.read_text(encoding='utf-8'))['cells']
    listed = {str(f.relative_to(top/'nbs')) for f in (top/'nbs').rglob('*.ipynb')}
    assert set(found) == listed and len(found) > 10
    return found

def text(cell): return ''.join(cell['source'])

def code_cells(cells): return [c for c in cells if c['cell_type'] == 'code']

def option(cell, name):
    m = re.search(rf'^#\|\s*{name}:\s*(.*?)\s*$', text(cell), re.M)
    return m[1].strip('"\'') if m else ''

def shown_code(cell):
    return '\n'.join(line for line in text(cell).splitlines() if not line.startswith('#|'))

def squeezed(source): return '\n'.join(line.strip() for line in source.splitlines() if line.strip())

# ---- code, once and in full ----

def modules():
    for f in sorted((ROOT/'deep_sparse_nb').rglob('*.py')):
        source = f.read_text(encoding='utf-8')
        edited = re.search(r'File to edit: \S*?nbs/(\S+\.ipynb)', source)
        if not edited: continue
        tree = ast.parse(source)
        names = [ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)
                 and getattr(n.targets[0], 'id', '') == '__all__']
        public = [n for n in tree.body if getattr(n, 'name', None) in (names or [[]])[0]]
        yield f.relative_to(ROOT), source, edited[1], public

def test_every_public_definition_is_shown_once_in_full(pages):
    missing, seen = [], 0
    for f, source, page, public in modules():
        open_cells = [squeezed(shown_code(c)) for c in code_cells(pages[page])
                      if option(c, 'code-fold') != 'true' and option(c, 'echo') != 'false']
        for node in public:
            whole = squeezed(ast.get_source_segment(source, node))
            shown, seen = sum(whole in c for c in open_cells), seen + 1
            if shown != 1: missing.append(f'{f}: {node.name} is shown {shown} times on {page}')
    assert seen > 50 and not missing

def test_reference_lists_the_public_names_in_their_order(pages):
    seen = 0
    for f, _, page, public in modules():
        defined = [n.name for n in public]
        entries = re.findall(r'^### `(\w+)` \{#api-', '\n'.join(map(text, pages[page])), re.M)
        assert [e for e in entries if e in defined] == defined, f
        seen += len(defined)
    assert seen > 50

# ---- what each parameter means ----

def explained():
    "Every public function, class and method, with its parameters as the reference shows them."
    for module in pages_of_modules():
        notes = comments(parsed(module)[1])
        for name, node in public_of(module):
            if isinstance(node, ast.Assign): continue
            yield module, name, rows_of(node, notes, name)
            for m in members(module, node) if isinstance(node, ast.ClassDef) else []:
                yield module, f'{name}.{m.name}', rows_of(m, notes, f'{name}.{m.name}')

def test_reference_says_what_every_parameter_of_a_public_name_means():
    empty, seen = [], 0
    for module, owner, rows in explained():
        for name, _, _, note in rows:
            if name == 'returns': continue
            seen += 1
            if len(note) < 2: empty.append(f'{module}.{owner}: {name}')
    assert seen > 500 and not empty

def test_shared_meanings_are_all_in_use():
    "A word of the table that no parameter takes is old."
    said = {note for _, _, rows in explained() for _, _, _, note in rows}
    assert [key for key, note in MEANINGS.items() if note not in said] == []

def test_public_constants_say_something():
    empty = [f'{module}.{name}' for module in pages_of_modules()
             for name, node in public_of(module) if isinstance(node, ast.Assign)
             and not {node.lineno, node.end_lineno} & comments(parsed(module)[1]).keys()
             and len(ast.unparse(node.value)) > REFERENCE_WIDTH]
    assert not empty

@pytest.mark.parametrize('name', ['SparseCoder', 'fista'])
def test_help_says_what_each_parameter_means(name):
    "In Python's own help, for the two names that most programs meet first."
    import inspect
    import deep_sparse_nb
    thing = getattr(deep_sparse_nb, name)
    taken = list(inspect.signature(thing).parameters)
    listed = inspect.getdoc(thing).split('Parameters:')[1]
    assert re.findall(r'^    (\w+): \S', listed, re.M) == taken

def test_what_a_function_returns_is_no_meaning_of_its_last_parameter():
    text = 'def f(x: int, y: int) -> int: # the sum\n    pass\n'
    rows = rows_of(ast.parse(text).body[0], comments(text), 'f')
    assert [row[3] for row in rows if row[0] in 'xy'] == [MEANINGS[n] for n in ('x', 'y')]
    assert rows[-1][0] == 'returns' and rows[-1][3] == 'the sum'

def test_index_lists_every_public_name_from_a_to_z(pages):
    listed = re.findall(r'^\[`(\w+)`\]\(\S+#api-', '\n'.join(map(text, pages['reference.ipynb'])),
                        re.M)
    names = [name for module in pages_of_modules() for name, _ in public_of(module)]
    assert sorted(listed, key=str.lower) == listed and sorted(listed) == sorted(names)
    assert len(listed) > 100

# ---- figures, lines, tables ----

def pictures(cells):
    return [c for c in code_cells(cells)
            if any(set(o.get('data', {})) & IMAGES for o in c['outputs'])]

def test_every_figure_has_caption_and_alternative(pages):
    "And is one picture: a cell that also returns its figure shows it twice."
    troubles, seen = [], 0
    for page, cells in pages.items():
        for c in pictures(cells):
            seen += 1
            count = sum(bool(set(o.get('data', {})) & IMAGES) for o in c['outputs'])
            assert count == 1, f'{page}: {option(c, "label")} has {count} pictures'
            lacking = [o for o in ['fig-cap', 'fig-alt'] if len(option(c, o)) < 10]
            if not option(c, 'label').startswith('fig-'): lacking.append('label')
            which = option(c, 'label') or c['id']
            if lacking: troubles.append(f'{page}: {which} has no {lacking}')
    assert seen > 10
    assert not troubles

def test_no_line_of_code_is_wider_than_the_page(pages):
    troubles, seen = [], 0
    for page, cells in pages.items():
        blocks = [shown_code(c) for c in code_cells(cells) if option(c, 'echo') != 'false']
        blocks += [b for c in cells if c['cell_type'] == 'markdown'
                   for b in re.findall(r'```\w*\n(.*?)```', text(c), re.S)]
        for line in (line for b in blocks for line in b.splitlines()):
            seen += 1
            if len(line) > WIDEST: troubles.append(f'{page}: {line}')
    assert seen > 1000
    assert not troubles

def outputs(cells):
    "What the cells show as markup."
    return [''.join(o['data'].get(kind, '')) for c in code_cells(cells) for o in c['outputs']
            if 'data' in o for kind in ('text/html', 'text/markdown')]

def test_no_table_shows_what_only_a_program_reads(pages):
    raw = re.compile(r'\s*(?:nan|none|true|false|<na>|\{.*\}|[a-z]\w*_\w+)\s*', re.I | re.S)
    troubles, seen = [], 0
    for page, cells in pages.items():
        for shown in outputs(cells):
            for cell in re.findall(r'<t[dh][^>]*>(.*?)</t[dh]>', shown, re.S):
                seen += 1
                if raw.fullmatch(cell):
                    troubles.append(f'{page}: a table says {cell}')
    assert seen > 10
    assert not troubles

def test_formulas_use_only_what_their_page_defines(pages):
    "An unknown command is shown as it is written, in red."
    undefined, seen = [], 0
    for page, cells in pages.items():
        prose = '\n'.join(text(c) for c in cells if c['cell_type'] == 'markdown')
        prose = re.sub(r'```.*?```|`[^`]*`', '', prose, flags=re.S)
        defined = set(re.findall(r'\\newcommand\{\\(\w+)\}', prose))
        for formula in re.findall(r'\$\$?([^$]+)\$', prose):
            used = set(re.findall(r'\\([yYzZxDWbEUS])(?![a-zA-Z])', formula))
            seen += len(used)
            undefined += [f'{page}: {name} in {formula}' for name in used - defined]
    assert seen > 100 and not undefined

# ---- what a reader may copy, or reads without JavaScript ----

def snippets(source, language):
    return re.findall(rf'^```{language}\n(.*?)^```$', source, re.S | re.M)

def prose(path):
    "The Markdown of a page, without that of other pages."
    return '\n\n'.join(text(c) for c in json.loads(path.read_text(encoding='utf-8'))['cells']
                       if c['cell_type'] == 'markdown')

# What a page has at hand where its snippet stands. The others begin from nothing.
AT_HAND = {
    'more/worked_example.ipynb': """
from functools import partial
import numpy as np
from deep_sparse_nb import SparseCoder
SparseCoder = partial(SparseCoder, max_epochs=1)
np.save('activations.npy', np.random.default_rng(0).normal(size=(300, 32)))
""",
    'data/arrays.ipynb': """
import numpy as np
from deep_sparse_nb.data.arrays import batches
X = np.ones((1000, 4))
""",
    'more/explore.ipynb': """
import torch
from deep_sparse_nb.data.datasets import Dataset, Split
from deep_sparse_nb.explore import explore
from deep_sparse_nb.paper.recipes import recipe
from deep_sparse_nb.training import Autoencoder
few = Split(torch.rand(4, 784), scale=1., shift=0.)
model, digits = Autoencoder.from_recipes(recipe('mnist', 'VDL', .01)), Dataset('few', few, few, few)
""",
    'book/10_estimator.ipynb': """
from sklearn.datasets import load_digits
X = load_digits().data[:200]
"""}
NOTEBOOKS = sorted(f.relative_to(ROOT/'nbs') for f in (ROOT/'nbs').rglob('*.ipynb'))
PYTHON = [pytest.param(AT_HAND.get(str(f), '') + block, id=f'{f} {i}',
                       marks=[pytest.mark.slow]*('.fit(' in block)) for f in NOTEBOOKS
          for i, block in enumerate(snippets(prose(ROOT/'nbs'/f), 'python'))]

@pytest.mark.parametrize('block', PYTHON)
def test_python_on_pages_runs_as_it_stands(tmp_path, block, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, 'page', 'exec'), dict(__name__='__main__'))

# Shell commands are understood, but not run: they install, download MNIST or train for hours.
SHELL = [(str(f), block) for f in [*(Path('nbs')/f for f in NOTEBOOKS), Path('README.md')]
         for language in ('bash', 'sh') for block in snippets(
             prose(ROOT/f) if f.suffix == '.ipynb' else (ROOT/f).read_text(encoding='utf-8'),
             language)]

@pytest.mark.parametrize('page, block', SHELL, ids=[f for f, _ in SHELL])
def test_shell_on_pages_is_understood(page, block):
    "Bash reads it, each `deep-sparse` has its options, and each `make` knows what it would do."
    from deep_sparse_nb.__main__ import _parser
    assert subprocess.run(['bash', '-n'], input=block, text=True).returncode == 0
    for line in block.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ['deep-sparse']: _parser().parse_args(words[1:])
        if 'deep_sparse_nb' in words:
            _parser().parse_args(words[words.index('deep_sparse_nb') + 1:])
        if words[:1] == ['make']:
            done = subprocess.run([*words, '-n'], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

def test_pieces_that_move_say_what_they_show_without_moving(pages):
    seen = 0
    for page, cells in pages.items():
        for c in (c for c in cells if c['cell_type'] == 'markdown'):
            for piece in re.findall(r'<div data-widget=.*?</div>', text(c), re.S):
                still = re.search(r'<p class="w-still">(.*?)</p>', piece, re.S)
                seen += 1
                assert still and len(still[1]) > 60, f'{page}: {piece}'
    assert seen > 4

# ---- links to places within pages ----

def anchors(cells):
    whole = '\n'.join(text(c) for c in cells if c['cell_type'] == 'markdown')
    prose = re.sub(r'```.*?```', '', whole, flags=re.S)
    found = {anchor(h) for h in re.findall(r'^#{1,6}\s+(.*?)\s*$', prose, re.M)}
    found |= {option(c, 'label') for c in code_cells(cells)}
    return found | set(re.findall(r'(?:\{#|\bid=")([\w.-]+)', whole))

def test_links_lead_to_places_that_exist(pages):
    places = {page: anchors(cells) for page, cells in pages.items()}
    dead, seen = [], 0
    for page, cells in pages.items():
        shown = [text(c) for c in cells if c['cell_type'] == 'markdown']
        for s in shown + outputs(cells):
            prose = re.sub(r'```(?!\{=html\}).*?```', '', s, flags=re.S)
            for target in re.findall(r'(?:\]\(|\bhref=")([^)\s:"]*#[^)\s"]+)', prose):
                path, at = target.split('#')
                where = os.path.normpath(f'{os.path.dirname(page) or "."}/{path}') if path else page
                if not where.endswith('.ipynb'): continue
                seen += 1
                if at not in places.get(where, ()): dead.append(f'{page}: nothing at {target}')
    assert seen > 10 and not dead

# ---- search ----

LOOKED_FOR = {
    'denoise my photo': 'howto/denoise.html', 'load pretrained model': 'howto/stored_model.html',
    'SparseCoder parameters': 'book/estimator.html#api-SparseCoder', 'install': 'index.html',
    'lambda': 'glossary.html', 'missing values': 'howto/missing_values.html',
    'use a GPU': 'howto/gpu.html', 'onnx': 'howto/export.html',
    'my own data': 'howto/your_own_data',
    'larger than memory': 'howto/large_data.html', 'reproduce the paper': 'howto/reproduce.html',
    'fista': 'book/inference.html#api-fista'}

@pytest.fixture(scope='module')
def index(): return entries()

@pytest.mark.skipif(not shutil.which('node'), reason='needs Node.js')
def test_search_finds_what_people_look_for(index, tmp_path):
    (tmp_path/'index.json').write_text(json.dumps(index), encoding='utf-8')
    script = (ROOT/'nbs'/'_assets'/'search.js').read_text(encoding='utf-8') + '''
const [index, queries] = process.argv.slice(2).map(text => JSON.parse(text))
const all = JSON.parse(require('fs').readFileSync(index))
console.log(JSON.stringify(queries.map(q => ranked(q, all, 3).map(found => found.item.href))))'''
    (tmp_path/'search.cjs').write_text(script, encoding='utf-8')
    told = [json.dumps(str(tmp_path/'index.json')), json.dumps([*LOOKED_FOR])]
    done = subprocess.run(['node', tmp_path/'search.cjs', *told], capture_output=True, text=True,
                          check=True)
    found = dict(zip(LOOKED_FOR, json.loads(done.stdout)))
    assert not {q: hits for q, hits in found.items()
                if not any(hit.startswith(LOOKED_FOR[q]) for hit in hits)}

def test_sidebar_and_page_give_a_page_one_name():
    written = (ROOT/'nbs'/'_quarto.yml').read_text(encoding='utf-8')
    named = re.findall(r'- text: (.+)\n\s+(?:file|href): (\S+\.ipynb)', written)
    assert len(named) > 4
    cells = {page: json.loads((ROOT/'nbs'/page).read_text(encoding='utf-8'))['cells']
             for _, page in named if page != 'index.ipynb'}
    titles = {page: text(first[0]).splitlines()[0] for page, first in cells.items()}
    assert titles == {page: f'# {name}' for name, page in named if page in cells}

def test_no_room_is_left_where_a_page_defines_its_symbols(tmp_path):
    macros = r'<span class="math inline">\(\newcommand{\y}{y}\)</span>'
    (tmp_path/'page.html').write_text(f'<p>{macros}\nBlue is <em>given</em>.</p>', encoding='utf-8')
    tidy(tmp_path, '/')
    assert (tmp_path/'page.html').read_text() == f'<p>{macros}Blue is <em>given</em>.</p>'

def test_search_looks_through_prose_and_names(index):
    assert len({entry['objectID'] for entry in index}) == len(index) > 500
    whole = ' '.join(entry['text'] for entry in index)
    assert 'variance regularization' in whole and 'import torch' not in whole
    assert '$$' not in whole and '```' not in whole

# ---- the processors themselves ----

SETTINGS = """[DEFAULT]
lib_name = small
user = u
lib_path = small
nbs_path = nbs
doc_path = _docs
git_url = https://example.org/u/small
branch = main
repo = small
"""
HALF = """def half(x: float, # a number
         by: int = 2, # its divisor, not 0
         ) -> float: # the quotient
    "A part of `x`, with x*y left alone. Raises ValueError where by is 0."
    return x/by
"""
DOT = ('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA'
       'AABJRU5ErkJggg==')

def small_notebook():
    shown = dict(output_type='display_data', metadata={}, data={'image/png': DOT})
    code = ['#| default_exp core', '#| export\nimport os', '#| export\n' + HALF,
            '#| exporti\ndef _aside(): pass', 'plot()', 'assert half(4) == 2', 'half(3)']
    cells = [dict(cell_type='code', source=s, outputs=[shown]*(s == 'plot()'), metadata={},
                  execution_count=1, id=f'{i:08}') for i, s in enumerate(code)]
    prose = ['# Core\n\n> Small.', 'Use `half` and `half` again, not `unknown`.']
    title, last = (dict(cell_type='markdown', source=s, metadata={}, id=s[:2]*4) for s in prose)
    return dict(cells=[title, *cells, last], metadata={}, nbformat=4, nbformat_minor=5)

def test_processor_folds_what_supports_and_shows_what_teaches(tmp_path):
    "On a small project: what is folded, what is linked, and the reference that it gets."
    for f in ['nbs', 'small']: (tmp_path/f).mkdir()
    ours = [line for line in (ROOT/'settings.ini').read_text(encoding='utf-8').splitlines()
            if line.startswith(('procs', 'skip_procs'))]
    (tmp_path/'settings.ini').write_text(SETTINGS + '\n'.join(ours))
    module = f"__all__ = ['half']\n\n{HALF}\ndef _aside(): pass\n"
    (tmp_path/'small'/'core.py').write_text(module)
    (tmp_path/'nbs'/'00_core.ipynb').write_text(json.dumps(small_notebook()))
    process = 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=0, force=True)'
    run(process, cwd=tmp_path, path=ROOT)
    made = json.loads((tmp_path/'_proc'/'00_core.ipynb').read_text())['cells']
    summary = {shown_code(c).split('(')[0]: option(c, 'code-summary') for c in code_cells(made)}
    assert summary == {'import os': 'Imports', 'def half': '', 'def _aside': 'Helper: _aside',
                       'plot': 'Plotting code', 'assert half': 'Check', 'half': ''}
    prose = '\n'.join(text(c) for c in made if c['cell_type'] == 'markdown')
    assert '[`half`](#api-half) and `half` again, not `unknown`' in prose
    assert r'A part of `x`, with x\*y left alone' in prose and '_aside' not in prose
    rows = [re.findall(r'<td>(.*?)</td>', row) for row in re.findall(r'<tr>(.*?)</tr>', prose)]
    assert ['<code>x</code>', '<code>float</code>', '', 'a number'] in rows
    assert ['<code>by</code>', '<code>int</code>', '<code>2</code>', 'its divisor, not 0'] in rows
    assert ['<em>returns</em>', '<code>float</code>', '', 'the quotient'] in rows
    assert 'https://example.org/u/small/blob/main/small/core.py#L3-L7' in prose
