"The energy: edge cases, and derivatives on random batches."
import pytest
import torch
from hypothesis import given, settings, strategies as st
from deep_sparse_nb.energy import Energy, hinge, hinge_gradient, planted


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 9), l=st.integers(1, 6), T=st.floats(.05, 3), seed=st.integers(0, 10**6))
def test_hinge_gradient_is_autograds(n, l, T, seed):
    Z = torch.randn(n, l, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    auto, = torch.autograd.grad(hinge(Z, T), Z)
    assert torch.allclose(auto, hinge_gradient(Z.detach(), T), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('value', [0., 1., -3.])
def test_hinge_gradient_of_equal_codes_is_zero(value):
    assert (hinge_gradient(torch.full((4, 2), value)) == 0).all()


def test_hinge_needs_two_samples():
    with pytest.raises(ValueError, match='n >= 2'): Energy(0, beta=1.).value(torch.ones(1, 3), torch.ones(1, 4), torch.ones(1, 4))


def test_one_sample_without_hinge():
    assert Energy(2.).value(torch.ones(1, 3), torch.ones(1, 4), torch.zeros(1, 4)) == 1 + 6


@pytest.mark.parametrize('name', ['lam', 'beta', 'T', 'gamma'])
@pytest.mark.parametrize('bad', [-1., float('nan'), float('inf')])
def test_coefficients_are_checked(name, bad):
    with pytest.raises(ValueError, match=f'^{name} is'): Energy(**{'lam': 0., name: bad})


def test_gamma_needs_an_encoder():
    with pytest.raises(ValueError, match='encoded='): Energy(0., gamma=1.).value(torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 4))


def test_coefficients_broadcast_over_models():
    Z, Y = torch.rand(3, 5, 4), torch.rand(5, 7)
    Yhat, guess = torch.rand(3, 5, 7), torch.rand(3, 5, 4)
    c = dict(lam=torch.tensor([.1, .2, .3]), beta=torch.tensor([0., 1., 2.]), T=torch.tensor([1., 2., 3.]), gamma=torch.tensor([1., 0., 2.]))
    together = Energy(**c).value(Z, Y, Yhat, guess)
    alone = [Energy(**{k: v[i].item() for k, v in c.items()}).value(Z[i], Y, Yhat[i], guess[i]) for i in range(3)]
    assert torch.allclose(together, torch.stack(alone))


def test_planted_refuses_impossible_images():
    with pytest.raises(ValueError, match='^k is 17'): planted(3, side=8, k=17)
