"""Code that lives on pages alone, as a reader would copy it: a decoder of one's own, TopK."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
OWN, CURVED = 'howto/your_own_decoder.ipynb', 'experiments/10_curved.ipynb'


def sources(page):
    "The page's cells of code."
    cells = json.loads((ROOT/'nbs'/page).read_text(encoding='utf-8'))['cells']
    return [''.join(c['source']) for c in cells if c['cell_type'] == 'code']


def run(page, *starts):
    "The names left by the page's imports and by those cells of it that begin so."
    found = [s for start in starts for s in sources(page) if s.startswith(start)]
    assert len(found) == len(starts)
    names = {'__name__': 'page', 'nn': torch.nn}
    for source in sources(page)[:1] + found: exec(source, names)
    return names


def test_five_lines_train_a_decoder_of_your_own():
    start = 'from torch import nn'
    five, = (s for s in sources(OWN) if s.startswith(start))
    assert len(five.replace(f'{start}\n', '').splitlines()) == 5
    found = run(OWN, start)
    run_, codes = found['run'], found['codes']
    assert codes.shape == (1, 300, 16) and (codes >= 0).all() and (codes > 0).any()
    losses = [row['loss_decoder'] for row in run_.history]
    assert len(losses) == 2 and losses[1] < losses[0]
    untrained = found['Autoencoder'](found['decoder'], recipes=run_.model.shared)
    assert not torch.equal(untrained.encode(found['data'].test.images), codes)


def test_decoders_of_the_page_learn_as_stacks():
    names = run(OWN, 'def dictionary')
    Y = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    images = names['own_data'](Y)
    for make in names['kinds'].values():
        recipe = names['Recipe'](l=16, batch=20, epochs=2, lr_decoder=1e-2)
        model = names['Autoencoder'](make, None, recipe, [0, 1])
        history = names['train'](names['begin'](model), images, progress=False).history
        first, last = ([row['loss_decoder'] for row in history if row['epoch'] == e]
                       for e in (1, 2))
        assert len(first) == 2 and all(b < a for a, b in zip(first, last))


@pytest.fixture(scope='module')
def curved(): return run(CURVED, 'F, present', 'def world', 'class TopK', 'def r2')


@pytest.mark.parametrize('degrees', [0, 120])
def test_world_has_two_factors_on_arcs(curved, degrees):
    Y, S = curved['world'](400, degrees, 1)
    assert (((S > 0).sum(1) == 2) & (S.sum(1) < 3) & (S.sum(1) > 1)).all()
    U = curved['planes']()
    torch.testing.assert_close(U.flatten(0, 1) @ U.flatten(0, 1).T, torch.eye(16),
                               atol=1e-5, rtol=0)
    at = torch.einsum('nd,fid->nfi', Y, U)           # (n, 8, 2): noise, and points where present
    scale = (16/(2*13/12))**.5
    angle, present = torch.atan2(at[..., 1], at[..., 0]), S > 0
    expected = np.deg2rad(degrees)*(S - .5)
    assert (angle - expected)[present].abs().max() < .2
    assert (at.norm(dim=-1)[present] - scale*S[present]).abs().max() < .3
    assert at[~present].abs().max() < .3
    assert abs(Y.square().mean() - 1) < .1


def test_topk_keeps_the_largest(curved):
    Y = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    model = curved['TopK'](12, 3, [0, 1])
    Z, all_of_them = model.encode(Y), Y @ model.E + model.b
    assert ((Z != 0).sum(-1) <= 3).all() and (Z >= 0).all()
    for z, every in zip(Z.flatten(0, 1), all_of_them.flatten(0, 1)):
        kept = every.clamp(min=0)*(every >= every.sort(descending=True).values[2])
        torch.testing.assert_close(z, kept)
    torch.testing.assert_close(model.W.norm(dim=1), torch.ones(2, 12))
    torch.testing.assert_close(model.decoder(Z)[1], Z[1] @ model.W[1].T)


def test_recovery_is_the_best_squared_correlation(curved):
    rng = torch.Generator().manual_seed(2)
    Z, s = torch.randn(50, 4, generator=rng), torch.rand(50, generator=rng)
    expected = max(np.corrcoef(z.numpy(), s.numpy())[0, 1]**2 for z in Z.T)
    assert abs(curved['r2'](Z, s) - expected) < 1e-5
    Z[:, 1] = 3 - 2*s
    Z[:, 2] = 0                                      # a dead code correlates with nothing
    assert abs(curved['r2'](Z, s) - 1) < 1e-5
