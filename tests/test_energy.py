"The energy: edge cases, and derivatives on random batches."
import pytest
import torch
from hypothesis import given, settings, strategies as st
from deep_sparse_nb.energy import Energy, hinge, hinge_gradient, planted

@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 9), l=st.integers(1, 6), T=st.floats(.05, 3), seed=st.integers(0, 10**6))
def test_hinge_gradient_is_autograds(n, l, T, seed):
    Z = torch.randn(n, l, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(seed)).requires_grad_()
    auto, = torch.autograd.grad(hinge(Z, T), Z)
    assert torch.allclose(auto, hinge_gradient(Z.detach(), T), rtol=1e-9, atol=1e-12)

@pytest.mark.parametrize('value', [0., 1., -3., .7, 1e-30, 1e5 + .1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_hinge_gradient_of_equal_codes_is_zero(value, dtype):
    for n in (2, 4, 11, 250):
        assert (hinge_gradient(torch.full((n, 2), value, dtype=dtype)) == 0).all()

def test_hinge_needs_two_samples():
    with pytest.raises(ValueError, match='n >= 2'):
        Energy(0, beta=1.).value(torch.ones(1, 3), torch.ones(1, 4), torch.ones(1, 4))

def test_one_sample_without_hinge():
    assert Energy(2.).value(torch.ones(1, 3), torch.ones(1, 4), torch.zeros(1, 4)) == 1 + 6

@pytest.mark.parametrize('name', ['lam', 'beta', 'T', 'gamma'])
@pytest.mark.parametrize('bad', [-1., float('nan'), float('inf')])
def test_coefficients_are_checked(name, bad):
    with pytest.raises(ValueError, match=f'^{name} is'): Energy(**{'lam': 0., name: bad})

def test_gamma_needs_an_encoder():
    with pytest.raises(ValueError, match='encoded='):
        Energy(0., gamma=1.).value(torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 4))

def test_coefficients_broadcast_over_models():
    Z, Y = torch.rand(3, 5, 4), torch.rand(5, 7)
    Yhat, guess = torch.rand(3, 5, 7), torch.rand(3, 5, 4)
    c = dict(lam=torch.tensor([.1, .2, .3]), beta=torch.tensor([0., 1., 2.]),
             T=torch.tensor([1., 2., 3.]), gamma=torch.tensor([1., 0., 2.]))
    together = Energy(**c).value(Z, Y, Yhat, guess)
    alone = [Energy(**{k: v[i].item() for k, v in c.items()}).value(Z[i], Y, Yhat[i], guess[i])
             for i in range(3)]
    assert torch.allclose(together, torch.stack(alone))

def test_planted_refuses_impossible_images():
    with pytest.raises(ValueError, match='^k is 17'): planted(3, side=8, k=17)

def example(n=6, l=5, d=7, seed=0):
    "Codes of both signs, images, what a dictionary makes of the codes, and an encoder's guess."
    rng = torch.Generator().manual_seed(seed)
    Z, Y, D, guess = (torch.randn(*s, generator=rng, dtype=torch.double)
                      for s in ((n, l), (n, d), (d, l), (n, l)))
    return Z, Y, D, guess

def test_gradient_is_autograds_of_all_but_the_l1_term():
    Z, Y, D, guess = example()
    energy = Energy(.3, beta=2., T=1.2, gamma=.7)
    Z.requires_grad_()
    reconstruction, = torch.autograd.grad((Y - Z @ D.T).square().mean(-1).sum(), Z)
    smooth = (Y - Z @ D.T).square().sum()/7 + 2*hinge(Z, 1.2) + .7*(Z - guess).square().sum()/5
    expected, = torch.autograd.grad(smooth, Z)
    found = energy.gradient(Z.detach(), reconstruction, guess)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    whole = energy.value(Z.detach(), Y, Z.detach() @ D.T, guess)
    torch.testing.assert_close(whole, (smooth + .3*Z.abs().sum()).detach(), rtol=1e-12, atol=0)

def test_from_written_is_equation_15_but_for_a_factor():
    Z, Y, D, guess = example(seed=1)
    (d, l), written = D.shape, dict(lam=.3, beta=2., T=1.2, gamma=.7)
    equation15 = ((Y - Z @ D.T).square().sum()/2 + 2*hinge(Z, 1.2)
                  + .7*(Z - guess).square().sum() + .3*Z.abs().sum())
    ours = Energy.from_written(d=d, l=l, **written).value(Z, Y, Z @ D.T, guess)
    torch.testing.assert_close(d/2*ours, equation15, rtol=1e-12, atol=0)
