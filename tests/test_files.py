"""Files are written whole or not at all, in places that were tried before the work began."""
import os
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from deep_sparse_nb.__main__ import main
from deep_sparse_nb.data.patches import open_picture
from deep_sparse_nb.files import _check_place, write_atomically

def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    old, young = tmp_path/'a.b.9999.new', tmp_path/'a.b.9998.new'
    other = tmp_path/'a.c.9999.new'
    for left in (old, young, other): left.touch()
    for left in (old, other): os.utime(left, (time.time() - 7200,)*2)
    write_atomically(tmp_path/'a.b', lambda fresh: fresh.write_text('whole'))
    assert {p.name for p in tmp_path.iterdir()} == {'a.b', young.name, other.name}

@pytest.mark.skipif(sys.platform == 'win32', reason='has no signals')
def test_a_program_asked_to_end_leaves_no_half_a_file(tmp_path):
    code = f'''
import sys, time
from pathlib import Path
import deep_sparse_nb.__main__ as program
from deep_sparse_nb.files import write_atomically
def write(fresh):
    fresh.write_text('hal')
    print('writing', flush=True)
    time.sleep(60)
program._perform = lambda args: write_atomically(Path({str(tmp_path)!r})/'a', write)
sys.argv = ['deep-sparse', 'report']
sys.exit(program.main())'''
    running = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == 'writing\n' and len(list(tmp_path.iterdir())) == 1
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 143 and not list(tmp_path.iterdir())

def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    (tmp_path/'there').write_text('kept')
    for path in ('there', 'new', 'folder/in/folder/new'): _check_place('out', tmp_path/path)
    assert [p.name for p in tmp_path.iterdir()] == ['there']
    assert (tmp_path/'there').read_text() == 'kept'

@pytest.mark.parametrize('name', ['gr\udcf6\udcdfe', 'file/model', 'a'*300])
@pytest.mark.parametrize('words', ['fit X.npy', 'encode digits X.npy', 'denoise --learn a.png'])
def test_a_place_that_takes_no_file_is_told_before_the_work(name, words, tmp_path, capsys,
                                                            monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'file').touch()
    for part in ('deep_sparse_nb.estimator', 'deep_sparse_nb.pictures'):
        monkeypatch.setitem(sys.modules, part, None)           # no work can be done
    assert main([*words.split(), '--out', name]) == 1
    assert '--out is ' in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ['file']

# ---- pictures ----

NOISY = np.random.default_rng(0).integers(0, 256, (36, 40)).astype(np.uint8)

@pytest.mark.parametrize('kind', ['text', 'profile', 'late text'])
def test_long_texts_and_profiles_are_no_reason_to_refuse(kind, tmp_path):
    limits = PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS
    notes = PngImagePlugin.PngInfo()
    if kind == 'text': notes.add_text('a', 'x'*3_000_000, zip=True)
    if kind == 'late text':                                    # after the pixels
        chunk = b'a\0\0' + zlib.compress(bytes(3_000_000))
        notes.add(b'zTXt', chunk, after_idat=True)
    profile = bytes(3_000_000) if kind == 'profile' else None
    Image.fromarray(NOISY).save(tmp_path/'a.png', pnginfo=notes, icc_profile=profile)
    assert np.array_equal(open_picture(tmp_path/'a.png'), NOISY)
    assert main(['denoise', '--learn', str(tmp_path/'a.png'), '--out', str(tmp_path/'b.png')]) == 0
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS)

def test_a_mask_with_transparency_is_refused(tmp_path, capsys):
    Image.fromarray(NOISY).save(tmp_path/'a.png')
    mask = np.full((36, 40, 4), 255, np.uint8)
    mask[..., :3] = 0
    mask[5:9, 5:9, 3] = 0                                      # erased: black, and a hole
    Image.fromarray(mask).save(tmp_path/'mask.png')
    words = ['inpaint', 'digits', 'a.png', '--mask', 'mask.png', '--out', 'b.png']
    assert main([w if '.png' not in w else str(tmp_path/w) for w in words]) == 1
    assert 'mask is transparent in places' in capsys.readouterr().err
    mask[..., 3], mask[5:9, 5:9] = 255, 255                    # an alpha channel of no use
    Image.fromarray(mask).save(tmp_path/'mask.png')
    assert main([w if '.png' not in w else str(tmp_path/w) for w in words]) == 0
    assert '"filled": 16' in capsys.readouterr().out
