"Pixels that count, and whole pictures, denoised and inpainted."
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from deep_sparse_nb.data.arrays import Scaling
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder, _as_decoder
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.inference import _Masked, fista
from deep_sparse_nb.paper.recipes import recipe
from deep_sparse_nb.pictures import denoise, inpaint, noise_level, _noise_weight
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
    seen = _Masked(_as_decoder(decoder), counts)
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

@pytest.mark.parametrize('scale', [2.**-10, 1., 2.**10])      # without rounding
def test_units_are_the_pictures(scale):
    expected = denoise(bars_model(), NOISY, sigma=20.)
    made = denoise(bars_model(), scale*NOISY, sigma=20.*scale)
    assert torch.allclose(made, scale*expected, rtol=1e-3)

def test_channels_are_taken_one_by_one():
    made = denoise(bars_model(), FORMS['channels last'], sigma=20., stride=2)
    for c in range(3):
        alone = denoise(bars_model(), FORMS['channels last'][..., c], sigma=20., stride=2)
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
    assert .02 < (seen > _noise_weight(decoder, 3.)).any(1).float().mean() < .12
    assert torch.allclose(_noise_weight(decoder, 6.), 2*_noise_weight(decoder, 3.))
    assert _noise_weight(LinearDecoder(1, 64), 1.) > 0

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
        found = denoise(model, picture, sigma=sigma, stride=1)
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
    coder.fit(rows.reshape(-1, SIDE, SIDE))
    made = denoise(coder, NOISY, sigma=20.)
    assert torch.allclose(made, denoise(coder.model_, NOISY, sigma=20.), atol=1e-3)
    one = denoise(coder, NOISY, sigma=20., stride=2)
    assert not torch.allclose(one, made) and mse(one, bars_picture()) < mse(NOISY, bars_picture())
    mask = torch.rand(NOISY.shape, generator=torch.Generator().manual_seed(5)) < .8
    filled = inpaint(coder, NOISY, mask)
    assert coder.alpha_ > 0 and not filled.equal(inpaint(coder, NOISY, mask, strength=50.))

@pytest.mark.parametrize('model, said', [
    (nn.Linear(16, 64), 'model is a Linear; it must be an Autoencoder'),
    (SparseCoder(), 'not fitted')])
def test_other_models_are_refused(model, said):
    with pytest.raises(ValueError, match=said): denoise(model, NOISY, sigma=20.)


# ---- learned from the picture itself; units; frames; holes ----

def stripes(h=72, w=80):
    "A picture of edges in many directions, 0 to 255."
    i, j = np.mgrid[:h, :w]
    return 128 + 60*np.sign(np.sin(i/5 + j/9)) + 50*np.sin(np.hypot(i - 20, j - 30)/4)


def grainy(clean, sigma=20., seed=0):
    return clean + sigma*np.random.default_rng(seed).standard_normal(clean.shape)


def test_a_picture_teaches_its_own_dictionary():
    clean = stripes()
    noisy = grainy(clean)
    made = denoise(None, noisy, 20.)
    assert made.shape == clean.shape and mse(made, clean) < mse(noisy, clean)/5


def coder_of_photographs(): return SparseCoder.from_pretrained('photographs', device='cpu')


@pytest.mark.parametrize('name', ['photographs', 'photographs-colour'])
def test_packaged_models_of_photographs(name):
    coder = SparseCoder.from_pretrained(name, device='cpu')
    clean = load_sample_image('china.jpg')[150:222, 300:380].astype(float)
    noisy = grainy(clean)
    assert mse(denoise(coder, noisy, 20.), clean) < mse(noisy, clean)/3
    known = np.random.default_rng(0).random(clean.shape[:2]) < .6
    filled = inpaint(coder, np.where(known[..., None], clean, np.nan), known)
    assert (filled[known] == clean[known]).all() and mse(filled, clean) < clean.var()/10
    D = coder.model_.decoder.W[0]
    assert torch.allclose(D.norm(dim=0), torch.ones(512), atol=1e-2)


@pytest.mark.parametrize('mend', [
    lambda y, unit: denoise(None, y, 20*unit), lambda y, unit: denoise(None, y),
    lambda y, unit: denoise(coder_of_photographs(), y, 20*unit),
    lambda y, unit: inpaint(coder_of_photographs(), y, KNOWN),
    lambda y, unit: inpaint(SparseCoder.from_pretrained('patches-vdl', device='cpu'), y, KNOWN)])
def test_a_unit_changes_nothing(mend):
    "0 to 1 as libraries give it, 0 to 255, sixteen bits."
    noisy = grainy(stripes())
    expected = mend(noisy, 1.)
    for unit in (1/255, 257.):
        made = mend(noisy*unit, unit)/unit
        assert mse(made, stripes()) == pytest.approx(mse(expected, stripes()).item(), rel=.02)


KNOWN = np.random.default_rng(3).random((72, 80)) < .7


def test_sixteen_bits_are_eight():
    bytes_ = grainy(stripes()).clip(0, 255).round().astype(np.uint8)
    made = denoise(None, bytes_, 20.)
    wide = denoise(None, bytes_.astype(np.uint16)*257, 20.*257)
    assert wide.dtype == np.uint16 and np.abs(wide/257. - made).max() < 1.5
    shown = denoise(None, Image.fromarray(bytes_.astype(np.uint16)*257), 20.*257)
    assert shown.mode == 'I;16' and (np.asarray(shown) == wide).all()


def test_pictures_of_pillow():
    bytes_ = grainy(stripes()).clip(0, 255).astype(np.uint8)
    made = denoise(None, Image.fromarray(bytes_), 20.)
    assert isinstance(made, Image.Image) and made.mode == 'L'
    assert (np.asarray(made) == denoise(None, bytes_, 20.)).all()
    with pytest.raises(ValueError, match='picture has mode RGBA'):
        denoise(None, Image.new('RGBA', (20, 20)))


def test_colours_help_each_other():
    clean = stripes()
    noisy = grainy(np.stack([clean]*3, -1))
    assert mse(denoise(None, noisy, 20.), clean[..., None]) < mse(
        denoise(None, noisy[..., 0], 20.), clean)/1.5


@pytest.mark.parametrize('bar', [12, 40, 72])
def test_bars_have_no_noise(bar):
    clean = stripes()
    noisy = grainy(clean)
    framed = np.pad(noisy, ((bar, bar), (0, 0)))
    assert noise_level(framed) == pytest.approx(noise_level(noisy), rel=.05)
    made = denoise(None, framed)[bar:-bar]
    assert mse(made, clean) < mse(noisy, clean)/4


@pytest.mark.parametrize('side', [4, 12, 24])
@pytest.mark.parametrize('model', ['dictionary', 'energy'])
def test_large_holes_are_filled_from_the_rim(model, side):
    "A ramp goes on through its hole, and nothing in it is 0."
    ramp = np.add.outer(np.arange(48.), 2*np.arange(48.)) + 1000
    known = np.ones(ramp.shape, bool)
    known[12:12 + side, 14:14 + side] = False
    torn = np.where(known, ramp, np.nan)
    options = {} if model == 'dictionary' else dict(stride=2, strength=.1)
    filled = inpaint(coder_of_photographs(), torn, known, **options)
    assert (filled[known] == ramp[known]).all()
    assert np.abs(filled - ramp)[~known].max() < 1.5*ramp.std()
    assert (filled - ramp)[~known].std() < .8*ramp.std()


@pytest.mark.parametrize('call, said', [
    (lambda: denoise(None, stripes(), 9., stride=2), 'model is None, which takes neither'),
    (lambda: denoise(None, stripes(), 9., size=(4, 8)), r'size is \(4, 8\)'),
    (lambda: denoise(None, stripes(), 9., size=100), 'size is 100; the picture has 72 x 80'),
    (lambda: denoise(SparseCoder(16, max_epochs=1, device='cpu').fit(np.eye(64)), stripes()),
     'model was learned from rows of 64 numbers')])
def test_what_cannot_clean_is_refused(call, said):
    with pytest.raises(ValueError, match=said): call()
