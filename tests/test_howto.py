"""How-tos run by copying: what a page shows, pasted into an empty session, does what it says."""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT/'nbs'/'howto').glob('*.ipynb'))
NEEDS = {'export': ['onnx', 'onnxscript', 'onnxruntime']}       # beyond the library's own

def parts(page):
    "The cells of a page as (type, source)."
    cells = json.loads(page.read_text(encoding='utf-8'))['cells']
    return [(c['cell_type'], ''.join(c['source'])) for c in cells]

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_nothing_is_hidden(page):
    for kind, source in parts(page):
        hidden = re.findall(r'^#\|\s*(hide|echo|code-fold|include|eval|output)\b.*', source, re.M)
        assert kind != 'code' or not hidden, source

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_pages_are_short(page):
    "A screen or two: forty lines of code, more for an export; five hundred words."
    cells = parts(page)
    code = [line for kind, text in cells if kind == 'code' for line in text.splitlines()]
    words = ' '.join(text for kind, text in cells if kind == 'markdown').split()
    assert len(code) < 75 and len(words) < 500, (len(code), len(words))

def in_shell(page):
    "The lines that call `deep-sparse`, on files that the page makes, as lists of words."
    blocks = re.findall(r'^```bash\n(.*?)^```', '\n'.join(t for _, t in parts(page)), re.S | re.M)
    lines = [shlex.split(line, comments=True) for b in blocks for line in b.splitlines()]
    return [words[1:] for words in lines if words[:1] == ['deep-sparse']
            and words[1] in ('denoise', 'inpaint', 'fit', 'encode', 'decode', 'report', 'models')]

@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_what_is_copied_runs(page, tmp_path):
    for module in NEEDS.get(page.stem, []): pytest.importorskip(module)
    code = '\n'.join(source for kind, source in parts(page) if kind == 'code')
    here = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    how = dict(cwd=tmp_path, capture_output=True, text=True,
               env=os.environ | {'MPLBACKEND': 'agg', 'PYTHONPATH': here})
    done = subprocess.run([sys.executable, '-c', code], **how)
    assert done.returncode == 0, done.stderr
    for words in in_shell(page):
        if words[0] == 'report': words = [*words, '--results', str(ROOT/'results')]
        done = subprocess.run([sys.executable, '-m', 'deep_sparse_nb', *words], **how)
        assert done.returncode == 0, done.stderr
