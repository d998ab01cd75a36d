"""The pieces that move on the site compute what the library computes, from data that come from results/."""
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
sys.path.insert(0, str(ROOT/'tools'))
import widgets  # noqa: E402

node = pytest.mark.skipif(not shutil.which('node'), reason='needs Node, to run the modules of nbs/_widgets as a browser would')


def javascript(*cases):
    "The results of functions of sparse.js, each case being [name, arguments]."
    text = json.dumps(cases, default=lambda A: A.tolist())
    done = subprocess.run(['node', ROOT/'tests'/'widgets'/'evaluate.mjs'], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agree(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-4, atol=1e-4)


@node
def test_shrinkage():
    V = torch.linspace(-2, 2, 9)
    for nonneg in (True, False):
        agree(javascript(*(['shrink', [v, .7, nonneg]] for v in V.tolist())), shrink(V, .7, nonneg))


@node
@pytest.mark.parametrize('spread', [0, .1, .49, 2], ids=lambda s: f'spread {s}')
def test_hinge(spread):
    Z = .5 + spread*torch.randn(8, 1, generator=torch.Generator().manual_seed(3))
    codes, T = Z[:, 0], .5
    found = javascript(['deviation', [codes]], ['hinge', [codes, T]], ['hingeGradient', [codes, T]])
    agree(found[0], deviation(Z)[0]), agree(found[1], hinge(Z, T)), agree(found[2], hinge_gradient(Z, T)[:, 0])


@node
@pytest.mark.parametrize('c', [.5, 1, 3.])
def test_collapse_by_hand(c):
    Y, D, Z = planted(250)
    energy = Energy(lam=.02, beta=10., T=.5)
    parts = energy.parts(Z/c, Y, (Z/c) @ (c*D).T)
    stored = json.loads((WIDGETS/'data'/'collapse.json').read_text())
    found, = javascript(['scaledEnergy', [c, stored, dict(lam=.02, beta=10, T=.5)]])
    agree(found['l1'], parts['l1']), agree(found['hinge'], parts['hinge']), agree(0, parts['reconstruction'])


@node
@pytest.mark.parametrize('momentum, restart', [(False, False), (True, False), (True, True)])
def test_fista_takes_the_same_path(momentum, restart):
    D = torch.tensor([[1, .9], [0, .19**.5]], dtype=torch.double)
    y, start, lam = D @ torch.tensor([1.2, .5], dtype=torch.double), torch.tensor([[.2, 2.2]], dtype=torch.double), .1
    decoder = LinearDecoder(2, 2).double()
    decoder.W.data = D
    L, path = lipschitz(decoder, Energy(lam), 1).item(), [start[0].tolist()]
    fista(y[None], decoder, Energy(lam), start=start, step=.9/L, momentum=momentum, restart=restart, tol=1e-30, max_iters=40,
          watch=lambda k, Z: path.append(Z[0].tolist()))
    problem = dict(D=D.flatten(), d=2, l=2, y=y, lam=lam)
    settings = dict(step=.9/L, iterations=40, momentum=momentum, restart=restart, start=start[0])
    found, curvature, energy = javascript(['fista', [problem, settings]], ['lipschitz', [problem]], ['energy', [problem, path[7]]])
    assert len(found) == len(path) == 41
    agree(found, path), agree(curvature, L)
    Z = torch.tensor(path[7], dtype=torch.double)[None]
    agree(energy, Energy(lam).value(Z, y[None], decoder(Z).detach()))


def eight_bits(model):
    "Encoder and decoder as the page has them."
    stored = load_file(WIDGETS/'data'/'digits.safetensors')
    whole = lambda part: stored[f'{model}.{part}'].float()*stored[f'{model}.{part}.scale']
    encoder, decoder = LISTA(784, 128), LinearDecoder(128, 784)
    encoder.U.data, encoder.S.data, encoder.b.data, decoder.W.data = whole('U'), whole('S'), stored[f'{model}.b'], whole('W')
    return encoder, decoder, stored['examples'].float()/255


@torch.no_grad()
def through(encoder, decoder, pixels):
    Z = encoder((pixels - .1307)/.3081)
    return Z, decoder(Z)*.3081 + .1307


@node
@pytest.mark.parametrize('model', widgets.DRAWN)
def test_drawn_digits(model):
    encoder, decoder, pixels = eight_bits(model)
    Z, made = through(encoder.double(), decoder.double(), pixels.double())
    found, = javascript(['autoencode', [str(WIDGETS/'data'/'digits.safetensors'), model, dict(shift=.1307, scale=.3081)]])
    assert len(found) == 10
    for i, one in enumerate(found):
        agree(one['code'], Z[i]), agree(one['made'], made[i])
        agree(one['psnr'], psnr(pixels[i:i+1].double(), made[i:i+1])[0]), agree(one['sparsity'], sparsity(Z[i:i+1]))


@node
def test_noise_is_normal_and_always_the_same():
    once, again, other = (np.array(v) for v in javascript(['normal', [20_000, 1]], ['normal', [20_000, 1]], ['normal', [20_000, 2]]))
    assert (once == again).all() and (once != other).any()
    assert abs(once.mean()) < .03 and abs(once.std() - 1) < .02 and abs(np.corrcoef(once[1:], once[:-1])[0, 1]) < .03


# ---- the data ----

@pytest.mark.parametrize('model, lam', widgets.DRAWN.items())
def test_eight_bits_lose_little(model, lam):
    encoder, decoder, pixels = eight_bits(model)
    stored, exact = widgets.weights(model, lam), (LISTA(784, 128), LinearDecoder(128, 784))
    exact[0].U.data, exact[0].S.data, exact[0].b.data, exact[1].W.data = (stored[k] for k in ('encoder.U', 'encoder.S', 'encoder.b', 'decoder.W'))
    rough, fine = (psnr(pixels, through(*pair, pixels)[1]) for pair in ((encoder, decoder), exact))
    assert (rough - fine).abs().max() < .3 and (rough - fine).mean().abs() < .1


def test_data_are_those_of_the_results():
    stored = json.loads((WIDGETS/'data'/'regret.json').read_text())
    assert stored == json.loads(json.dumps(widgets.regret())), 'run `python tools/widgets.py`'
    for line in stored.values():
        assert [p['lam'] for p in line] == sorted(p['lam'] for p in line) and len(line) == 6
        assert sum(p['atoms'] is not None for p in line) == 2
        assert all((WIDGETS/'data'/p['atoms']).is_file() for p in line if p['atoms'])
    made, kept = widgets.digits(), load_file(WIDGETS/'data'/'digits.safetensors')
    assert made.keys() == kept.keys() and all(torch.equal(made[k], kept[k]) for k in made), 'run `python tools/widgets.py`'
    collapse = json.loads((WIDGETS/'data'/'collapse.json').read_text())
    agree(collapse['deviations'], widgets.collapse()['deviations']), agree(collapse['image'], widgets.collapse()['image'])


def test_data_are_small():
    assert sum(f.stat().st_size for f in (WIDGETS/'data').iterdir()) < 1_500_000


def test_pages_embed_pieces_that_exist():
    named = {name for f in (ROOT/'nbs').rglob('*.ipynb') for name in re.findall(r'data-widget=\\"(\w+)', f.read_text(encoding='utf-8'))}
    assert named == {f.stem for f in WIDGETS.glob('*.js') if re.search(r'^export (async )?function mount\(', f.read_text(encoding='utf-8'), re.M)}


def test_modules_ask_for_nothing_outside():
    for f in WIDGETS.glob('*.js'):
        addresses = re.findall(r"https?://[^'\"` ]+", f.read_text(encoding='utf-8'))
        assert set(addresses) <= {'http://www.w3.org/2000/svg'}, f'{f.name} names {addresses}'
