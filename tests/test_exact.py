"Exact codes: random and awkward problems, judged by duality gap, optimality conditions and others' solvers."
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

pytest.importorskip('numba')
from deep_sparse_nb.exact import exact, exact_codes, signed  # noqa: E402


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
    kind = draw(st.sampled_from(['plain', 'positive', 'duplicates', 'near', 'zero', 'lowrank', 'scaled']))
    if kind == 'positive': D = abs(D)
    if kind == 'duplicates': D = D[:, half]
    if kind == 'near': D = D[:, half] + 10.**-draw(st.integers(2, 9))*rng.normal(size=(d, l))
    if kind == 'zero': D[:, rng.random(l) < .3] = 0
    if kind == 'lowrank': r = max(1, min(d, l)//3); D = rng.normal(size=(d, r)) @ abs(rng.normal(size=(r, l)))
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
    assert (duality_gaps(Y, D, Z, lam) <= tol*1.001*energies(Y, D, Z, lam) + 1e-12*(Y**2).mean(1)).all()
    largest = (2/len(D)*abs(Y @ D)).max(1)
    assert (abs(violations(Y, D, Z, lam) - found.residual.numpy()) <= 1e-10*largest + 1e-300).all()


@pytest.mark.parametrize('positive, method', [(True, exact), (False, signed)])
def test_agrees_with_scikit_learn(positive, method):
    rng = np.random.default_rng(0)
    for _ in range(10):
        D, Y = rng.normal(size=(30, 20)), rng.normal(size=(5, 30))
        lasso = Lasso(alpha=.05/2, positive=positive, fit_intercept=False, tol=1e-14, max_iter=100_000)
        np.testing.assert_allclose(method(*gram(Y, D), .05).codes, np.stack([lasso.fit(D, y).coef_ for y in Y]), atol=1e-6)


@pytest.mark.parametrize('d, l', [(30, 20), (20, 30), (50, 50)])
def test_without_l1_it_is_non_negative_least_squares(d, l):
    rng = np.random.default_rng(0)
    D, Y = rng.normal(size=(d, l)), rng.normal(size=(20, d))
    found, theirs = exact(*gram(Y, D), 0.), np.stack([nnls(D, y)[0] for y in Y])
    assert found.converged.all()
    np.testing.assert_allclose(energies(Y, D, found.codes.numpy(), 0), energies(Y, D, theirs, 0), atol=1e-11)


@pytest.mark.parametrize('lam', [1e-2, 1e-3, 1e-5, 0.])
def test_large_supports(lam):
    rng = np.random.default_rng(0)
    Y, D = rng.normal(size=(10, 784)), rng.normal(size=(784, 256))
    D /= np.linalg.norm(D, axis=0)
    found = exact(*gram(Y, D), lam, tol=1e-9)
    assert found.converged.all() and (violations(Y, D, found.codes.numpy(), lam) <= max(1e-9*lam/2, 1e-12)).all()


@pytest.fixture
def problem():
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.double)
    return draw(50, 30), draw(30, 20)   # Y (n, d), D (d, l)


def test_nothing_to_find(problem):
    H, B = gram(*problem)
    for found in (exact(H, B, 1e3), exact(H, B*0, 0.)): assert (found.codes == 0).all() and found.converged.all()
    assert exact(H, B[:0], .1).codes.shape == exact_codes(problem[0][:0], problem[1], .1).codes.shape == (0, 20)


def test_largest_support(problem):
    full, short = exact(*gram(*problem), .001), exact(*gram(*problem), .001, most=3)
    k = (short.codes > 0).sum(1)
    assert k.max() == 3 and (full.codes > 0).sum(1).max() > 3
    assert ((full.codes > 0).sum(1)[short.converged] <= 3).all() and (short.residual[~short.converged] > 0).all()
    assert torch.allclose(short.codes[short.converged], full.codes[short.converged])


def test_threads_change_nothing(problem):
    Y, D = problem[0].repeat(50, 1), problem[1]
    before = torch.get_num_threads()
    assert torch.equal(exact_codes(Y, D, .01, threads=1).codes, exact_codes(Y, D, .01, threads=2).codes)
    assert torch.get_num_threads() == before


def test_inputs_stay_as_they_are(problem):
    Y, D = (t.float().requires_grad_() for t in problem)
    copies = Y.detach().clone(), D.detach().clone()
    codes = exact_codes(Y, D, .01).codes
    assert not codes.requires_grad and torch.equal(Y, copies[0]) and torch.equal(D, copies[1])


def test_single_precision_images_get_exact_codes(problem):
    Y, D = (t.float() for t in problem)
    Z = exact_codes(Y, D, .001, tol=1e-6).codes.numpy()
    Y, D = (t.double().numpy() for t in (Y, D))
    assert (duality_gaps(Y, D, Z, .001) <= 1e-6*energies(Y, D, Z, .001)).all()


def test_a_stack_is_its_models(problem):
    Y, D = problem
    lams = torch.tensor([.001, .01])
    together = exact_codes(Y, torch.stack([D, 2*D]), lams).codes
    for Z, W, lam in zip(together, (D, 2*D), lams): assert torch.allclose(Z, exact_codes(Y, W, lam).codes)
    together = exact_codes(torch.stack([Y, Y + 1]), torch.stack([D, 2*D]), .001).codes
    for Z, X, W in zip(together, (Y, Y + 1), (D, 2*D)): assert torch.allclose(Z, exact_codes(X, W, .001).codes)


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


def test_bad_input_is_refused(problem):
    (Y, D), (H, B) = problem, gram(*problem)
    for H_, B_, lam, options in [(H[:3], B, .1, {}), (H*float('inf'), B, .1, {}), (H, B*float('nan'), .1, {}), (H, B, -1., {}),
                                 (H, B, .1, dict(most=0)), (H, B, .1, dict(tol=0.))]:
        with pytest.raises(ValueError): exact(H_, B_, lam, **options)
    with pytest.raises(ValueError, match='encoded'): exact_codes(Y, D, .01, gamma=1.)
    with pytest.raises(ValueError, match='gamma'): exact_codes(Y, D, .01, gamma=-1.)
    with pytest.raises(ValueError, match='pixels'): exact_codes(Y[:, :3], D, .01)
