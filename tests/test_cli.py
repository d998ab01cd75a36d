"The program as other programs use it: stdout, exit codes, and what an interruption leaves."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from safetensors import safe_open
from safetensors.torch import save_file

from deep_sparse_nb import __version__
from deep_sparse_nb.__main__ import main, _parser
from deep_sparse_nb.checkpoints import restore
from deep_sparse_nb.files import lock
from deep_sparse_nb.paper.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]
KEYS = {'model', 'dataset', 'lam', 'seed', 'epochs_run', 'best_epoch', 'test_psnr',
        'test_sparsity', 'seconds', 'device'}

def command(*words): return [sys.executable, '-m', 'deep_sparse_nb', *map(str, words)]

def call(*words, **env):
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300,
                          env=os.environ | env)

def here(capfd, *words):
    "The exit code and stdout of the program in this process, which has imported PyTorch."
    capfd.readouterr()
    code = main([*map(str, words)])
    return code, capfd.readouterr().out.splitlines()

@pytest.mark.slow
def test_train_resume_evaluate(tmp_path, capfd):
    out = tmp_path/'run'
    first = call('train', '--dataset', 'digits', '--model', 'VDL', '--lam', .005, '--lam', .02,
                 '--seed', 0, '--epochs', 1, '--device', 'cpu', '--out', out)
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert first.returncode == 0 and [(r['lam'], r['seed']) for r in rows] == [(.005, 0), (.02, 0)]
    for r in rows:
        assert KEYS <= set(r) and r['epochs_run'] == r['best_epoch'] == 1
        assert r['dataset'] == 'digits' and r['device'] == 'cpu'
        assert Path(r['atoms']).is_file() and 0 <= r['test_sparsity'] <= 1
    assert 'batch' in first.stderr                                       # the progress bar
    code, again = here(capfd, 'evaluate', out, '--device', 'cpu')
    assert code == 0 and [json.loads(line) for line in again] == rows
    code, more = here(capfd, 'train', '--resume', out, '--epochs', 2, '--device', 'cpu')
    assert code == 0 and [json.loads(line)['epochs_run'] for line in more] == [2]*2

@pytest.mark.slow
def test_sweeps_run_one_after_the_other(tmp_path, capfd):
    small = ['--model', 'VDL', '--lam', .02, '--seeds', 1, '--epochs', 1, '--device', 'cpu',
             '--results', tmp_path/'results', '--runs', tmp_path/'runs']
    done = call('sweep', 'digits', 'digits', *small)
    rows = [json.loads(line) for line in done.stdout.splitlines()[-2:]]
    assert done.returncode == 0 and [(r['grid'], r['left']) for r in rows] == [('digits', 0)]*2
    code, late = here(capfd, 'sweep', 'digits', 'digits', '--minutes', 1e-9, *small)
    assert code == 0 and [json.loads(line)['left'] for line in late[-2:]] == [None]*2
    with pytest.raises(SystemExit, match='2'): here(capfd, 'sweep', 'digits', 'digts', *small)

@pytest.mark.slow
def test_ctrl_c_leaves_a_resumable_checkpoint(tmp_path, capfd):
    out = tmp_path/'run'
    words = ['train', '--dataset', 'digits', '--model', 'VDL', '--lam', .02, '--epochs', 10_000,
             '--device', 'cpu', '--out', out]
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)   # a runner may ignore it
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, preexec_fn=listen)
    deadline = time.monotonic() + 120
    done = out/'checkpoint.safetensors'
    while not done.exists() or restore(done).epoch < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stdout == ''
    assert 'resumed' in stderr and 'Traceback' not in stderr
    done = restore(done).epoch
    code, (row,) = here(capfd, 'train', '--resume', out, '--epochs', done + 1, '--device', 'cpu')
    assert code == 0 and json.loads(row)['epochs_run'] == done + 1

def test_missing_mnist_names_the_ways_out(tmp_path, monkeypatch, capfd):
    for name in ('http_proxy', 'https_proxy'): monkeypatch.setenv(name, 'http://127.0.0.1:9')
    assert main([*map(str, ['train', '--dataset', 'mnist', '--model', 'VDL', '--lam', .02,
                            '--data-dir', tmp_path, '--out', tmp_path/'run'])]) == 1
    stdout, stderr = capfd.readouterr()
    assert 'DEEP_SPARSE_DATA' in stderr and stdout == ''

def test_a_run_is_not_overwritten(tmp_path, capfd):
    words = ['train', '--dataset', 'digits', '--model', 'DO', '--lam', '.02', '--epochs', '1',
             '--device', 'cpu', '--out', str(tmp_path/'run')]
    assert main(words) == 0
    before = (tmp_path/'run'/'checkpoint.safetensors').read_bytes()
    assert main(words) == 1 and '--resume' in capfd.readouterr().err
    assert (tmp_path/'run'/'checkpoint.safetensors').read_bytes() == before

def test_installed_program_is_the_module():
    program = Path(sys.executable).with_name('deep-sparse')
    done = subprocess.run([program, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == call('--help').stdout

# ---- what may go wrong ----

SMALL = ['train', '--dataset', 'digits', '--model', 'SDL', '--lam', '.02', '--epochs', '1',
         '--device', 'cpu', '--quiet']

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A folder with a run of one epoch."
    out = tmp_path_factory.mktemp('trained')/'run'
    assert main([*SMALL, '--out', str(out)]) == 0
    return out

def one_line(stderr):
    "The complaint, without the progress that came before."
    told = [line for line in stderr.splitlines() if line.startswith('deep-sparse')]
    assert 'Traceback' not in stderr and len(told) == 1, stderr
    return told[0]

def test_version(capsys):
    with pytest.raises(SystemExit) as stop: main(['--version'])
    assert stop.value.code == 0 and capsys.readouterr().out == f'deep-sparse {__version__}\n'

@pytest.mark.parametrize('words', [
    ['--lam', '.5'], ['--seed', '3'], ['--model', 'SDL'], ['--out', 'elsewhere'], ['--beta', '3'],
    ['--dataset', 'digits'], ['--encoder'], ['--lr-decoder', '1e-3'], ['--batch', '10']])
def test_resume_refuses_what_it_cannot_change(words, trained, capsys):
    before = (trained/'checkpoint.safetensors').read_bytes()
    with pytest.raises(SystemExit) as stop: main(['train', '--resume', str(trained), *words])
    assert stop.value.code == 2 and f'cannot change {words[0]}' in capsys.readouterr().err
    assert (trained/'checkpoint.safetensors').read_bytes() == before

def test_every_field_of_a_recipe_is_an_option(tmp_path):
    words = ['--T', '.25', '--l', '32', '--step', '.2', '--no-encoder', '--unit-columns',
             '--batch', '100']
    assert main([*SMALL, *words, '--out', str(tmp_path)]) == 0
    r = restore(tmp_path/'checkpoint.safetensors').model.shared
    assert (r.T, r.l, r.step, r.encoder, r.unit_columns, r.batch) == (.25, 32, .2, False, True, 100)
    options = _parser().parse_args([*SMALL, '--out', 'x'])
    assert {f.name for f in fields(Recipe)} <= set(vars(options))

def test_an_unforeseen_error_is_one_line_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('deep_sparse_nb.cli.commands.train', lambda *a, **k: {}['something\nodd'])
    assert main([*SMALL, '--out', str(tmp_path)]) == 1
    assert one_line(capsys.readouterr().err).startswith('deep-sparse: KeyError')
    monkeypatch.setenv('DEEP_SPARSE_TRACEBACK', '1')
    with pytest.raises(KeyError): main([*SMALL, '--out', str(tmp_path), '--lam', '.03'][:-2])

@pytest.mark.parametrize('given, seen', [
    ({}, '5000'), (dict(GOMP_SPINCOUNT='7'), '7'), (dict(OMP_WAIT_POLICY='ACTIVE'), None)])
def test_threads_of_a_program_soon_sleep(given, seen, monkeypatch):
    for name in ('MPLBACKEND', 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'):
        monkeypatch.setenv(name, '')                         # as it was, after the test
        monkeypatch.delenv(name)
    for name, value in given.items(): monkeypatch.setenv(name, value)
    monkeypatch.setattr('sys.argv', ['deep-sparse', 'report'])
    found = []
    monkeypatch.setattr('deep_sparse_nb.__main__._perform',
                        lambda args: found.append(os.environ.get('GOMP_SPINCOUNT')))
    assert main() == 0 and found == [seen]

@pytest.mark.slow
@pytest.mark.skipif(not Path('/dev/full').exists(), reason='has no /dev/full')
@pytest.mark.parametrize('words', [['report', '--results', 'results'], ['evaluate']])
def test_results_meet_a_full_disk(words, trained):
    more = [trained, '--device', 'cpu'] if words == ['evaluate'] else []
    (trained/'atoms.png').unlink(missing_ok=True)
    with open('/dev/full', 'w') as full:
        done = subprocess.run(command(*words, *more), stdout=full, stderr=subprocess.PIPE,
                              text=True, cwd=ROOT)
    assert done.returncode == 1 and 'stdout takes no more' in one_line(done.stderr)
    assert (trained/'atoms.png').exists() == (words == ['evaluate'])     # which stderr has named
    assert 'Exception ignored' not in done.stderr

def test_results_meet_a_closed_pipe():
    process = subprocess.Popen(command('report', '--results', 'results'), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=ROOT)
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait() == 1 and 'what was made is kept' in one_line(stderr)
    assert 'Exception ignored' not in stderr

@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='has no such limit')
def test_a_full_disk_while_training_keeps_the_last_epoch(trained, tmp_path):
    "The limit lets no file grow beyond 50 kB, and a checkpoint is larger."
    shutil.copytree(trained, tmp_path/'run')
    before = (tmp_path/'run'/'checkpoint.safetensors').read_bytes()
    assert len(before) > 50_000
    import resource
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    words = ['train', '--resume', tmp_path/'run', '--epochs', 3, '--device', 'cpu', '--quiet']
    env = os.environ | dict(DEEP_SPARSE_KERNEL='plain')          # no machine code to store
    done = subprocess.run(command(*words), capture_output=True, text=True, preexec_fn=limit,
                          env=env)
    assert done.returncode == 1 and 'is as it was before' in one_line(done.stderr)
    assert (tmp_path/'run'/'checkpoint.safetensors').read_bytes() == before
    assert restore(tmp_path/'run'/'checkpoint.safetensors').epoch == 1

def test_a_second_process_is_refused(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path/'run')
    words = ['train', '--resume', str(tmp_path/'run'), '--epochs', '2', '--device', 'cpu']
    with lock(tmp_path/'run'/'checkpoint.lock', wait=False) as mine:
        assert mine and main(words) == 1
    assert 'another process' in one_line(capsys.readouterr().err)
    assert restore(tmp_path/'run'/'checkpoint.safetensors').epoch == 1

@pytest.mark.parametrize('damage', ['truncated', 'empty', 'foreign', 'newer', 'no metadata'])
def test_damaged_checkpoints_are_told_and_kept(damage, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path/'run')
    path = tmp_path/'run'/'checkpoint.safetensors'
    whole = path.read_bytes()
    if damage == 'newer':
        with safe_open(path, 'pt') as file:
            about = json.loads(file.metadata()['run']) | dict(version=99)
        save_file({'a': torch.zeros(1)}, path, {'run': json.dumps(about)})
    elif damage == 'no metadata': save_file({'a': torch.zeros(1)}, path)
    else:
        damaged = dict(truncated=whole[:-100], empty=b'', foreign=b'not a checkpoint')
        path.write_bytes(damaged[damage])
    before = path.read_bytes()
    for words in (['train', '--resume'], ['evaluate']):
        assert main([*words, str(tmp_path/'run'), '--device', 'cpu']) == 1
        assert 'checkpoint.safetensors' in one_line(capsys.readouterr().err)
    assert path.read_bytes() == before

@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='has no /proc')
def test_works_without_a_home_and_a_cache(trained):
    nowhere = {k: '/proc/nowhere' for k in (
        'HOME', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'MPLCONFIGDIR', 'NUMBA_CACHE_DIR')}
    done = call('evaluate', trained, '--device', 'cpu', **nowhere)
    assert done.returncode == 0 and json.loads(done.stdout)['epochs_run'] == 1, done.stderr

# ---- files of your own ----

@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    "A folder with an array, a model of it, and its codes."
    folder = tmp_path_factory.mktemp('learned')
    rng = np.random.default_rng(0)
    strengths = 100*rng.random((400, 8))*(rng.random((400, 8)) < .3)
    np.save(folder/'X.npy', strengths @ rng.random((8, 16)))
    words = ['--components', '12', '--target-sparsity', '.6', '--epochs', '3', '--quiet']
    assert main(['fit', str(folder/'X.npy'), *words, '--device', 'cpu',
                 '--out', str(folder/'model')]) == 0
    assert main(['encode', str(folder/'model'), str(folder/'X.npy'), '--device', 'cpu',
                 '--out', str(folder/'Z.npy')]) == 0
    return folder

def test_fit_encode_decode(learned, tmp_path, capsys):
    from deep_sparse_nb import SparseCoder
    coder, X = SparseCoder.from_pretrained(learned/'model', device='cpu'), np.load(learned/'X.npy')
    Z = np.load(learned/'Z.npy')
    assert Z.shape == (400, 12) and np.allclose(Z, coder.transform(X), rtol=1e-4, atol=1e-6)
    assert main(['decode', str(learned/'model'), str(learned/'Z.npy'), '--device', 'cpu',
                 '--out', str(tmp_path/'Y.npy')]) == 0
    assert json.loads(capsys.readouterr().out)['shape'] == [400, 16]
    Y = np.load(tmp_path/'Y.npy')
    assert np.allclose(Y, coder.inverse_transform(Z), rtol=1e-4, atol=1e-4)

def test_what_was_trained_is_a_model(trained, tmp_path, capsys):
    "The folder of a run encodes pixels as its weights encode the scaled images."
    from deep_sparse_nb import SparseCoder, load
    split, model = load('digits').test, restore(trained/'checkpoint.safetensors').best_model()
    np.save(tmp_path/'X.npy', split.to_pixels(split.images)[:20])
    assert main(['encode', str(trained), str(tmp_path/'X.npy'), '--device', 'cpu', '--out',
                 str(tmp_path/'Z.npy')]) == 0
    expected = model.eval().encode(split.images[:20])[0].detach().numpy()
    np.testing.assert_allclose(np.load(tmp_path/'Z.npy'), expected, atol=1e-4)
    history = (trained/'history.csv').read_text().splitlines()
    assert len(history) == 2 and (trained/'curves.png').is_file()
    capsys.readouterr()
    assert main(['models', str(trained.parent)]) == 0
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert told['model'] == str(trained) and told['encoder'] == 'lista'
    assert told['data_deviation'] == pytest.approx(split.scale, rel=1e-6)
    assert SparseCoder.from_pretrained(trained).metrics_['held_out']

def test_models_that_come_along_are_listed(tmp_path, capsys):
    from deep_sparse_nb.pretrained import models
    assert main(['models']) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row['model'] for row in told] == models() and all(row['components'] for row in told)
    assert main(['models', str(tmp_path)]) == 1 and 'no model' in one_line(capsys.readouterr().err)

@pytest.mark.parametrize('kind', ['npz', 'csv', 'named.csv'])
def test_fit_takes_other_files(kind, learned, tmp_path, capsys):
    from deep_sparse_nb import SparseCoder
    X, path = np.load(learned/'X.npy'), tmp_path/f'X.{kind}'
    if kind == 'npz': np.savez(path, X)
    else: np.savetxt(path, X, delimiter=',', comments='', fmt='%.17g',
                     header=','.join(map('c{}'.format, range(16))) if 'named' in kind else '')
    if kind == 'csv': path.write_text(path.read_text().lstrip('\n'))
    words = ['--components', '12', '--target-sparsity', '.6', '--epochs', '3', '--quiet']
    assert main(['fit', str(path), *words, '--device', 'cpu', '--out', str(tmp_path/'m')]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['held_out'] and told['rows'] == 40
    made, there = (SparseCoder.from_pretrained(folder, device='cpu')
                   for folder in (tmp_path/'m', learned/'model'))
    np.testing.assert_allclose(made.components_, there.components_, rtol=1e-5)
    assert hasattr(made, 'feature_names_in_') == (kind != 'npz')

def test_a_share_of_zeros_is_reached_from_the_shell(tmp_path, capsys):
    words = 'train --dataset digits --model VDL --lam .02 --epochs 6 --lr-decoder .003'
    target = ['--target-sparsity', '.7', '--device', 'cpu', '--quiet']
    assert main([*words.split(), *target, '--out', str(tmp_path/'run')]) == 0
    told = json.loads(capsys.readouterr().out)
    history = restore(tmp_path/'run'/'checkpoint.safetensors').history
    assert history[-1]['alpha'] != pytest.approx(.02, rel=.01)
    assert abs(told['test_sparsity'] - .7) < abs(history[0]['valid_sparsity'] - .7)

def test_a_model_is_not_overwritten(learned, capsys):
    before = {p.name: p.read_bytes() for p in (learned/'model').iterdir()}
    assert main(['fit', str(learned/'X.npy'), '--out', str(learned/'model')]) == 1
    assert 'there already' in one_line(capsys.readouterr().err)
    assert before == {p.name: p.read_bytes() for p in (learned/'model').iterdir()}

def test_pictures_are_cleaned_and_filled(tmp_path, capsys):
    pytest.importorskip('deep_sparse_nb.pictures')
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(36.), np.arange(40.))*2 + 40
    Image.fromarray((smooth + rng.normal(0, 20, smooth.shape)).clip(0, 255).astype('uint8')).save(
        tmp_path/'noisy.png')
    words = ['mnist-vdl', str(tmp_path/'noisy.png'), '--device', 'cpu']
    assert main(['denoise', *words, '--sigma', '20', '--out', str(tmp_path/'clean.png')]) == 0
    clean = np.asarray(Image.open(tmp_path/'clean.png'))
    assert clean.shape == smooth.shape and clean.dtype == np.uint8
    mask = np.zeros(smooth.shape, bool)
    mask[10:14, 20:25] = True
    Image.fromarray(mask).save(tmp_path/'mask.png')
    out = ['--mask', str(tmp_path/'mask.png'), '--out', str(tmp_path/'filled.png')]
    assert main(['inpaint', *words, *out]) == 0
    noisy, filled = (np.asarray(Image.open(tmp_path/f'{n}.png')) for n in ('noisy', 'filled'))
    assert np.array_equal(noisy[~mask], filled[~mask]) and not np.array_equal(noisy, filled)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])['filled'] == mask.sum()


def noisy_picture():
    clean = np.add.outer(np.arange(36.), np.arange(40.))*2 + 40
    pixels = clean[..., None] + np.random.default_rng(0).normal(0, 20, (*clean.shape, 3))
    return clean, Image.fromarray(pixels.clip(0, 255).astype('uint8'))


def test_a_picture_is_cleaned_by_what_it_teaches(tmp_path, capsys):
    clean, noisy = noisy_picture()
    noisy.save(tmp_path/'noisy.png')
    words = [str(tmp_path/'noisy.png'), '--out', str(tmp_path/'clean.png')]
    assert main(['denoise', '--learn', *words]) == 0
    assert '"sigma": ' in capsys.readouterr().out
    made = np.asarray(Image.open(tmp_path/'clean.png')).astype(float)
    before = np.asarray(noisy).astype(float)
    error = [np.square(x - clean[..., None]).mean() for x in (made, before)]
    assert error[0] < error[1]/5
    for wrong in (['denoise', *words], ['denoise', '--learn', 'digits', *words]):
        with pytest.raises(SystemExit): main(wrong)
    assert 'MODEL and a PICTURE, or --learn' in capsys.readouterr().err


@pytest.mark.parametrize('name, new, said', [
    ('alpha.png', 'new.png', ''), ('alpha.png', 'new.jpg', 'new.jpg cannot hold the transparency'),
    ('profile.png', 'new.png', ''), ('profile.png', 'new.ppm', 'cannot hold the colour profile'),
    ('date.jpg', 'new.jpg', ''), ('date.jpg', 'new.bmp', 'cannot hold the date'),
    ('pages.tif', 'new.tif', 'pages.tif has 3 frames; the first is taken')])
def test_what_is_no_pixel_is_kept_or_said(name, new, said, tmp_path, capsys):
    _, noisy = noisy_picture()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    alpha = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8)*6, (36, 1)))
    if name == 'alpha.png':
        noisy.putalpha(alpha)
        noisy.save(tmp_path/name)
    elif name == 'profile.png': noisy.save(tmp_path/name, icc_profile=profile)
    elif name == 'pages.tif': noisy.save(tmp_path/name, save_all=True, append_images=[noisy]*2)
    else:
        exif = noisy.getexif()
        exif[306] = '2020:02:02 12:00:00'
        noisy.save(tmp_path/name, exif=exif)
    assert main(['denoise', '--learn', str(tmp_path/name), '--sigma', '20',
                 '--out', str(tmp_path/new)]) == 0
    err = capsys.readouterr().err
    made = Image.open(tmp_path/new)
    assert said in err and bool(said) == bool(err)
    if said: return
    if name == 'alpha.png': assert (np.asarray(made)[..., 3] == np.asarray(alpha)).all()
    if name == 'profile.png': assert made.info['icc_profile'] == profile
    if name == 'date.jpg': assert made.getexif()[306] == '2020:02:02 12:00:00'


def test_a_mask_that_marks_nothing_is_refused(tmp_path, capsys):
    noisy_picture()[1].save(tmp_path/'a.png')
    Image.new('L', (40, 36)).save(tmp_path/'mask.png')
    words = [str(tmp_path/'a.png'), '--mask', str(tmp_path/'mask.png')]
    assert main(['inpaint', 'digits', *words, '--out', str(tmp_path/'new.png')]) == 1
    assert 'nowhere white' in one_line(capsys.readouterr().err)
