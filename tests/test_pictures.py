"Pixels that count, and whole pictures, denoised and inpainted."
import pytest
import torch
from torch import nn

from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder, as_decoder
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.inference import Masked, fista


class Curved(nn.Module):
    "A decoder of nobody's kind."
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 20), nn.Tanh(), nn.Linear(20, 64))

    def forward(self, Z): return self.layers(Z)


torch.manual_seed(0)
DECODERS = {'linear': LinearDecoder(16, 64), 'hidden': HiddenDecoder(16, 40, 64), 'own': Curved(),
            'stack': stack([LinearDecoder(16, 64, seed) for seed in range(3)])}


# ---- pixels that count ----

def some(n=30, seed=0):
    "Images, codes, and which pixels count."
    rng = torch.Generator().manual_seed(seed)
    Y, _, Z = planted(n, noise=.05, seed=seed)
    return Y, Z, torch.rand(Y.shape, generator=rng) < .6


@pytest.mark.parametrize('name', DECODERS)
def test_masked_gradient_is_the_energys(name):
    "By autograd, in double precision, of the sum over the pixels that count."
    decoder, (Y, Z, counts) = DECODERS[name].double(), some()
    Y, Z = Y.double(), Z.double().expand(3, -1, -1).clone() if name == 'stack' else Z.double()
    at = Z.requires_grad_()
    loss = torch.where(counts, (Y - decoder(at)).square(), 0).sum()/64
    expected, = torch.autograd.grad(loss, at)
    seen = Masked(as_decoder(decoder), counts)
    found = seen.reconstruction_gradient(torch.where(counts, Y, 0)).full(Z.detach())
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    decoder.float()


@pytest.mark.parametrize('kernel', ['auto', 'plain'])
@pytest.mark.parametrize('step', ['auto', 'backtracking'])
@pytest.mark.parametrize('name', DECODERS)
def test_a_mask_of_ones_is_none(name, step, kernel):
    decoder, (Y, Z, _) = DECODERS[name], some()
    options = dict(start=Z/2, step=step, kernel=kernel, max_iters=40, certify=True)
    energy = Energy(lam=.01, beta=1.)
    found = fista(Y, decoder, energy, mask=torch.ones(64, dtype=torch.bool), **options)
    expected = fista(Y, decoder, energy, **options)
    assert torch.allclose(found.codes, expected.codes, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', DECODERS)
def test_hidden_pixels_do_not_matter(name):
    decoder, (Y, Z, counts) = DECODERS[name], some()
    energy, options = Energy(lam=.01), dict(start=Z/2, mask=counts, step='auto', max_iters=60)
    first, second = (fista(torch.where(counts, Y, there), decoder, energy, **options)
                     for there in (1e6, torch.nan))
    assert first.codes.equal(second.codes)
    everything = fista(Y, decoder, energy, start=Z/2, step='auto', max_iters=60).codes
    assert not torch.allclose(first.codes, everything, atol=1e-2)


def test_a_whole_row_and_nothing_at_all():
    "Masks are each image's own: one that is whole is coded as without; one that is hidden, as 0."
    decoder, (Y, _, counts) = LinearDecoder(16, 64), some()
    counts[0], counts[1] = True, False
    found = fista(Y, decoder, Energy(lam=.001), mask=counts, step='auto', tol=1e-6, max_iters=2000)
    alone = fista(Y[:1], decoder, Energy(lam=.001), step='auto', tol=1e-6, max_iters=2000)
    assert torch.allclose(found.codes[0], alone.codes[0], atol=1e-3) and not found.codes[1].any()


def test_masked_codes_are_stationary():
    decoder, (Y, _, counts) = LinearDecoder(16, 64), some()
    found = fista(Y, decoder, Energy(lam=.001), mask=counts, step='auto', restart=True, tol=1e-8,
                  max_iters=5000, certify=True)
    assert found.residual.max() < 1e-5


@pytest.mark.parametrize('mask, said', [
    (torch.ones(64), 'mask has type torch.float32; it must be bool'),
    (torch.ones(63, dtype=torch.bool), r'mask has shape \(63,\); it must broadcast with Y')])
def test_bad_masks(mask, said):
    with pytest.raises(ValueError, match=said):
        fista(some()[0], LinearDecoder(16, 64), Energy(lam=.01), mask=mask)


def test_hidden_pixels_may_be_nan_and_others_not():
    Y, _, counts = some()
    Y[3, 5], counts[3, 5] = torch.nan, True
    with pytest.raises(ValueError, match='Y is not finite'):
        fista(Y, LinearDecoder(16, 64), Energy(lam=.01), mask=counts)
