"The program as other programs use it: stdout, exit codes, and what an interruption leaves."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
import pytest
from deep_sparse_nb.__main__ import main
from deep_sparse_nb.paper import MODELS
from deep_sparse_nb.checkpoints import restore

KEYS = {'model', 'dataset', 'lam', 'seed', 'epochs_run', 'best_epoch', 'test_psnr', 'test_sparsity', 'seconds', 'device'}


def command(*words): return [sys.executable, '-m', 'deep_sparse_nb', *map(str, words)]


def call(*words, **env):
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, env=os.environ | env)


def test_train_resume_evaluate(tmp_path):
    out = tmp_path/'run'
    first = call('train', '--dataset', 'digits', '--model', 'VDL', '--lam', .005, '--lam', .02, '--seed', 0, '--epochs', 1, '--device', 'cpu', '--out', out)
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert first.returncode == 0 and [(r['lam'], r['seed']) for r in rows] == [(.005, 0), (.02, 0)]
    for r in rows:
        assert KEYS <= set(r) and r['epochs_run'] == r['best_epoch'] == 1 and r['dataset'] == 'digits' and r['device'] == 'cpu'
        assert Path(r['atoms']).is_file() and 0 <= r['test_sparsity'] <= 1
    assert 'batch' in first.stderr                                       # the progress bar
    again = call('evaluate', out, '--device', 'cpu')
    assert [json.loads(line) for line in again.stdout.splitlines()] == rows
    more = call('train', '--resume', out, '--epochs', 2, '--device', 'cpu')
    assert [json.loads(line)['epochs_run'] for line in more.stdout.splitlines()] == [2]*2


def test_sweeps_run_one_after_the_other(tmp_path):
    small = ['--model', 'VDL', '--lam', .02, '--seeds', 1, '--epochs', 1, '--device', 'cpu', '--results', tmp_path/'results', '--runs', tmp_path/'runs']
    done = call('sweep', 'digits', 'digits', *small)
    assert done.returncode == 0 and [(r['grid'], r['left']) for r in map(json.loads, done.stdout.splitlines()[-2:])] == [('digits', 0)]*2
    late = call('sweep', 'digits', 'digits', '--minutes', 1e-9, *small)
    assert late.returncode == 0 and [json.loads(line)['left'] for line in late.stdout.splitlines()[-2:]] == [None]*2
    assert call('sweep', 'digits', 'digts', *small).returncode == 2


def test_pictures_are_for_the_grids_of_patches(tmp_path, capfd):
    "One command runs them all, as `make results` does."
    small = ['--model', 'VDL', '--lam', .005, '--seeds', 1, '--epochs', 1, '--device', 'cpu']
    where = ['--results', tmp_path/'results', '--runs', tmp_path/'runs', '--images', tmp_path]
    main([*map(str, ['sweep', 'digits', *small, *where, '--quiet'])])
    assert json.loads(capfd.readouterr().out.splitlines()[-1])['left'] == 0


def test_ctrl_c_leaves_a_resumable_checkpoint(tmp_path):
    out = tmp_path/'run'
    process = subprocess.Popen(command('train', '--dataset', 'digits', '--model', 'VDL', '--lam', .02, '--epochs', 10_000, '--device', 'cpu', '--out', out),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))   # a runner in the background ignores it, and so would we
    deadline = time.monotonic() + 120
    while not (out/'checkpoint.safetensors').exists() or restore(out/'checkpoint.safetensors').epoch < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stdout == '' and 'resumed' in stderr and 'Traceback' not in stderr
    done = restore(out/'checkpoint.safetensors').epoch
    resumed = call('train', '--resume', out, '--epochs', done + 1, '--device', 'cpu')
    assert resumed.returncode == 0 and json.loads(resumed.stdout)['epochs_run'] == done + 1


@pytest.mark.parametrize('words, code, message', [
    (['train', '--dataset', 'cifar', '--model', 'VDL', '--lam', '1', '--out', 'x'], 2, 'digits'),
    (['train', '--dataset', 'digits', '--model', 'ABC', '--lam', '1', '--out', 'x'], 2, MODELS[-1]),
    (['fly'], 2, 'train'),
    (['train', '--dataset', 'digits', '--model', 'VDL', '--out', 'x'], 2, '--lam'),
    (['train', '--resume', 'nowhere'], 1, 'no checkpoint'),
    (['evaluate', 'nowhere'], 1, 'no checkpoint'),
    (['train', '--dataset', 'digits', '--model', 'VDL', '--lam', '-1', '--out', 'x'], 1, 'lam'),
    (['train', '--dataset', 'digits', '--model', 'VDL', '--lam', '1', '--out', 'x', '--epochs', '0'], 2, 'epochs'),
    (['train', '--dataset', 'patches', '--model', 'VDL', '--lam', '1', '--out', 'x'], 1, 'images')])
def test_bad_commands(words, code, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    try: found = main(words)
    except SystemExit as usage: found = usage.code
    stdout, stderr = capfd.readouterr()
    assert found == code and message in stderr and stdout == '' and 'Traceback' not in stderr
    assert not list(tmp_path.iterdir())


def test_missing_mnist_names_the_ways_out(tmp_path):
    done = call('train', '--dataset', 'mnist', '--model', 'VDL', '--lam', .02, '--out', tmp_path/'run', '--data-dir', tmp_path,
                http_proxy='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9')
    assert done.returncode == 1 and 'DEEP_SPARSE_DATA' in done.stderr and done.stdout == ''


def test_a_run_is_not_overwritten(tmp_path, capfd):
    words = ['train', '--dataset', 'digits', '--model', 'DO', '--lam', '.02', '--epochs', '1', '--device', 'cpu', '--out', str(tmp_path/'run')]
    assert main(words) == 0
    before = (tmp_path/'run'/'checkpoint.safetensors').read_bytes()
    assert main(words) == 1 and '--resume' in capfd.readouterr().err
    assert (tmp_path/'run'/'checkpoint.safetensors').read_bytes() == before


def test_installed_program_is_the_module():
    program = Path(sys.executable).with_name('deep-sparse')
    done = subprocess.run([program, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == call('--help').stdout
