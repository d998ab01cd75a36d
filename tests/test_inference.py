"Inference: what must hold for any decoder, any energy, any batch."
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from deep_sparse_nb.decoders import (HiddenDecoder, HiddenGradient, LinearDecoder, _curvature,
                                     _as_decoder)
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.inference import Diverged, fista, lipschitz
from deep_sparse_nb.iteration import shrink

FULL = Energy(lam=.01, beta=3., T=.5, gamma=.5)

def problem(n=12, l=10, d=20, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    decoder = LinearDecoder(l, d, seed).to(dtype)
    decoder.normalize_()
    Y = torch.randn(n, d, generator=rng, dtype=dtype)
    return Y, decoder, torch.rand(n, l, generator=rng, dtype=dtype)

class Disguised(nn.Module):
    def __init__(self, decoder): super().__init__(); self.decoder = decoder
    def forward(self, Z): return self.decoder(Z)

@pytest.mark.parametrize('decoder', [LinearDecoder(10, 20), HiddenDecoder(10, 15, 20)],
                         ids=['linear', 'hidden'])
def test_explicit_gradients_are_autograds(decoder):
    Y, _, Z = problem()
    explicit, auto = (_as_decoder(d).reconstruction_gradient(Y).full(Z)
                      for d in (decoder, Disguised(decoder)))
    assert (explicit - auto).norm() < 1e-5 * auto.norm()

@pytest.mark.parametrize('energy', [Energy(.01), Energy(.01, gamma=.5), FULL],
                         ids=['lasso', 'encoder', 'full'])
@pytest.mark.parametrize('decoder', [LinearDecoder(10, 20), HiddenDecoder(10, 15, 20)],
                         ids=['linear', 'hidden'])
def test_codes_do_not_depend_on_how_the_gradient_is_taken(decoder, energy):
    Y, _, guess = problem()
    a, b = (fista(Y, d, energy, encoded=guess, step=.5, tol=1e-12, max_iter=50)
            for d in (decoder, Disguised(decoder)))
    assert (a.codes - b.codes).norm() < 1e-5 * b.codes.norm()

@pytest.mark.parametrize('step', [.5, 'auto', 'backtracking'])
@pytest.mark.parametrize('positive', [True, False])
def test_converges_to_a_certified_optimum(step, positive):
    Y, decoder, _ = problem(dtype=torch.float64)
    found = fista(Y, decoder, Energy(.02), step=step, positive=positive, restart=True, tol=1e-10,
                  max_iter=20_000, certify=True)
    assert found.converged.all() and found.gap.max() < 1e-8 and found.gap.dtype == torch.float64
    assert (found.codes.min() < 0) != positive

def test_gap_bounds_what_could_be_saved():
    Y, decoder, guess = problem(dtype=torch.float64)
    energy = Energy(.02, gamma=.3)
    value = lambda Z: torch.stack([energy.value(z[None], y[None], decoder(z[None]), g[None])
                                   for z, y, g in zip(Z, Y, guess)])
    best = value(fista(Y, decoder, energy, encoded=guess, step='auto', restart=True, tol=1e-13,
                       max_iter=20_000).codes)
    for k in (1, 5, 20):
        rough = fista(Y, decoder, energy, encoded=guess, step='auto', max_iter=k, certify=True)
        saved = (value(rough.codes) - best)/value(rough.codes)
        assert (rough.gap >= saved - 1e-12).all() and rough.gap.max() > 0

def test_an_optimum_is_a_fixed_point():
    Y, decoder, guess = problem(dtype=torch.float64)
    best = fista(Y, decoder, FULL, encoded=guess, step=.1, tol=1e-13, max_iter=50_000,
                 certify=True)
    again = fista(Y, decoder, FULL, encoded=guess, start=best.codes, step=.1)
    assert best.residual.max() < 1e-9
    assert (again.iterations == 1).all() and torch.allclose(again.codes, best.codes, atol=1e-9)

def test_residual_sees_a_code_that_is_not_optimal():
    Y, decoder, guess = problem()
    assert (fista(Y, decoder, FULL, encoded=guess, max_iter=1, certify=True).residual > 1e-4).all()

@pytest.mark.parametrize('energy', [Energy(.01), FULL], ids=['lasso', 'full'])
def test_permuting_the_batch_permutes_the_codes(energy):
    Y, decoder, guess = problem(dtype=torch.float64)
    order = torch.randperm(len(Y))
    a = fista(Y, decoder, energy, encoded=guess)
    b = fista(Y[order], decoder, energy, encoded=guess[order])
    assert torch.allclose(a.codes[order], b.codes, rtol=1e-9)
    assert (a.iterations[order] == b.iterations).all()

@pytest.mark.parametrize('kind', ['linear', 'hidden'])
def test_a_stack_is_its_members(kind):
    Y, _, guess = problem()
    alone = [LinearDecoder(10, 20, s) if kind == 'linear' else HiddenDecoder(10, 15, 20, s)
             for s in range(3)]
    lam, step = torch.tensor([.005, .01, .02]), torch.tensor([.3, .5, .4])
    together = fista(Y, stack(alone), Energy(lam, beta=3., gamma=.5), encoded=guess, step=step)
    for i, decoder in enumerate(alone):
        one = fista(Y, decoder, Energy(lam[i], beta=3., gamma=.5), encoded=guess,
                    step=step[i].item())
        assert torch.allclose(one.codes, together.codes[i], atol=1e-5)
        assert ((one.iterations - together.iterations[i]).abs() <= 1).all()

def test_inputs_are_left_alone():
    Y, decoder, guess = problem()
    before = [x.clone() for x in (Y, guess, decoder.W)]
    fista(Y, decoder, FULL, encoded=guess, certify=True)
    fista(Y, decoder, FULL, encoded=guess, start=guess)
    assert all(torch.equal(x, y) for x, y in zip(before, (Y, guess, decoder.W)))

def test_one_sample():
    Y, decoder, _ = problem(n=1)
    assert fista(Y, decoder, Energy(.01)).codes.shape == (1, 10)
    with pytest.raises(ValueError, match='n >= 2'): fista(Y, decoder, Energy(.01, beta=1.))

def test_a_zero_code_stops_at_once():
    Y, decoder, _ = problem()
    found = fista(Y, decoder, Energy(lam=1e3))
    assert (found.codes == 0).all() and (found.iterations == 1).all() and found.converged.all()

def test_a_stopped_sample_does_not_drift():
    Y, decoder, _ = problem()
    seen = []
    found = fista(Y, decoder, Energy(.01), tol=1e-2, watch=lambda k, Z: seen.append(Z.clone()))
    assert found.iterations.min() < found.iterations.max()
    for i, k in enumerate(found.iterations): assert torch.equal(found.codes[i], seen[k - 1][i])

@pytest.mark.parametrize('energy', [Energy(.01, gamma=.5), FULL], ids=['plain', 'hinged'])
def test_frozen_samples_cost_no_product_and_change_no_other(energy, monkeypatch):
    seen, whole = [], HiddenGradient.products
    monkeypatch.setattr(HiddenGradient, 'products',
                        lambda self, Z: (seen.append(Z.shape[-2]), whole(self, Z))[1])
    both = stack([HiddenDecoder(10, 15, 20, s) for s in (0, 1)]).double()
    Y, _, guess = problem(dtype=torch.float64)
    options = dict(encoded=guess.expand(2, -1, -1), step=.1, max_iter=1000, freeze_converged=True)
    found = fista(Y, both, energy, **options)
    assert found.converged.all() and seen[0] == len(Y) and seen[-1] < .5*len(Y)
    assert sorted(seen, reverse=True) == seen
    reference = fista(Y, Disguised(both), energy, **options)
    assert torch.allclose(found.codes, reference.codes, rtol=1e-9, atol=1e-12)
    assert (found.iterations == reference.iterations).all()

def test_a_stack_of_one_keeps_its_dimension():
    Y, _, guess = problem(n=20)
    for alone in (LinearDecoder(10, 20), HiddenDecoder(10, 15, 20)):
        one = stack([alone])
        assert one(guess).shape == (1, 20, 20)
        assert torch.allclose(one(guess)[0], alone(guess), atol=1e-6)
        for images in (Y, Y[None]):
            found = fista(images, one, Energy(.01), start=guess, step=.5)
            assert found.codes.shape == (1, 20, 10)
            expected = fista(Y, alone, Energy(.01), start=guess, step=.5)
            assert torch.allclose(found.codes[0], expected.codes, atol=1e-5)

def test_a_hinge_hardly_sees_whether_samples_freeze():
    Y, decoder, guess = problem(n=60, dtype=torch.float64)
    moving, frozen = (fista(Y, decoder, FULL, encoded=guess, freeze_converged=freeze).codes
                      for freeze in (False, True))
    assert 0 < (moving - frozen).norm() < 1e-3*moving.norm()

def test_lipschitz_bounds_the_hinge_too():
    Y, decoder, guess = problem(dtype=torch.float64)
    gradient, energy = decoder.reconstruction_gradient(Y), Energy(.01, beta=30., gamma=2.)
    smooth = lambda Z: energy.gradient(Z, gradient.full(Z), guess)
    hessian = torch.autograd.functional.jacobian(smooth, guess/20).reshape(guess.numel(), -1)
    largest = torch.linalg.eigvalsh((hessian + hessian.T)/2).max()
    assert largest <= lipschitz(decoder, energy, len(Y)) * (1 + 1e-9)

def test_curvature_is_that_of_each_code():
    decoder = stack([HiddenDecoder(10, 15, 20, s) for s in (0, 1)]).double()
    Z = torch.rand(2, 3, 10).double()
    alone = lambda s, i: torch.func.jacrev(lambda z: (decoder.W1[s] @ z + decoder.b1[s]).relu()
                                           @ decoder.W2[s].T)(Z[s, i])
    true = torch.stack([torch.stack([2/20*torch.linalg.matrix_norm(alone(s, i), 2)**2
                                     for i in range(3)]) for s in (0, 1)])
    assert torch.allclose(_curvature(decoder, Z, 500), true)
    W = stack([LinearDecoder(10, 20, s) for s in (0, 1)])
    assert torch.allclose(_curvature(W, Z.float(), 200),
                          lipschitz(W, Energy(.1), 5)[:, None].expand(2, 3), rtol=1e-3)

@pytest.mark.parametrize('old, new', [('max_iters', 'max_iter'), ('nonneg', 'positive')])
def test_old_spellings_are_refused_with_the_new(old, new):
    Y, decoder, _ = problem()
    with pytest.raises(TypeError, match=f'{old}.*{new}'):
        fista(Y, decoder, Energy(.01), **{old: 1})

@pytest.mark.parametrize('plain', [True, False])
def test_overflow_is_reported(plain):
    Y, decoder, _ = problem()
    with pytest.raises(Diverged, match='step 1000'):
        fista(Y, Disguised(decoder) if plain else decoder, Energy(.01), start=torch.ones(12, 10),
              step=1e3, max_iter=500)

@given(v=st.floats(-5, 5), alpha=st.floats(0, 3))
def test_shrink_minimizes_what_it_promises(v, alpha):
    v = torch.tensor(v, dtype=torch.float64)
    for positive in (True, False):
        z = shrink(v, alpha, positive)
        cost = lambda u: .5*(u - v)**2 + alpha*u.abs()
        for u in (z + .01, z - .01, torch.zeros(())):
            assert cost(z) <= cost(u) + 1e-12 or (positive and u < 0)


