"Exact codes: random and awkward problems, judged by their gap, by conditions, by other solvers."
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

from deep_sparse_nb.kernels.active_set import Prepared, exact, exact_codes, signed

def gram(Y, D):
    Y, D = torch.as_tensor(Y).double(), torch.as_tensor(D).double()
    return 2/len(D) * D.T @ D, 2/len(D) * Y @ D

def energies(Y, D, Z, lam): return ((Y - Z @ D.T)**2).mean(1) + lam*np.abs(Z).sum(1)

def violations(Y, D, Z, lam):
    "Of the optimality conditions, from the residual images rather than from the Gram matrix."
    C = 2/len(D) * (Y - Z @ D.T) @ D
    return np.where(Z > 0, abs(C - lam), np.maximum(C - lam, 0)).max(1)

def duality_gaps(Y, D, Z, lam):
    "Absolute duality gap of each code, the dual point being the scaled residual image."
    R = Y - Z @ D.T
    steepest = (2/len(D) * R @ D).max(1)
    s = np.minimum(1, lam/np.maximum(steepest, 1e-300))[:, None]
    dual = (Y**2).mean(1) - ((Y - s*R)**2).mean(1)
    return energies(Y, D, Z, lam) - dual

@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d, l, n = draw(st.integers(1, 40)), draw(st.integers(1, 60)), draw(st.integers(1, 8))
    D, half = rng.normal(size=(d, l)), rng.integers(0, max(1, l//2), l)
    kind = draw(st.sampled_from(['plain', 'positive', 'duplicates', 'near', 'zero', 'lowrank',
                                 'scaled']))
    if kind == 'positive': D = abs(D)
    if kind == 'duplicates': D = D[:, half]
    if kind == 'near': D = D[:, half] + 10.**-draw(st.integers(2, 9))*rng.normal(size=(d, l))
    if kind == 'zero': D[:, rng.random(l) < .3] = 0
    if kind == 'lowrank':
        r = max(1, min(d, l)//3); D = rng.normal(size=(d, r)) @ abs(rng.normal(size=(r, l)))
    if kind == 'scaled': D = D*10.**rng.uniform(-3, 3, l)
    Y = rng.normal(size=(n, d))*10.**draw(st.integers(-3, 3))
    if draw(st.booleans()): Y = abs(rng.normal(size=(n, l))*(rng.random((n, l)) < .2)) @ D.T
    top = max((2/d*abs(Y @ D)).max(), 1e-30)
    return Y, D, top*draw(st.sampled_from([.9, .3, .1, .01, .001, 1.1]))

@settings(max_examples=300, deadline=None)
@given(problems(), st.sampled_from([1e-4, 1e-6]))
def test_any_problem_is_solved_and_certified(problem, tol):
    Y, D, lam = problem
    found = exact_codes(torch.tensor(Y), torch.tensor(D), lam, tol=tol, threads=1)
    Z = found.codes.numpy()
    assert (Z >= 0).all() and np.isfinite(Z).all() and found.converged.all()
    assert (duality_gaps(Y, D, Z, lam) <= tol*1.001*energies(Y, D, Z, lam)
            + 1e-12*(Y**2).mean(1)).all()
    largest = (2/len(D)*abs(Y @ D)).max(1)
    assert (abs(violations(Y, D, Z, lam) - found.residual.numpy()) <= 1e-10*largest + 1e-300).all()

@pytest.mark.parametrize('positive, method', [(True, exact), (False, signed)])
def test_agrees_with_scikit_learn(positive, method):
    rng = np.random.default_rng(0)
    for _ in range(10):
        D, Y = rng.normal(size=(30, 20)), rng.normal(size=(5, 30))
        lasso = Lasso(alpha=.05/2, positive=positive, fit_intercept=False, tol=1e-14,
                      max_iter=100_000)
        np.testing.assert_allclose(method(*gram(Y, D), .05).codes,
                                   np.stack([lasso.fit(D, y).coef_ for y in Y]), atol=1e-6)

@pytest.mark.parametrize('d, l', [(30, 20), (20, 30), (50, 50)])
def test_without_l1_it_is_non_negative_least_squares(d, l):
    rng = np.random.default_rng(0)
    D, Y = rng.normal(size=(d, l)), rng.normal(size=(20, d))
    found, theirs = exact(*gram(Y, D), 0.), np.stack([nnls(D, y)[0] for y in Y])
    assert found.converged.all()
    np.testing.assert_allclose(energies(Y, D, found.codes.numpy(), 0), energies(Y, D, theirs, 0),
                               atol=1e-11)

@pytest.fixture
def problem():
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.double)
    return draw(50, 30), draw(30, 20)   # Y (n, d), D (d, l)

def test_nothing_to_find(problem):
    H, B = gram(*problem)
    for found in (exact(H, B, 1e3), exact(H, B*0, 0.)):
        assert (found.codes == 0).all() and found.converged.all()
    assert exact(H, B[:0], .1).codes.shape == (0, 20)
    assert exact_codes(problem[0][:0], problem[1], .1).codes.shape == (0, 20)

def test_largest_support(problem):
    full, short = exact(*gram(*problem), .001), exact(*gram(*problem), .001, most=3)
    k = (short.codes > 0).sum(1)
    assert k.max() == 3 and (full.codes > 0).sum(1).max() > 3
    assert ((full.codes > 0).sum(1)[short.converged] <= 3).all()
    assert (short.residual[~short.converged] > 0).all()
    assert torch.allclose(short.codes[short.converged], full.codes[short.converged])

def threads_of_pytorch_elsewhere():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen

@pytest.mark.parametrize('threads', [1, 2, 3])
def test_threads_change_nothing(problem, threads):
    "Neither the codes nor PyTorch's number of threads, here and in threads that start later."
    (Y, D), count = (problem[0].repeat(200, 1), problem[1]), torch.get_num_threads()
    alone = exact_codes(Y, D, .01, threads=1)
    try:
        torch.set_num_threads(3)
        together = exact_codes(Y, D, .01, threads=threads)
        assert torch.get_num_threads() == 3 and threads_of_pytorch_elsewhere() == [3]
    finally: torch.set_num_threads(count)
    assert torch.allclose(alone.codes, together.codes, atol=1e-9)
    assert (alone.converged == together.converged).all()

def child(script, **env):
    return subprocess.Popen([sys.executable, '-c', script], env=os.environ | env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

LONG = """
import signal, threading, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes in the background ignore
from deep_sparse_nb.kernels.active_set import exact_codes
exact_codes(torch.rand(3, 8), torch.rand(8, 5), .1)       # compile
beats = []
def beat():
    while True: beats.append(time.monotonic()); time.sleep(.02)
threading.Thread(target=beat, daemon=True).start()
rng = torch.Generator().manual_seed(0)
Y, D = torch.rand(20000, 900, generator=rng), torch.randn(900, 800, generator=rng)
print('begins', flush=True)
try: exact_codes(Y, D, 1e-6, threads=2)
except KeyboardInterrupt: print(time.monotonic(), max(b - a for a, b in zip(beats, beats[1:])))
else: print('ended')
"""

@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='sends a signal')
def test_it_hears_an_interruption_and_lets_other_threads_run():
    "A problem of minutes: no bound on a time but one that tells stopping from going on to the end."
    process = child(LONG)
    try:
        assert process.stdout.readline() == 'begins\n', process.stderr.read()
        time.sleep(3)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=60)
    finally: process.kill()
    assert told.strip() != 'ended' and not errors
    heard, pause = map(float, told.split())
    assert heard - sent < 10 and pause < 2

SMALL = """
import torch
from deep_sparse_nb.kernels.active_set import exact_codes
from deep_sparse_nb.kernels.jit import available
rng = torch.Generator().manual_seed(0)
Y, D = torch.rand(5, 30, generator=rng), torch.randn(30, 20, generator=rng)
found = exact_codes(Y, D, .01)
print(available(), found.converged.all().item(), *found.codes.flatten().tolist())
"""

@pytest.mark.slow
def test_without_compilation_the_codes_are_the_same():
    outcomes = [child(SMALL, NUMBA_DISABLE_JIT=off).communicate() for off in '01']
    compiled, plain = (told.split() for told, errors in outcomes)
    assert compiled[:2] == ['True', 'True'] and plain[:2] == ['False', 'True']
    np.testing.assert_allclose(np.array(compiled[2:], float), np.array(plain[2:], float), atol=1e-9)

def test_inputs_stay_as_they_are(problem):
    Y, D = (t.float().requires_grad_() for t in problem)
    copies = Y.detach().clone(), D.detach().clone()
    codes = exact_codes(Y, D, .01).codes
    assert not codes.requires_grad and torch.equal(Y, copies[0]) and torch.equal(D, copies[1])

def test_a_stack_is_its_models(problem):
    Y, D = problem
    lams = torch.tensor([.001, .01])
    together = exact_codes(Y, torch.stack([D, 2*D]), lams).codes
    for Z, W, lam in zip(together, (D, 2*D), lams):
        assert torch.allclose(Z, exact_codes(Y, W, lam).codes)
    together = exact_codes(torch.stack([Y, Y + 1]), torch.stack([D, 2*D]), .001).codes
    for Z, X, W in zip(together, (Y, Y + 1), (D, 2*D)):
        assert torch.allclose(Z, exact_codes(X, W, .001).codes)

def test_encoders_pull(problem):
    Y, D = problem
    guess = torch.rand(50, 20, generator=torch.Generator().manual_seed(1)).double()
    Z = exact_codes(Y, D, .01, gamma=1., encoded=guess, tol=1e-9).codes
    slope = 2/30*(Z @ D.T - Y) @ D + 2/20*(Z - guess) + .01
    assert (slope > -1e-8).all() and (slope[Z > 0].abs() < 1e-8).all()

def test_a_problem_without_minimum_is_not_called_solved(problem):
    H, B = gram(*problem)
    H[0] = H[:, 0] = 0
    B[:, 0] = 5.   # an atom that costs nothing and pulls forever
    found = exact(H, B, .1)
    assert not found.converged.any() and found.codes.isfinite().all()

@pytest.mark.parametrize('dtype',
                         [torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.uint8])
def test_any_real_dtype_is_the_same_problem_in_double_precision(problem, dtype):
    Y, D = ((10*t.abs()).to(dtype) for t in problem)
    guess = torch.ones(50, 20, dtype=dtype)
    options = dict(gamma=1., tol=1e-9)
    found = exact_codes(Y, D, .1, encoded=guess, **options)
    same = exact_codes(Y.double(), D.double(), .1, encoded=guess.double(), **options)
    assert found.codes.dtype == torch.float64 and torch.equal(found.codes, same.codes)

@pytest.fixture(params=[0, 10**9], ids=['without', 'with'])
def gram_matrix(request, monkeypatch):
    "Both ways to find correlations, whatever the width."
    monkeypatch.setattr('deep_sparse_nb.kernels.active_set._GRAM', request.param)
    return request.param

DEGENERATE = {
    'rank 2': lambda g: g.normal(size=(50, 2)) @ g.normal(size=(2, 32)),
    'rank 5': lambda g: g.normal(size=(50, 5)) @ g.normal(size=(5, 32)),
    'rank 1, one sign': lambda g: abs(g.normal(size=(50, 1))) @ abs(g.normal(size=(1, 32))),
    'duplicates': lambda g: g.normal(size=(50, 4))[:, g.integers(0, 4, 32)],
    'both signs': lambda g: (lambda D: np.concatenate([D, -D], 1))(g.normal(size=(50, 16))),
    'zero atoms': lambda g: g.normal(size=(50, 32))*(g.random(32) < .5),
    'all zero': lambda g: np.zeros((50, 32)),
    'huge': lambda g: 1e150*g.normal(size=(50, 5)) @ g.normal(size=(5, 32)),
    'tiny': lambda g: 1e-150*g.normal(size=(50, 32)),
    'of many sizes': lambda g: g.normal(size=(50, 32))*10.**g.uniform(-12, 12, 32)}

@pytest.mark.parametrize('kind', DEGENERATE)
@pytest.mark.parametrize('share', [0., 1e-12, 1e-10, 1e-8, 1e-6, 1e-3, .5, 10., 1e200])
def test_degenerate_dictionaries_give_finite_codes_and_true_certificates(gram_matrix, kind, share):
    g = np.random.default_rng(0)
    D = DEGENERATE[kind](g)
    Y = np.concatenate([g.normal(size=(30, 50)), g.normal(size=(10, 32)) @ D.T/max(D.max(), 1e-300),
                        np.zeros((1, 50))])
    top = (2/50*(Y @ D)).max()
    lam = share*top if share < 1e100 else share
    found = exact_codes(torch.tensor(Y), torch.tensor(D), lam, threads=1)
    Z = found.codes.numpy()
    assert np.isfinite(Z).all() and (Z >= 0).all() and found.residual.isfinite().all()
    largest = (2/50*abs(Y @ D)).max(1)
    off = abs(violations(Y, D, Z, lam) - found.residual.numpy())
    assert (off <= 1e-9*largest + 1e-300).all()
    slack = np.maximum(1e-6*lam/2, 1e-12*largest.clip(min=0))
    assert (found.residual.numpy() <= slack*1.001)[found.converged.numpy()].all()
    if share >= 1e-6: assert found.converged.all()
    if kind != 'of many sizes':      # no code runs away along a direction that costs nothing
        shortest = np.linalg.norm(Y, axis=1)/max(abs(D).max(), 1e-300)
        assert (np.linalg.norm(Z, axis=1) <= 1e4*shortest).all()

def test_both_ways_find_the_same_codes(monkeypatch):
    g = np.random.default_rng(0)
    D, Y = torch.tensor(g.normal(size=(40, 100))), torch.tensor(g.normal(size=(300, 40)))
    guess = torch.tensor(g.random((300, 100)))
    for gamma in (0., .5):
        options = dict(encoded=guess) if gamma else {}
        with_it = Prepared(D, gamma).codes(Y, .03, **options).codes
        monkeypatch.setattr('deep_sparse_nb.kernels.active_set._GRAM', 0)
        without = Prepared(D, gamma).codes(Y, .03, **options).codes
        monkeypatch.undo()
        torch.testing.assert_close(with_it, without, atol=1e-9, rtol=0)

@pytest.mark.parametrize('positive', [True, False])
def test_a_wide_dictionary_agrees_with_scikit_learn(positive):
    g = np.random.default_rng(0)
    D = g.normal(size=(256, 2048))
    D /= np.linalg.norm(D, axis=0)
    Y = g.normal(size=(100, 2048))*(g.random((100, 2048)) < .01) @ D.T
    prepared = Prepared(torch.tensor(D), positive=positive)
    lam = prepared.lam_for(torch.tensor(Y), 12)
    found = prepared.codes(torch.tensor(Y), lam)
    assert found.converged.all()
    lasso = Lasso(alpha=lam/2, positive=positive, fit_intercept=False, tol=1e-13, max_iter=10_000)
    theirs = lasso.fit(D, Y.T).coef_
    np.testing.assert_allclose(found.codes, theirs, atol=1e-6)

def test_the_weight_for_a_number_of_atoms_and_a_warm_start(gram_matrix):
    g = np.random.default_rng(0)
    D, Y = torch.tensor(g.normal(size=(40, 100))), torch.tensor(g.normal(size=(300, 40)))
    prepared = Prepared(D)
    lam = prepared.lam_for(Y, 7)
    cold = prepared.codes(Y, lam)
    assert abs((cold.codes > 0).sum(1).double().mean().item() - 7) < .1
    for start in (prepared.codes(Y, 2*lam, sparse=True).codes, prepared.codes(Y, lam/2).codes,
                  torch.ones(300, 100)):
        warm = prepared.codes(Y, lam, start=start)
        assert warm.converged.all()
        torch.testing.assert_close(warm.codes, cold.codes, atol=1e-9, rtol=0)
    sparse = prepared.codes(Y, lam, sparse=True).codes
    assert (sparse.toarray() == cold.codes.numpy()).all()

@pytest.mark.parametrize('positive', [True, False])
def test_least_squares_on_the_support(gram_matrix, positive):
    g = np.random.default_rng(0)
    D, Y = g.normal(size=(40, 100)), g.normal(size=(50, 40))
    prepared = Prepared(torch.tensor(D), positive=positive)
    Z = prepared.codes(torch.tensor(Y), .03).codes
    refitted = prepared.refit(torch.tensor(Y), Z)
    again = prepared.codes(torch.tensor(Y), .03, refit=True).codes
    torch.testing.assert_close(refitted, again, atol=1e-9, rtol=0)
    for y, z, ours in zip(Y, Z.numpy(), refitted.numpy()):
        inside = np.flatnonzero(z)
        signs = np.sign(z[inside])
        theirs = np.zeros(100)
        theirs[inside] = signs*nnls(D[:, inside]*signs, y)[0]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)

def test_least_squares_on_more_atoms_than_there_are_pixels():
    g = np.random.default_rng(0)
    D, Y = g.normal(size=(10, 60)), g.normal(size=(20, 10))
    refitted = Prepared(torch.tensor(D)).refit(torch.tensor(Y), torch.ones(20, 60)).numpy()
    theirs = np.stack([nnls(D, y)[0] for y in Y])
    assert (refitted >= 0).all()
    np.testing.assert_allclose(energies(Y, D, refitted, 0), energies(Y, D, theirs, 0), atol=1e-10)

def refused(cause, call, *args, **options):
    with pytest.raises(ValueError, match=cause): call(*args, **options)

def test_a_prepared_dictionary_refuses_by_name(problem):
    Y, D = problem
    prepared = Prepared(D)
    refused('D is not finite', Prepared, D*float('nan'))
    refused('D has shape', Prepared, D[None])
    refused('gamma is -1', Prepared, D, gamma=-1)
    refused('gamma is 1', Prepared, D, gamma=1., positive=False)
    refused('Y has shape', prepared.codes, Y[:, :3], .1)
    refused('Y .*not finite', prepared.codes, Y*float('nan'), .1)
    refused('lam is', prepared.codes, Y, -1.)
    refused('n_nonzero is 0', prepared.lam_for, Y, 0)
    refused('n_nonzero is 21', prepared.lam_for, Y, 21)
    refused('Y has no rows', prepared.lam_for, Y[:0], 3)
    refused('start has shape', prepared.codes, Y, .1, start=torch.ones(3, 20))
    refused('codes has shape', prepared.refit, Y, torch.ones(3, 20))
    refused('codes has negative', prepared.refit, Y, -torch.ones(50, 20))
    refused('overflow', Prepared(1e-300*D).codes, 1e300*Y, 0.)
