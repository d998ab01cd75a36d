"""Killed at any moment, a training, a sweep or a fit goes on and ends as if nothing had been."""
import json
import multiprocessing as mp
import os
import random
import signal
import sys
import time
from functools import partial

import pytest
import torch

from deep_sparse_nb import files
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.checkpoints import contents, restore, save
from deep_sparse_nb.data.datasets import Dataset, Split
from deep_sparse_nb.energy import planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.paper.recipes import Recipe
from deep_sparse_nb.paper.results import read_table
from deep_sparse_nb.paper.sweeps import sweep
from deep_sparse_nb.training import Run, train

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='has no signals')
# imported once, by the server that processes are forked from; the first Adam imports the last
PRELOADED = ['deep_sparse_nb.paper.sweeps', 'deep_sparse_nb.estimator', 'pytest', 'torch._dynamo']
CONTEXT = mp.get_context('forkserver') if sys.platform != 'win32' else mp
STAGES = 'half', 'fsync', 'replace', 'replaced'
EPOCHS = 4

def bars():
    Y = planted(80, side=4, noise=.05)[0]
    parts = [Split(y, scale=1., shift=0.) for y in Y.split([40, 20, 20])]
    return Dataset('bars', *parts, shape=(4, 4))

# ---- what is killed ----

def training(folder):
    "Two members without an encoder, with steps that are measured, and a moment of rest."
    path = folder/'checkpoint.safetensors'
    recipes = [Recipe(lam=lam, l=8, batch=20, epochs=EPOCHS, beta=0., gamma=0., encoder=False,
                      step=.3, step_rule='1/L') for lam in (.01, .02)]
    model = Autoencoder.from_recipes(recipes, [0, 1], d=16)
    run = restore(path) if path.exists() else Run(model)
    train(run, bars(), after_epoch=lambda run: save(run, path), progress=False)

def sweeping(folder):
    "Two stacks of one, their rows, histories and weights."
    sweep('digits', models=['VDL'], lams=[.005, .02], seeds=1, epochs=3, sizes=(250, 50, 50),
          device='cpu', results=folder/'results', runs=folder/'runs', progress=False)

def fitting(folder):
    "The estimator, with a sparsity to be met and a step that is measured."
    folder.mkdir(exist_ok=True)
    X = planted(110, side=4, noise=.05)[0].numpy()
    coder = SparseCoder(8, target_sparsity=.7, batch_size=25, max_epochs=EPOCHS, random_state=0,
                        revive=True, device='cpu', checkpoint=folder/'fit.safetensors').fit(X)
    coder.save_pretrained(folder/'model')

WORK = dict(train=training, sweep=sweeping, fit=fitting)

# ---- how it is killed ----

def work(kind, folder, started, n=0, stage=None):
    "In a process of its own, which kills itself at a stage of the n-th writing of a file."
    torch.set_num_threads(1)
    if stage: fatal(n, stage)
    started.set()
    WORK[kind](folder)

def fatal(n, stage):
    "The n-th file from now on will not be written beyond a stage."
    whole, fsync, rename, written = files._write_together, os.fsync, os.replace, []
    def die(now):
        if stage == now and len(written) == n: os.kill(os.getpid(), signal.SIGKILL)
    def _write_together(parts):
        def begin_to(fresh, path, write):
            written.append(path)
            write(fresh)
            if stage == 'half' and len(written) == n: os.truncate(fresh, fresh.stat().st_size//2)
            die('half')
        whole({path: partial(begin_to, path=path, write=write) for path, write in parts.items()})
    def flush(file): die('fsync'); fsync(file)
    def replace_(fresh, path): die('replace'); rename(fresh, path); die('replaced')
    for name, module in list(sys.modules.items()):
        if name.startswith('deep_sparse_nb') and hasattr(module, '_write_together'):
            module._write_together = _write_together
    os.fsync, os.replace = flush, replace_

def started(kind, folder, *fate):
    "The process that does the work, once it has begun."
    CONTEXT.set_forkserver_preload(PRELOADED)
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=work, args=(kind, folder, ready, *fate))
    process.start()
    assert ready.wait(120)
    return process

def ended(process):
    process.join(300)
    assert process.exitcode in (0, -signal.SIGKILL), 'the work itself failed'
    return process.exitcode == 0

# ---- what is left ----

def checkpoints(folder):
    "Runs, each with the epochs that it has done."
    for path in sorted(folder.rglob('*.safetensors')):
        if path.parent.name in ('weights', 'model'): continue
        kind = 'fit' if path.stem == 'fit' else 'run'
        yield path, kind, contents(path)[2]

def content(folder):
    "The bytes of all that is learned, and everything that is told but for times and places."
    found = {}
    for path, kind, _ in checkpoints(folder):
        if kind == 'fit': continue              # the model is what it ends with
        run = restore(path)
        tensors = {**run.model.state_dict(), **{f'best {k}': v for k, v in run.best.items()}}
        for i, state in run.optimizer.state_dict()['state'].items():
            tensors |= {f'adam {i} {k}': v for k, v in state.items()}
        if torch.is_tensor(run.model.step): tensors['step'] = run.model.step
        for name, value in tensors.items(): found[path.name, name] = value.numpy().tobytes()
        found[path.name, 'history'] = [{k: v for k, v in row.items() if k != 'seconds'}
                                       for row in run.history]
    for name in ('weights', 'model'):
        for path in folder.rglob(f'{name}/*.safetensors'): found[path.name] = path.read_bytes()
    for path in folder.rglob('model/config.json'):
        told = json.loads(path.read_text(), object_hook=lambda d: d | dict(seconds=0))
        found[path.name] = json.dumps(told)
    for path in folder.rglob('*.csv'):
        timeless = read_table(path).drop(columns=['seconds', 'date', 'command'], errors='ignore')
        order = [c for c in ('lam', 'sigma', 'epoch') if c in timeless]
        found[path.relative_to(folder)] = timeless.sort_values(order).to_csv(index=False)
    return found

def kill(kind, folder, whole, dice):
    "Start the work, and kill it: at some moment, or while it writes. Whether it has died."
    moment = dice.choice([None, None, *STAGES])
    if moment: return not ended(started(kind, folder, dice.randint(1, 3), moment))
    process = started(kind, folder)
    time.sleep(dice.uniform(0, .4)*whole)
    process.kill()
    return not ended(process)

@pytest.mark.parametrize('kind', WORK)
@pytest.mark.slow
def test_killed_at_random_moments(kind, tmp_path):
    straight, kills, dice = tmp_path/'straight', 25, random.Random(0)
    process = started(kind, straight)
    begun = time.monotonic()
    assert ended(process)
    whole, expected = time.monotonic() - begun, content(straight)
    killed, turn, epochs = 0, 0, {}
    while killed < kills:
        folder = tmp_path/f'killed {turn}'
        if not kill(kind, folder, whole, dice):
            assert content(folder) == expected         # it came to its end before that
            turn += 1
            continue
        killed += 1
        for path, _, there in checkpoints(folder):     # a whole checkpoint, at every moment
            assert there >= epochs.get(path, 0), 'an epoch was lost that had been written'
            epochs[path] = there
    assert ended(started(kind, folder)) and content(folder) == expected
    assert expected and all(expected.values())
