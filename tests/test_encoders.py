"LISTA: Algorithm 1 of the paper, step by step, and the gradient of what it misses."
import pytest
import torch
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.encoders import LISTA

def example(L, seed=0, n=7, d=6, l=5):
    "An encoder in double precision with a bias that is not zero, and images."
    rng = torch.Generator().manual_seed(seed)
    encoder = LISTA(d, l, L, seed).double()
    for p in encoder.parameters():
        p.data = torch.randn(p.shape, generator=rng, dtype=torch.double)/2
    return encoder, torch.randn(n, d, generator=rng, dtype=torch.double)

def by_hand(encoder, y, L):
    "Algorithm 1 for one image: z = (u)+, then L times z = (u + S z)+, with u = U'y + b."
    U, S, b = (p.detach().numpy() for p in (encoder.U, encoder.S, encoder.b))
    u = U.T @ y.numpy() + b
    z = u.clip(min=0)
    for _ in range(L): z = (u + S @ z).clip(min=0)
    return torch.tensor(z)

@pytest.mark.parametrize('L', [0, 1, 2, 3, 6])
def test_lista_takes_its_steps(L):
    encoder, Y = example(L)
    codes = encoder(Y)
    expected = torch.stack([by_hand(encoder, y, L) for y in Y])
    torch.testing.assert_close(codes, expected, rtol=1e-12, atol=1e-12)
    for other in {max(L - 1, 0), L + 1} - {L}:       # one step less or more is something else
        wrong = torch.stack([by_hand(encoder, y, other) for y in Y])
        assert (codes - wrong).norm() > .01*codes.norm()
    layers = encoder.layers(Y)
    assert len(layers) == L + 1
    for k, Z in enumerate(layers):
        expected = torch.stack([by_hand(encoder, y, k) for y in Y])
        torch.testing.assert_close(Z, expected, rtol=1e-12, atol=1e-12)

def test_lista_has_the_papers_shapes():
    encoder = LISTA(d=6, l=5)
    shapes = {k: tuple(p.shape) for k, p in encoder.named_parameters()}
    assert shapes == dict(U=(6, 5), S=(5, 5), b=(5,))
    assert encoder.L == 3 and (encoder.b == 0).all()
    assert encoder(torch.randn(4, 6)).shape == (4, 5)
    assert not torch.equal(encoder.U, LISTA(d=6, l=5, seed=1).U)
    with pytest.raises(ValueError, match='L is -1'): LISTA(6, 5, L=-1)

@pytest.mark.parametrize('L', [0, 1, 3])
def test_gradient_is_autograds(L):
    encoder, Y = example(L, seed=1)
    codes = torch.rand(7, 5, dtype=torch.double)
    expected = (encoder(Y) - codes).square().mean()
    gradients = torch.autograd.grad(expected, list(encoder.parameters()), allow_unused=True)
    value, ours = encoder.loss(encoder.layers(Y), codes, Y)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    for name, own, auto in zip('USb', ours, gradients):
        if auto is None: assert L == 0 and name == 'S' and own is None
        else: torch.testing.assert_close(own, auto, rtol=1e-10, atol=1e-12)

def test_a_stack_is_its_members():
    members = [example(3, seed)[0] for seed in range(3)]
    Y = example(3)[1]
    together = stack(members)
    apart = torch.stack([m(Y) for m in members])
    torch.testing.assert_close(together(Y), apart, rtol=1e-12, atol=1e-12)
    codes = torch.rand(3, 7, 5, dtype=torch.double)
    values, gradients = together.loss(together.layers(Y), codes, Y)
    for i, m in enumerate(members):
        value, alone = m.loss(m.layers(Y), codes[i], Y)
        torch.testing.assert_close(values[i], value, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradients[1][i], alone[1], rtol=1e-10, atol=1e-12)
