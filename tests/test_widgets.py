"""The pieces that move on the site compute what the library computes, with data from results/."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deep_sparse_nb.decoders import LinearDecoder
from deep_sparse_nb.encoders import LISTA
from deep_sparse_nb.energy import Energy, deviation, hinge, hinge_gradient, planted
from deep_sparse_nb.inference import fista, lipschitz, shrink
from deep_sparse_nb.metrics import psnr, sparsity

ROOT = Path(__file__).resolve().parents[1]
WIDGETS = ROOT/'nbs'/'_widgets'
DATA = WIDGETS/'data'
MNIST = dict(shift=.1307, scale=.3081)
sys.path.insert(0, str(ROOT/'tools'/'site'))
import widgets

node = pytest.mark.skipif(not shutil.which('node'), reason='needs Node, to run sparse.js')

def javascript(*cases):
    "The results of functions of sparse.js, each case being [name, arguments]."
    text = json.dumps(cases, default=lambda A: A.tolist())
    command = ['node', str(ROOT/'tests'/'widgets'/'evaluate.mjs')]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

def agree(found, expected):
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

@node
def test_shrinkage():
    V = torch.linspace(-2, 2, 9)
    for positive in (True, False):
        found = javascript(*(['shrink', [v, .7, positive]] for v in V.tolist()))
        agree(found, shrink(V, .7, positive))

@node
@pytest.mark.parametrize('spread', [0, .1, .49, 2], ids=lambda s: f'spread {s}')
def test_hinge(spread):
    Z, T = .5 + spread*torch.randn(8, 1, generator=torch.Generator().manual_seed(3)), .5
    codes = Z[:, 0]
    s, h, g = javascript(
        ['deviation', [codes]], ['hinge', [codes, T]], ['hingeGradient', [codes, T]])
    agree(s, deviation(Z)[0])
    agree(h, hinge(Z, T))
    agree(g, hinge_gradient(Z, T)[:, 0])

@node
@pytest.mark.parametrize('c', [.5, 1, 3.])
def test_collapse_by_hand(c):
    Y, D, Z = planted(250)
    parts = Energy(lam=.02, beta=10., T=.5).parts(Z/c, Y, (Z/c) @ (c*D).T)
    stored = json.loads((DATA/'collapse.json').read_text())
    found, = javascript(['scaledEnergy', [c, stored, dict(lam=.02, beta=10, T=.5)]])
    agree(found['l1'], parts['l1'])
    agree(found['hinge'], parts['hinge'])
    agree(0, parts['reconstruction'])

@node
@pytest.mark.parametrize('beta', [0., 10.])
def test_a_dictionary_learns_alike(beta):
    "The piece that learns: codes of a batch, the decoder's gradient, and Adam's steps."
    Y, _, _ = planted(20)
    Y, W = Y.double(), torch.randn(64, 16, generator=torch.Generator().manual_seed(1)).double()/4
    energy, decoder = Energy(.02, beta, .5), LinearDecoder(16, 64).double()
    decoder.W.data = W.clone()
    model, options = dict(W=W.flatten(), d=64, l=16, lam=.02, beta=beta, T=.5), dict(step=.2)
    Z, = javascript(['inferBatch', [model, Y.flatten(), 20, options | dict(iterations=15)]])
    last = []
    fista(Y, decoder, energy, **options, tol=1e-30, max_iter=15, kernel='plain',
          watch=lambda k, codes: last.append(codes))
    agree(np.reshape(Z, (20, 16)), last[-1])
    codes = torch.tensor(Z, dtype=torch.double).view(20, 16)
    rate, adam = .02, torch.optim.Adam([decoder.W], lr=.02)
    _, (gradient,) = decoder.loss(codes, Y)
    G, = javascript(['dictionaryGradient', [model, codes.flatten(), Y.flatten(), 20]])
    agree(np.reshape(G, (64, 16)), gradient)
    decoder.W.grad = gradient.contiguous()
    adam.step()
    agree(javascript(['adam', [{}, W.flatten(), G, rate]])[0], decoder.W.detach().flatten())

@node
@pytest.mark.parametrize('momentum, restart', [(False, False), (True, False), (True, True)])
def test_fista_takes_the_same_path(momentum, restart):
    double = lambda numbers: torch.tensor(numbers, dtype=torch.double)
    D, start, energy = double([[1, .9], [0, .19**.5]]), double([[.2, 2.2]]), Energy(.1)
    y, decoder = D @ double([1.2, .5]), LinearDecoder(2, 2).double()
    decoder.W.data = D
    L, path = lipschitz(decoder, energy, 1).item(), [start[0].tolist()]
    how = dict(step=.9/L, momentum=momentum, restart=restart)
    fista(y[None], decoder, energy, start=start, **how, tol=1e-30, max_iter=40,
          watch=lambda k, Z: path.append(Z[0].tolist()))
    problem = dict(D=D.flatten(), d=2, l=2, y=y, lam=.1)
    how |= dict(iterations=40, start=start[0])
    found, curvature, value = javascript(
        ['fista', [problem, how]], ['lipschitz', [problem]], ['energy', [problem, path[7]]])
    assert len(found) == len(path) == 41
    agree(found, path)
    agree(curvature, L)
    Z = double(path[7])[None]
    agree(value, energy.value(Z, y[None], decoder(Z).detach()))

def autoencoder(W, U, S, b):
    encoder, decoder = LISTA(784, 128), LinearDecoder(128, 784)
    encoder.U.data, encoder.S.data, encoder.b.data, decoder.W.data = U, S, b, W
    return encoder, decoder

def eight_bits(model):
    "Encoder and decoder as the page has them, and its examples."
    stored = load_file(DATA/'digits.safetensors')
    whole = lambda part: stored[f'{model}.{part}'].float()*stored[f'{model}.{part}.scale']
    networks = autoencoder(whole('W'), whole('U'), whole('S'), stored[f'{model}.b'])
    return *networks, stored['examples'].float()/255

@torch.no_grad()
def through(encoder, decoder, pixels):
    Z = encoder((pixels - MNIST['shift'])/MNIST['scale'])
    return Z, decoder(Z)*MNIST['scale'] + MNIST['shift']

@node
@pytest.mark.parametrize('model', widgets.DRAWN)
def test_drawn_digits(model):
    encoder, decoder, pixels = (part.double() for part in eight_bits(model))
    Z, made = through(encoder, decoder, pixels)
    found, = javascript(['autoencode', [str(DATA/'digits.safetensors'), model, MNIST]])
    assert len(found) == 10
    agree([one['code'] for one in found], Z)
    agree([one['made'] for one in found], made)
    agree([one['psnr'] for one in found], psnr(pixels, made))
    agree([one['sparsity'] for one in found], sparsity(Z[:, None]))

@node
def test_noise_is_normal_and_always_the_same():
    seeds = (1, 1, 2)
    drawn = javascript(*(['normal', [20_000, s]] for s in seeds))
    once, again, other = (np.array(v) for v in drawn)
    assert (once == again).all() and (once != other).any()
    assert abs(once.mean()) < .03 and abs(once.std() - 1) < .02
    assert abs(np.corrcoef(once[1:], once[:-1])[0, 1]) < .03

# ---- the data ----

@pytest.mark.parametrize('model, lam', widgets.DRAWN.items())
def test_eight_bits_lose_little(model, lam):
    encoder, decoder, pixels = eight_bits(model)
    stored = widgets.weights(model, lam)
    exact = autoencoder(*(stored[k] for k in ('decoder.W', 'encoder.U', 'encoder.S', 'encoder.b')))
    rough, fine = (psnr(pixels, through(*pair, pixels)[1]) for pair in ((encoder, decoder), exact))
    lost = fine - rough
    assert lost.abs().max() < .3 and lost.mean().abs() < .1

def test_data_are_those_of_the_results():
    again = 'run `python tools/site/widgets.py`'
    def read(name): return json.loads((DATA/name).read_text())
    points = read('regret.json')
    assert points == json.loads(json.dumps(widgets.regret())), again
    for line in points.values():
        assert [p['lam'] for p in line] == sorted(p['lam'] for p in line) and len(line) == 6
        drawn = [p['atoms'] for p in line if p['atoms']]
        assert drawn and all((DATA/name).is_file() for name in drawn)
    made, kept = widgets.digits(), load_file(DATA/'digits.safetensors')
    assert made.keys() == kept.keys() and all(torch.equal(made[k], kept[k]) for k in made), again
    for part, values in widgets.collapse().items(): agree(read('collapse.json')[part], values)

def test_data_are_small():
    assert sum(f.stat().st_size for f in DATA.iterdir()) < 1_500_000

def test_pages_embed_pieces_that_exist():
    text = [f.read_text(encoding='utf-8') for f in (ROOT/'nbs').rglob('*.ipynb')]
    named = {name for page in text for name in re.findall(r'data-widget=\\"(\w+)', page)}
    mounts = re.compile(r'^export (async )?function mount\(', re.M)
    made = {f.stem for f in WIDGETS.glob('*.js') if mounts.search(f.read_text(encoding='utf-8'))}
    assert named == made

def test_modules_ask_for_nothing_outside():
    for f in WIDGETS.glob('*.js'):
        addresses = re.findall(r"https?://[^'\"` ]+", f.read_text(encoding='utf-8'))
        assert set(addresses) <= {'http://www.w3.org/2000/svg'}, f'{f.name} names {addresses}'
