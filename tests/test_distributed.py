"Processes that share a batch: on each the same numbers, and those of one process that has it all."
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from deep_sparse_nb.paper import sweeps
from deep_sparse_nb.__main__ import main
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.checkpoints import restore
from deep_sparse_nb.data.datasets import Dataset, Split
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
from deep_sparse_nb.distributed import _ALONE, _ProcessRanks, joined
from deep_sparse_nb.energy import Energy, hinge_gradient, planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.inference import Diverged, fista
from deep_sparse_nb.paper.recipes import Recipe
from deep_sparse_nb.paper.results import read_table
from deep_sparse_nb.training import Run, train

SIZES = 2, 4
# imported once, by the server that processes are forked from; the first Adam imports the last
PRELOADED = ['deep_sparse_nb.paper.sweeps', 'deep_sparse_nb.estimator', 'pytest', 'torch._dynamo']

# ---- what every process computes ----

def inferred(ranks, decoder, energy, n=21, **options):
    "Codes of this process's images, and when they were done."
    Y, _, Z = planted(n, noise=.05)
    Y, encoded = ranks.part(Y), ranks.part(Z + .1)
    found = fista(Y, decoder, energy, encoded=encoded, **options)
    return dict(codes=found.codes, iterations=found.iterations)


def strengths(ranks): return ranks.shared(Energy(.02, torch.tensor([0., 1., 10.]), .5, .5))

def a_dictionary(ranks): return inferred(ranks, LinearDecoder(16, 64), strengths(ranks), step=.3)

def a_hidden_layer(ranks):
    energy = ranks.shared(Energy(.02, 10., .5, 5.))
    return inferred(ranks, HiddenDecoder(16, 24, 64), energy, restart=True, freeze_converged=True)

def a_measured_step(ranks):
    decoder, energy = HiddenDecoder(16, 24, 64), ranks.shared(Energy(.02, 10., .5, 5.))
    return inferred(ranks, decoder, energy, step='auto', max_iter=30)

def a_searched_step(ranks):
    decoder, energy = HiddenDecoder(16, 24, 64), ranks.shared(Energy(.02, 10., .5, 5.))
    return inferred(ranks, decoder, energy, step='backtracking', max_iter=30)

def fewer_images_than_processes(ranks):
    energy = ranks.shared(Energy(.02, 1., .5, .5))
    return inferred(ranks, LinearDecoder(16, 64), energy, n=3, step=.3)

def without_a_hinge(ranks):
    return inferred(ranks, LinearDecoder(16, 64), ranks.shared(Energy(.02, 0., .5, .5)), n=3)

def gradients(ranks):
    "In double precision: codes that vary, that do not, and that hardly do about a large mean."
    Z = planted(11)[2].double()
    Z[:, 0], Z[:, 1] = .7, 1000 + .01*Z[:, 1]
    return dict(gradient=hinge_gradient(ranks.part(Z), 1.5, ranks.shared(Energy(0.)).moments))

def energies(ranks):
    "Every process knows the energy of all."
    Y, D, Z = planted(21, noise=.05)
    energy, images = ranks.shared(Energy(.02, 10., 1.5, .5)), ranks.part(Y)
    codes = ranks.part(Z)
    parts = energy.parts(codes, images, codes @ D.T, codes + .1)
    return dict(everywhere=torch.stack(list(parts.values())))

def learned(ranks, *recipes, decoder=None, double=False):
    "Weights and history after two epochs, on every process."
    rows = [Split(y, scale=1., shift=0.) for y in planted(160, noise=.05)[0].split([100, 60])]
    if double: rows = [split.map(torch.Tensor.double) for split in rows]
    data = Dataset('bars', *rows, shape=(8, 8))
    recipes = [replace(r, l=16, batch=50, lr_decoder=3e-3, lr_encoder=3e-3) for r in recipes]
    seeds = range(len(recipes))
    if decoder is None: model = Autoencoder.from_recipes(recipes, seeds, d=64)
    else: model = Autoencoder(decoder, None, recipes, seeds)
    if double: model = model.double()
    written = []
    run = train(Run(model), data, epochs=2, after_epoch=lambda run: written.append(run.epoch),
                progress=False, ranks=ranks)
    assert written == ([] if ranks.rank else [0, 1, 2]) and run.model.ranks is _ALONE
    rows = [[v for k, v in r.items() if isinstance(v, float) and k != 'seconds']
            for r in run.history]
    weights = {f'everywhere {k}': v for k, v in run.model.state_dict().items()}
    return weights | {'everywhere history': torch.tensor(rows, dtype=torch.double)}

def learning_a_dictionary(ranks):
    return learned(ranks, *(Recipe(lam=lam, beta=1., gamma=.5, step=.5) for lam in (.005, .02)))

def learning_a_hidden_layer(ranks):
    return learned(ranks, Recipe(lam=.01, gamma=5., m=24, step=.5), double=True)

def learning_with_unit_columns(ranks):
    recipe = Recipe(lam=.01, beta=0., gamma=0., step=.5, unit_columns=True, encoder=False)
    return learned(ranks, recipe)

def learning_with_a_measured_step(ranks):
    return learned(ranks, Recipe(lam=.01, beta=1., gamma=5., m=24, step='auto'), double=True)

def learning_with_a_safe_step(ranks):
    recipe = Recipe(lam=.01, beta=1., gamma=.5, step=5., step_rule='safe')
    return learned(ranks, recipe, double=True)

class Own(torch.nn.Sequential):
    "Made from PyTorch's random numbers, which differ from process to process."
    def __init__(self):
        super().__init__(torch.nn.Linear(16, 20), torch.nn.Tanh(), torch.nn.Linear(20, 64))

def learning_a_decoder_of_ones_own(ranks):
    torch.manual_seed(ranks.rank)
    return learned(ranks, Recipe(lam=.01, beta=1., gamma=0., step=.3), decoder=Own(), double=True)

def fitting(ranks, **options):
    "The estimator on an iterable, which every process goes through."
    Y = planted(100, noise=.05)[0].numpy()
    coder = SparseCoder(16, alpha=.02, max_epochs=2, batch_size=50, random_state=0, device='cpu',
                        **options)
    coder.fit([Y[:60], Y[60:]])         # of one size, they would be images
    assert coder.model_.ranks is _ALONE
    return {'everywhere components': torch.tensor(coder.components_),
            'everywhere codes': torch.tensor(coder.transform(Y)),
            'everywhere step': torch.tensor(coder.step_)}

def fitting_atom_by_atom(ranks):
    "Whose processes add up what their codes say."
    return fitting(ranks, regularization='unit_norm', encoder=None)

def other_weights_are_refused(ranks):
    coder = SparseCoder(16, alpha=.02, max_epochs=1, random_state=ranks.rank, device='cpu')
    if ranks.size > 1:
        with pytest.raises(ValueError, match='give random_state'): coder.fit(planted(100)[0])
    return {}

def numbers(ranks):
    "Sums, the largest, and counts, which are the same everywhere."
    here = torch.tensor([ranks.rank + 1., -ranks.rank])
    whole = range(ranks.size) if ranks.size > 1 else range(1)
    assert ranks.sum(here).tolist() == [sum(r + 1 for r in whole), -sum(whole)]
    assert ranks.max(here).tolist() == [ranks.size, 0]
    assert ranks.count(ranks.rank) == sum(whole) and here[0] == ranks.rank + 1
    return {}

def all_or_none_diverge(ranks):
    "The codes of one image overflow; all processes are told."
    Y = planted(21)[0]
    Y[:-1] = 0
    for beta in (0., 10.):
        with pytest.raises(Diverged, match='step 1000'):
            fista(ranks.part(Y), LinearDecoder(16, 64), ranks.shared(Energy(1e-4, beta)),
                  step=1000., positive=False)
    return {}

CASES = (a_dictionary, a_hidden_layer, a_measured_step, a_searched_step, without_a_hinge,
         fewer_images_than_processes, gradients, energies, numbers, all_or_none_diverge,
         learning_a_dictionary, learning_a_hidden_layer, learning_with_unit_columns,
         learning_with_a_measured_step, learning_with_a_safe_step, learning_a_decoder_of_ones_own,
         fitting, fitting_atom_by_atom, other_weights_are_refused)

# ---- how they are started ----

def work(rank, size, port, folder):
    os.environ |= dict(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank),
                       MASTER_ADDR='localhost', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with joined('cpu') as ranks:
        assert isinstance(ranks, _ProcessRanks) and (ranks.rank, ranks.size) == (rank, size)
        torch.save({case.__name__: case(ranks) for case in CASES}, folder/f'{rank}')
    assert not dist.is_initialized()

def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return s.getsockname()[1]

@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    "What each of 2 and of 4 processes found."
    mp.get_context('forkserver').set_forkserver_preload(PRELOADED)
    found = {}
    for size in SIZES:
        folder = tmp_path_factory.mktemp(f'{size}')
        mp.start_processes(work, (size, free_port(), folder), size, start_method='forkserver')
        found[size] = [torch.load(folder/f'{rank}') for rank in range(size)]
    return found

@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('case', CASES, ids=lambda case: case.__name__)
def test_shared_is_as_alone(size, case, shared):
    alone, parts = case(_ALONE), [found[case.__name__] for found in shared[size]]
    for name, value in alone.items():
        if name.startswith('everywhere'):
            for part in parts: torch.testing.assert_close(part[name], value, rtol=1e-5, atol=1e-5)
            for part in parts[1:]: assert torch.equal(part[name], parts[0][name])
            continue
        dim = 0 if name == 'gradient' else value.dim() - (1 if name == 'iterations' else 2)
        together = torch.cat([part[name] for part in parts], dim)
        if name == 'iterations': assert (together - value).abs().max() <= 1
        else: torch.testing.assert_close(together, value, rtol=1e-5, atol=1e-5)

# ---- a sweep's stacks, shared by processes that know nothing of one another ----

SWEPT = dict(models=['SDL'], seeds=1, epochs=2, sizes=(500, 250, 250), device='cpu', progress=False)

def swept(rank, folder, lost):
    "What each rank of a sweep does. The lost one is killed in the middle of its first stack."
    torch.set_num_threads(1)
    save = sweeps.save
    def saved(run, path):
        save(run, path)
        if rank == lost and run.epoch == 1: os.kill(os.getpid(), signal.SIGKILL)
    sweeps.save = saved
    sweeps.sweep('digits', results=folder/'results', runs=folder/'runs', **SWEPT)

def test_a_lost_ranks_stacks_are_picked_up(tmp_path):
    context, killed = mp.get_context('forkserver'), tmp_path/'killed'
    context.set_forkserver_preload(PRELOADED)
    for lost in (1, None):                  # and then it is started again
        ranks = [context.Process(target=swept, args=(rank, killed, lost)) for rank in range(2)]
        for process in ranks: process.start()
        for process in ranks: process.join(120)
        assert [p.exitcode for p in ranks] == [0, 0 if lost is None else -signal.SIGKILL]
    assert len(read_table(killed/'results'/'digits.csv')) == 9  # 3 lambdas, 3 levels of noise
    assert not sweeps.sweep('digits', results=tmp_path/'results', runs=tmp_path/'runs', **SWEPT)
    alone, shared = (read_table(folder/'results'/'digits.csv') for folder in (tmp_path, killed))
    same = ['lam', 'seed', 'sigma', 'psnr', 'sparsity', 'best_epoch']
    alone, shared = (t.sort_values(['lam', 'sigma']).reset_index()[same] for t in (alone, shared))
    assert alone.equals(shared)

TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone',
            '--nproc-per-node', '2']
LEFT = """
import os, torch
from deep_sparse_nb.distributed import joined
weight = torch.nn.Parameter(torch.ones(2))
with joined('cpu') as ranks:
    weight.grad = ranks.sum(torch.ones(2))
    torch.optim.Adam([weight]).step()
names = [open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task')]
assert not any('gloo' in name for name in names), names
"""

@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='has no /proc')
def test_no_thread_of_a_group_outlives_it(tmp_path):
    "One that did could abort a process at its end."
    (tmp_path/'left.py').write_text(LEFT)
    done = subprocess.run([*TORCHRUN, tmp_path/'left.py'], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr

@pytest.mark.slow
def test_torchrun_is_all_that_one_types(tmp_path):
    words = ['train', '--dataset', 'digits', '--model', 'VDL', '--lam', '.01', '--epochs', '1',
             '--device', 'cpu', '--quiet', '--out']
    done = subprocess.run([*TORCHRUN, '-m', 'deep_sparse_nb', *words, str(tmp_path/'two')],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    row, = map(json.loads, done.stdout.splitlines())         # the first process speaks for all
    assert main([*words, str(tmp_path/'one')]) == 0
    one, two = (restore(tmp_path/name/'checkpoint.safetensors') for name in ('one', 'two'))
    assert row['epochs_run'] == two.epoch == 1
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], value, rtol=0, atol=1e-4)
    assert main(['train', '--resume', str(tmp_path/'two'), '--epochs', '2', '--quiet']) == 0
    assert restore(tmp_path/'two'/'checkpoint.safetensors').epoch == 2
