"Kernels: each is the plain iteration, whatever the shape, type and rules; one function chooses."
import importlib.util
import os
import subprocess
import sys
import pytest
import torch
from torch import nn
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.inference import fista
from deep_sparse_nb.iteration import Iteration, Solver
from deep_sparse_nb.kernels import jit
from deep_sparse_nb.kernels.cpu import CompiledIteration, DenseIteration, SparseIteration
from deep_sparse_nb.kernels.folded import FoldedGradient
from deep_sparse_nb.kernels.hidden import BfloatGradient

needs_numba = pytest.mark.skipif(not jit.available(), reason='nothing is compiled here')

@needs_numba
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('models, n, l', [(1, 2, 1), (1, 60, 33), (2, 7, 9), (3, 70, 17)])
@pytest.mark.parametrize('beta', [0., 5.])
@pytest.mark.parametrize('rules', [Solver(tol=1e-2), Solver(tol=1e-2, restart=True),
                                   Solver(tol=1e-2, positive=False, momentum=False),
                                   Solver(tol=1e-2, freeze_converged=True)],
                         ids=['paper', 'restart', 'signed', 'freeze'])
def test_compiled_is_plain(dtype, models, n, l, beta, rules):
    rng = torch.Generator().manual_seed(0)
    start = torch.rand(models, n, l, generator=rng).to(dtype)
    Y = torch.randn(n, 12, generator=rng).to(dtype)
    decoder = stack([LinearDecoder(l, 12, seed) for seed in range(models)]).to(dtype)
    energy, results = Energy(torch.linspace(0, .1, models), beta=beta, gamma=1.), []
    for kind in (Iteration, CompiledIteration, SparseIteration, *[DenseIteration]*(models == 1)):
        state = kind(start, energy, start, .1, rules)
        state.run(decoder.reconstruction_gradient(Y), 40)
        results.append((torch.where((state.iterations > 0)[..., None], state.codes, state.Z),
                        state.iterations))
    (plain, when), *others = results
    for codes, iterations in others:
        # float32: the rule may hold an iteration sooner
        apart = 1e-11 if dtype == torch.float64 else 2e-3
        assert (codes - plain).norm() <= apart*plain.norm() + 1e-12
        least = .9 if dtype == torch.float32 else 1.
        assert (iterations == when).float().mean() >= least

@needs_numba
@pytest.mark.parametrize('beta', [0., 3.])
def test_codes_do_not_depend_on_the_number_of_threads(beta):
    Y, before, codes = torch.randn(100, 20), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            codes.append(fista(Y, stack([LinearDecoder(10, 20, s) for s in (0, 1)]),
                               Energy(.01, beta=beta)).codes)
            assert torch.get_num_threads() == threads
    finally: torch.set_num_threads(before)
    assert torch.equal(codes[0], codes[1]) and torch.equal(codes[0], codes[2])

def test_the_plain_step_can_be_forced(monkeypatch):
    def fail(*args): raise AssertionError('a kernel was used')
    for kind in (CompiledIteration, DenseIteration, SparseIteration):
        monkeypatch.setattr(kind, '__init__', fail)
    Y, decoder = torch.randn(9, 20), LinearDecoder(10, 20)
    fista(Y, decoder, Energy(.01), kernel='plain')
    monkeypatch.setenv('DEEP_SPARSE_KERNEL', 'plain')
    fista(Y, decoder, Energy(.01))
    monkeypatch.setenv('DEEP_SPARSE_KERNEL', 'fast')
    with pytest.raises(ValueError, match='DEEP_SPARSE_KERNEL is'): fista(Y, decoder, Energy(.01))

def elsewhere(script, **environment):
    "What a script prints in a process of its own."
    told = subprocess.run([sys.executable, '-c', script], env=os.environ | environment,
                          capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return told.stdout

INFER = """
from deep_sparse_nb.decoders import LinearDecoder
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.inference import fista
Y, D, Z = planted(20); decoder = LinearDecoder(16, 64); decoder.W.data = D
print((fista(Y, decoder, Energy(1e-3), step='auto', tol=1e-6).codes - Z).abs().max().item() < .1)
"""

@needs_numba
@pytest.mark.parametrize('value', [.1, .3, 7., 1e-4, 0.])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_codes_that_are_equal_feel_no_hinge(value, dtype):
    "The mean of equal numbers need not be that number: what is left are no deviations."
    start = torch.full((1, 7, 9), value, dtype=dtype)
    Y, decoder = torch.zeros(7, 12, dtype=dtype), LinearDecoder(9, 12).to(dtype)
    for kind in (Iteration, CompiledIteration, SparseIteration, DenseIteration):
        free, hinged = (kind(start, Energy(0., beta=beta), None, .01, Solver(tol=1e-12))
                        for beta in (0., 1e4))
        for state in (free, hinged): state.run(decoder.reconstruction_gradient(Y), 1)
        assert torch.allclose(hinged.Z, free.Z, rtol=1e-5, atol=1e-9)

TRITON = """
import torch
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.iteration import Iteration, Solver
from deep_sparse_nb.kernels.gpu import TritonIteration
def runs(dtype, rules, beta, scale=1.):
    rng = torch.Generator().manual_seed(0)
    start, guess = (scale*torch.rand(2, 9, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    W, Y = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((2, 12, 6), (9, 12)))
    start, guess, W, Y = (A.to(dtype) for A in (start, guess, W, scale*Y))
    lam = scale*torch.tensor([0., .1])
    energy = Energy(lam=lam, beta=beta, T=.5*scale, gamma=1.)
    both = [kind(start, energy, guess, .1, rules) for kind in (Iteration, TritonIteration)]
    for k in range(1, 15):
        for run in both: run.advance(run.X @ (W.mT @ W/6) - Y @ W/6, k)
    return both
for options in (dict(), dict(restart=True),
                dict(positive=False, restart=True, freeze_converged=True),
                dict(positive=False, momentum=False)):
    for beta in (0., 5.):
        plain, kernel = runs(torch.float64, Solver(tol=3e-2, **options), beta)
        assert (plain.iterations > 0).any() and (plain.iterations == kernel.iterations).all()
        assert plain.running() == kernel.running()
        for name in ('X', 'Z', 'codes', 't'):
            a, b = getattr(plain, name), getattr(kernel, name)
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-11), (name, options, beta)
plain, kernel = runs(torch.float32, Solver(tol=1e-2), 0., scale=1e-21)
assert 0 < (plain.iterations > 0).sum() < plain.iterations.numel()
assert (plain.iterations == kernel.iterations).float().mean() > .9
equal = torch.full((1, 7, 9), .3)
states = [TritonIteration(equal, Energy(0., beta=beta), None, .01) for beta in (0., 1e4)]
for state in states: state.advance(torch.ones_like(equal), 1)
assert torch.allclose(states[0].Z, states[1].Z, rtol=1e-5)
print('same')
"""

@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='Triton is not installed')
def test_the_gpu_kernel_is_the_plain_step():
    assert elsewhere(TRITON, TRITON_INTERPRET='1') == 'same\n'

def test_without_compilation_codes_are_right():
    assert elsewhere(INFER, NUMBA_DISABLE_JIT='1') == 'True\n'

@needs_numba
def test_compiles_where_no_folder_can_be_written(tmp_path):
    # a file, where numba wants a folder
    (tmp_path/'__pycache__').touch()
    (tmp_path/'loops.py').write_text('from deep_sparse_nb.kernels.jit import compiled\n'
                                     '@compiled\ndef twice(x): return 2*x\n')
    nowhere = str(tmp_path/'loops.py'/'below')
    script = (f'import sys; sys.path.insert(0, {str(tmp_path)!r}); import loops; '
              'print(loops.twice(3))')
    assert elsewhere(script, HOME=nowhere, XDG_CACHE_HOME=nowhere, NUMBA_CACHE_DIR=nowhere) == '6\n'

LOOPS = """
from deep_sparse_nb.kernels.jit import compiled, _inlined
@_inlined
def step(x): return x + {}
@compiled
def walk(x): return step(step(x))
"""

def walked(folder, **environment):
    script = f'import sys; sys.path.insert(0, {str(folder)!r}); import loops; print(loops.walk(3))'
    return int(elsewhere(script, NUMBA_CACHE_DIR=str(folder/'kept'), **environment))

@pytest.mark.slow
@needs_numba
def test_machine_code_follows_an_edited_helper(tmp_path):
    for by in (1, 2, 1):
        (tmp_path/'loops.py').write_text(LOOPS.format(by))
        for _ in range(2): assert walked(tmp_path) == 3 + 2*by
    assert list(tmp_path.glob('kept/**/*.nbc'))

@needs_numba
def test_machine_code_of_a_cell_is_never_kept(tmp_path):
    "As a notebook runs them: the helper and its caller in cells of their own, known by their text."
    cells = LOOPS.split('@compiled')
    def page(by):
        first, second = cells[0].format(by), '@compiled' + cells[1]
        names = [str(tmp_path/'ipykernel_1'/f'{i}.py') for i in (1, 2)]
        return (f'import linecache; space = {{"__name__": "__main__"}}\n'
                f'for name, text in zip({names!r}, {[first, second]!r}):\n'
                '    linecache.cache[name] = len(text), None, text.splitlines(True), name\n'
                '    exec(compile(text, name, "exec"), space)\n'
                'print(space["walk"](3))')
    for by in (1, 2): assert int(elsewhere(page(by), NUMBA_CACHE_DIR=str(tmp_path))) == 3 + 2*by
    assert not list(tmp_path.glob('**/*.nb?'))

FULL = """
import resource, sys; sys.path.insert(0, {!r})
import loops
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))      # files can be made, and nothing written
print(loops.walk(3), file=sys.stderr)
"""

@needs_numba
@pytest.mark.skipif(sys.platform == 'win32', reason='no limits of this kind')
def test_a_full_disk_ends_nothing(tmp_path):
    (tmp_path/'loops.py').write_text(LOOPS.format(1))
    told = subprocess.run([sys.executable, '-c', FULL.format(str(tmp_path))], capture_output=True,
                          text=True, env=os.environ | {'NUMBA_CACHE_DIR': str(tmp_path/'kept')})
    assert told.returncode == 0 and told.stderr == '5\n', told.stderr
    assert not list(tmp_path.glob('kept/**/*.nbc')) and walked(tmp_path) == 5

def test_changes_in_bfloat16_are_all_that_a_gradient_needs():
    torch.manual_seed(0)
    Y, start = torch.randn(40, 20), torch.rand(40, 10)
    for decoder in (HiddenDecoder(10, 15, 20),
                    stack([HiddenDecoder(10, 15, 20, s) for s in (0, 1)])):
        Z0 = start.expand(*decoder.W1.shape[:-2], -1, -1)
        Z, gradient = Z0 + .1*torch.randn_like(Z0), bfloat(decoder, Y)
        first, whole = gradient.full(Z0), decoder.reconstruction_gradient(Y).full(Z)
        for _ in range(3):
            assert 0 < (gradient.incremental(Z) - whole).norm() < .02*(whole - first).norm()
        needed = torch.arange(40).expand(Z.shape[:-1]) % 2 > 0
        gradient.restrict_to(needed)
        part = gradient.incremental(Z)
        assert (part[~needed] == 0).all()
        assert (part - whole)[needed].norm() < .03*(whole - first)[needed].norm()

def units_on(share, m=200, l=10, d=30, seed=0):
    "A hidden layer, about that share of whose units is on for random codes."
    decoder = HiddenDecoder(l, m, d, seed)
    a = torch.rand(500, l, generator=torch.Generator().manual_seed(1)) @ decoder.W1.detach().T
    decoder.b1.data = -a.quantile(1 - share, dim=0)
    return decoder

@needs_numba
@pytest.mark.parametrize('kind', [torch.float32, torch.float64])
@pytest.mark.parametrize('share', [1., .95, .9])
def test_a_folded_layer_has_the_gradient_of_the_layer(kind, share):
    torch.manual_seed(0)
    one = units_on(share).to(kind)
    for decoder, lead in ((one, ()), (stack([one]), (1,))):
        Y, Z = torch.randn(*lead, 70, 30, dtype=kind), torch.rand(*lead, 70, 10, dtype=kind)
        folded, plain = folding(decoder, Y), decoder.reconstruction_gradient(Y)
        for k in range(40):
            expected = plain.full(Z)
            close(folded.full(Z), expected, kind)
            Z = (Z - .1*.5**k*expected + .05*.5**k*torch.randn_like(Z)).clamp(min=0)
            if k in (20, 30):
                needed = (torch.rand(70) < .6).expand(Z.shape[:-1])
                folded.restrict_to(needed), plain.restrict_to(needed)
        assert folded.few and folded.units.near.held.mean() < .5*200      # few units are looked at


def bfloat(decoder, Y): return BfloatGradient(decoder.reconstruction_gradient(Y))
def folding(decoder, Y): return FoldedGradient(decoder.reconstruction_gradient(Y))


def close(found, expected, kind):
    error = (found - expected).norm()/expected.norm()
    assert error < 50*torch.finfo(kind).eps, error

@needs_numba
def test_a_layer_is_not_folded_where_many_units_are_off_or_far_below_zero():
    Y, Z = torch.randn(70, 30), torch.rand(70, 10)
    deep = units_on(.95)
    deep.b1.data[:2] = -1e5                   # two units, whose parts would swamp the others
    for decoder in (units_on(.7), deep):
        folded, plain = folding(decoder, Y), decoder.reconstruction_gradient(Y)
        assert torch.equal(folded.full(Z), plain.full(Z)) and not folded.few
        needed = torch.arange(70) % 3 > 0
        folded.restrict_to(needed), plain.restrict_to(needed)
        assert torch.equal(folded.full(Z), plain.full(Z))

@needs_numba
def test_a_layer_unfolds_when_units_go_off():
    decoder, Y = units_on(.95), torch.randn(70, 30)
    folded, plain = folding(decoder, Y), decoder.reconstruction_gradient(Y)
    Z = torch.rand(70, 10)
    for scale in (1, 1.01, -5, 1):            # codes of the other sign turn most units off
        close(folded.full(scale*Z), plain.full(scale*Z), torch.float32)
    assert not folded.few

@needs_numba
@pytest.mark.parametrize('beta', [0., 5.])
def test_fista_folds_a_layer_and_finds_the_same_codes(beta, monkeypatch):
    decoder, Y, guess = units_on(.95), torch.randn(80, 30), torch.rand(80, 10)
    energy, folded = Energy(.01, beta=beta, gamma=.5), []
    kept = FoldedGradient.corrected
    monkeypatch.setattr(FoldedGradient, 'corrected',
                        lambda self, Z: folded.append(len(Z)) or kept(self, Z))
    options = dict(encoded=guess, step=.1, tol=1e-4, max_iter=1000)
    found, plain = (fista(Y, decoder, energy, kernel=k, **options) for k in ('auto', 'plain'))
    assert (found.codes - plain.codes).norm() < 3e-3*plain.codes.norm()
    assert len(folded) > 20 and (beta or folded[-1] < 80)

@needs_numba
def test_threads_share_a_folded_gradient(monkeypatch):
    decoder, Y, Z = units_on(.95), torch.randn(200, 30), torch.rand(200, 10)
    found = {}
    for threads in (1, 3):
        monkeypatch.setattr(torch, 'get_num_threads', lambda threads=threads: threads)
        found[threads] = folding(decoder, Y).full(Z)
    close(found[3], found[1], torch.float32)

def test_bfloat16_is_asked_for_and_reaches_the_same_energy():
    Y, guess, decoder = torch.randn(60, 20), torch.rand(60, 10), HiddenDecoder(10, 15, 20)
    energy, options = Energy(.01, gamma=.5), dict(encoded=guess, step=.1, tol=1e-4, max_iter=1000)
    full, half = (fista(Y, decoder, energy, precision=p, **options).codes
                  for p in ('float32', 'bfloat16'))
    assert torch.equal(full, fista(Y, decoder, energy, **options).codes)
    assert not torch.equal(full, half)
    a, b = (energy.value(Z, Y, decoder(Z), guess) for Z in (full, half))
    assert torch.isclose(a, b, rtol=1e-4)

def test_watched_codes_stay_what_they_were():
    kept, copies = [], []
    fista(torch.randn(9, 20), LinearDecoder(10, 20), Energy(.01), tol=1e-9, max_iter=5,
          watch=lambda k, Z: (kept.append(Z), copies.append(Z.clone())))
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))

def test_degenerate_problems_have_answers():
    Y, decoder = torch.rand(5, 20), LinearDecoder(10, 20)
    nothing = LinearDecoder(10, 20); nothing.W.data.zero_()
    assert (fista(Y, nothing, Energy(.01), step='auto').codes == 0).all()
    assert fista(Y[:0], decoder, Energy(.01)).codes.shape == (0, 10)
    with pytest.raises(ValueError, match='Y is not finite'):
        fista(Y*torch.nan, decoder, Energy(.01))
    tiny = fista(Y*1e-25, decoder, Energy(1e-28), max_iter=1)
    assert not tiny.converged.any()

def test_a_decoder_of_ones_own_is_left_alone():
    own = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20))
    before = {name: value.clone() for name, value in own.state_dict().items()}
    with torch.inference_mode():
        fista(torch.rand(9, 20), own, Energy(.01), start=torch.rand(9, 10), certify=True)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())

@pytest.mark.parametrize('scale', [1e-19, 1e-21])
@pytest.mark.parametrize('kernel', ['auto', 'plain'])
def test_tiny_images_are_not_called_converged_because_squares_vanish(kernel, scale):
    "In float32 the square of 1e-19 has lost its digits, that of 1e-21 is small enough to be 0."
    rng = torch.Generator().manual_seed(0)
    Y, decoder = torch.rand(20, 30, generator=rng), LinearDecoder(10, 30)
    options = dict(step=.05, tol=1e-4, max_iter=2000, kernel=kernel)
    whole = fista(Y, decoder, Energy(1e-3), **options)
    tiny = fista(Y*scale, decoder, Energy(1e-3*scale), **options)
    assert whole.converged.all() and whole.iterations.min() > 3
    assert ((tiny.iterations - whole.iterations).abs() <= .1*whole.iterations + 2).all()
    assert (tiny.codes/scale - whole.codes).norm() < 1e-2*whole.codes.norm()
