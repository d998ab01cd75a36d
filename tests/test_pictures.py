"Pixels that count, and whole pictures, denoised and inpainted."
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deep_sparse_nb.data.arrays import Scaling
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder, as_decoder
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.inference import Masked, fista
from deep_sparse_nb.paper.recipes import recipe
from deep_sparse_nb.pictures import denoise, inpaint, noise_level, noise_weight
from deep_sparse_nb.training import Autoencoder

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
    options = dict(start=Z/2, step=step, kernel=kernel, max_iter=40, certify=True)
    energy = Energy(lam=.01, beta=1.)
    found = fista(Y, decoder, energy, mask=torch.ones(64, dtype=torch.bool), **options)
    expected = fista(Y, decoder, energy, **options)
    assert torch.allclose(found.codes, expected.codes, rtol=1e-3, atol=1e-4)

@pytest.mark.parametrize('name', DECODERS)
def test_hidden_pixels_do_not_matter(name):
    decoder, (Y, Z, counts) = DECODERS[name], some()
    energy, options = Energy(lam=.01), dict(start=Z/2, mask=counts, step='auto', max_iter=60)
    first, second = (fista(torch.where(counts, Y, there), decoder, energy, **options)
                     for there in (1e6, torch.nan))
    assert first.codes.equal(second.codes)
    everything = fista(Y, decoder, energy, start=Z/2, step='auto', max_iter=60).codes
    assert not torch.allclose(first.codes, everything, atol=1e-2)

def test_a_whole_row_and_nothing_at_all():
    "Masks are each image's own: one that is whole is coded as without; one that is hidden, as 0."
    decoder, (Y, _, counts) = LinearDecoder(16, 64), some()
    counts[0], counts[1] = True, False
    found = fista(Y, decoder, Energy(lam=.001), mask=counts, step='auto', tol=1e-6, max_iter=2000)
    alone = fista(Y[:1], decoder, Energy(lam=.001), step='auto', tol=1e-6, max_iter=2000)
    assert torch.allclose(found.codes[0], alone.codes[0], atol=1e-3) and not found.codes[1].any()

def test_hidden_pixels_may_be_nan_and_others_not():
    Y, _, counts = some()
    Y[3, 5], counts[3, 5] = torch.nan, True
    with pytest.raises(ValueError, match='Y is not finite'):
        fista(Y, LinearDecoder(16, 64), Energy(lam=.01), mask=counts)

# ---- whole pictures ----

SIDE = 8

def bars_model():
    "A model that knows the bars of the toy world, and how its patches vary; no encoder."
    made = replace(recipe('mnist', 'DO', .01), l=4*SIDE, unit_columns=False)
    model = Autoencoder.from_recipes([made], [0], SIDE**2)
    model.decoder.W.data = torch.cat([planted(1)[1], -planted(1)[1]], 1)[None]
    return model

def bars_picture(h=40, w=44, seed=0):
    "Grey levels around 120 with patches of bars side by side, and cut off at the border."
    down, right = math.ceil(h/SIDE), math.ceil(w/SIDE)
    tiles = planted(down*right, k=2, seed=seed)[0].reshape(down, right, SIDE, SIDE)
    return (100 + 60*tiles.transpose(1, 2).reshape(down*SIDE, right*SIDE))[:h, :w]

def mse(a, b): return (torch.as_tensor(a).double() - torch.as_tensor(b).double()).square().mean()

NOISY = bars_picture() + 20*torch.randn(40, 44, generator=torch.Generator().manual_seed(1))
FORMS = {
    'float32': NOISY,
    'float64': NOISY.double(),
    'float16': NOISY.half(),
    'numpy': NOISY.numpy(),
    'other bytes': NOISY.numpy().astype('>f8'),
    'read only': np.broadcast_to(NOISY.numpy()[:1], (40, 44)),
    'strided': NOISY.numpy()[::-1, ::2],
    'uint8': NOISY.clamp(0, 255).byte(),
    'numpy uint8': NOISY.clamp(0, 255).byte().numpy(),
    'int32': NOISY.int(),
    'channels first': torch.stack([NOISY, NOISY.flip(0), NOISY.flip(1)]),
    'channels last': np.stack([NOISY, NOISY.flip(0), NOISY.flip(1)], -1),
    'a patch': NOISY[:8, :8],
    'thin': NOISY[:9],
}

@pytest.mark.parametrize('form', FORMS)
def test_pictures_come_back_as_they_went_in(form):
    given = FORMS[form]
    before = given.clone() if torch.is_tensor(given) else given.copy()
    mask = torch.rand(given.shape[-2:] if form != 'channels last' else given.shape[:2]) < .8
    for made in (denoise(bars_model(), given, sigma=20.), inpaint(bars_model(), given, mask)):
        assert type(made) is type(given) and made.shape == given.shape
        kind = given.dtype if torch.is_tensor(given) else given.dtype.newbyteorder('=')
        assert made.dtype == kind
        assert np.isfinite(np.asarray(made, dtype=float)).all()
    assert (np.asarray(given) == np.asarray(before)).all()

def test_noise_goes_and_bars_stay():
    clean, made = bars_picture(), denoise(bars_model(), NOISY, sigma=20., stride=1)
    assert mse(made, clean) < mse(NOISY, clean)/2
    assert mse(denoise(bars_model(), NOISY, sigma=20., strength=20.), clean) > mse(made, clean)

@pytest.mark.parametrize('scale', [1e-3, 1., 1e3])
def test_units_are_the_pictures(scale):
    expected = denoise(bars_model(), NOISY, sigma=20.)
    assert torch.allclose(denoise(bars_model(), scale*NOISY, sigma=20.*scale), scale*expected,
                          rtol=1e-3)

def test_channels_are_taken_one_by_one():
    made = denoise(bars_model(), FORMS['channels last'], sigma=20.)
    for c in range(3):
        alone = denoise(bars_model(), FORMS['channels last'][..., c], sigma=20.)
        assert np.allclose(made[..., c], alone, atol=.5)

def test_holes_are_filled_and_the_rest_is_kept():
    picture = bars_picture(w=40)            # five tiles each way
    rng = torch.Generator().manual_seed(2)
    mask = torch.rand(picture.shape, generator=rng) < .7
    torn = picture.where(mask, torch.tensor(torch.nan))
    made = inpaint(bars_model(), torn, mask, strength=.1, stride=8)
    assert made[mask].equal(picture[mask])
    flat = torch.where(mask, picture, picture[mask].mean())
    assert mse(made, picture) < mse(flat, picture)/20

def test_a_whole_picture_is_its_own_inpainting():
    assert inpaint(bars_model(), NOISY, NOISY == NOISY).equal(NOISY)

@pytest.mark.parametrize('scaling', [None, 'none', 'mean', 'standard', 'features', 'contrast',
                                     Scaling('standard').fit(torch.randn(100, 64)*30)])
def test_scaling_is_undone(scaling):
    made = denoise(bars_model(), NOISY, scaling=scaling, strength=1e-4)
    assert abs(made.mean() - NOISY.mean()) < 3 and mse(made, NOISY) < NOISY.var()

def test_patches_of_other_forms():
    model = bars_model()
    made = denoise(model, NOISY, sigma=20., size=(4, 16))
    assert made.shape == NOISY.shape and mse(made, denoise(model, NOISY, sigma=20.)) > 1

# ---- how strict, and with what model ----

def test_noise_alone_seldom_moves_a_code():
    rng = torch.Generator().manual_seed(0)
    decoder = LinearDecoder(256, 64)
    decoder.normalize_()
    seen = 2/64*(3*torch.randn(20_000, 64, generator=rng)) @ decoder.W.detach()
    assert .02 < (seen > noise_weight(decoder, 3.)).any(1).float().mean() < .12
    assert torch.allclose(noise_weight(decoder, 6.), 2*noise_weight(decoder, 3.))
    assert noise_weight(LinearDecoder(1, 64), 1.) > 0

@pytest.mark.parametrize('form', ['float32', 'numpy', 'channels last', 'channels first', 'int32'])
def test_noise_is_measured(form):
    assert 17 < noise_level(FORMS[form]) < 27           # 20, and the bars' own edges
    flat = torch.full((40, 44), 7.)
    assert noise_level(flat) == 0 and denoise(bars_model(), flat).equal(flat)
    with pytest.raises(ValueError, match='picture has 1 x 44 pixels'): noise_level(flat[:1])

def test_without_sigma_it_is_measured():
    expected = denoise(bars_model(), NOISY, sigma=noise_level(NOISY))
    assert denoise(bars_model(), NOISY).equal(expected)

def test_pixels_as_atoms_are_kept_or_not():
    "The l1 term chooses and does not shrink: what is left is hard thresholding."
    made = replace(recipe('mnist', 'DO', .01), l=128, unit_columns=False)
    model = Autoencoder.from_recipes([made], [0], 64)
    model.decoder.W.data = torch.cat([torch.eye(64), -torch.eye(64)], 1)[None]
    picture = 100 + 10*torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    away = picture - picture.mean()
    for sigma in (1., 3., 10.):
        kept = away.abs() > sigma*math.sqrt(2*math.log(128))
        expected = picture.mean() + away.where(kept, torch.tensor(0.))
        found = denoise(model, picture, sigma=sigma)
        assert torch.allclose(found, expected, atol=.05) and (kept.any() or sigma == 10)

def colours():
    "A coder of colour patches (n, 8, 8, 3), and a picture (40, 44, 3)."
    tint = torch.tensor([1., .5, -.5])
    rows = planted(400, k=2)[0].reshape(-1, SIDE, SIDE, 1)*tint
    rows = rows - rows.mean((1, 2), keepdim=True)
    coder = SparseCoder(32, alpha=.02, encoder=None, max_epochs=30, random_state=0, device='cpu',
                        batch_size=100).fit(rows.numpy())
    return coder, 100 + 60*(bars_picture()[..., None] - 100)/60*tint

def test_coders_of_colour_patches():
    "With channels last, as they were learned from; both forms of a picture are understood."
    coder, clean = colours()
    noisy = clean + 10*torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    made = denoise(coder, noisy, sigma=10.)
    assert mse(made, clean) < mse(noisy, clean)/2
    first = denoise(coder, noisy.movedim(2, 0), sigma=10.)
    assert torch.allclose(first.movedim(0, 2), made, atol=1e-2)

def test_coders_bring_their_scaling_and_weight():
    rows = planted(400, k=2)[0]
    rows = 60*(rows - rows.mean(1, keepdim=True))
    coder = SparseCoder(16, target_sparsity=.6, max_epochs=3, random_state=0, device='cpu')
    coder.fit(rows)
    model, scaling = coder.model_, coder.scaling_
    made = denoise(coder, NOISY, sigma=20.)
    assert made.equal(denoise(model, NOISY, sigma=20., scaling=scaling))
    mask = torch.rand(NOISY.shape, generator=torch.Generator().manual_seed(5)) < .8
    filled = inpaint(coder, NOISY, mask)
    assert coder.alpha_ > 0 and not filled.equal(inpaint(coder, NOISY, mask, strength=5.))

