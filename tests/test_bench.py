"The benchmark: its rows, its baseline and its judge. No test looks at a time."
import json

import numpy as np
import pytest
import torch
from deep_sparse_nb import bench
from deep_sparse_nb.data import load
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.inference import fista

pytest.importorskip('numba')
KEYS = {'race', 'name', 'ours', 'other', 'what', 'ratio', 'good', 'bar', 'met', 'unit', 'threads', 'data', 'device', 'quick',
        'processor', 'command', 'commit', 'versions', 'date'}


def test_quick_bench():
    rows = list(bench.run(quick=True))
    for row in rows:
        assert KEYS <= set(row) and row['ours'] > 0 and row['data'] == 'digits'
        assert json.loads(json.dumps(row, allow_nan=False)) == row
        if row['other'] is None: assert row['ratio'] is None and row['met'] is None
        else: assert np.isclose(row['ratio'], row['ours']/row['other'] if row['good'] == 'low' else row['other']/row['ours'])
        if row['bar'] is None: assert row['met'] is None
    races = [row['race'] for row in rows]
    for race in ('a FISTA iteration', 'a batch, to the stopping rule', 'images to a gap of 0.0001', 'images to a gap of 1e-06',
                 'an epoch of 55,000 images', 'VDL by batch size, per image', 'VDL by stacked models, per image'): assert race in races
    text = bench.show(rows)
    for row in rows: assert row['name'] in text and row['race'] in text


def test_without_stored_weights_a_row_names_the_command_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [row | dict(data='digits', device='cpu') for row in bench.practised(load('digits'))]
    assert rows and all(row['ratio'] is row['met'] is None and 'deep-sparse sweep mnist-nl' in row['what'] for row in rows)
    text = bench.show(rows)
    for row in rows: assert row['what'] in text


@pytest.mark.parametrize('beta', [0., 10.])
@pytest.mark.parametrize('decoder', [LinearDecoder(16, 64), HiddenDecoder(16, 32, 64)], ids=['linear', 'hidden'])
def test_the_obvious_way_computes_the_same(decoder, beta):
    Y, _, Z = planted(100, noise=.05)
    energy = Energy(.01, beta=beta, gamma=1.)
    for max_iters in (1, 5, 60):
        plain, k = bench.plain_fista(Y, decoder, energy, Z + .1, .1, tol=1e-3, max_iters=max_iters)
        found = fista(Y, decoder, energy, encoded=Z + .1, step=.1, tol=1e-3, max_iters=max_iters)
        assert (plain - found.codes).norm() < 2e-3*plain.norm() and abs(k - found.iterations.max()) <= 1


@pytest.mark.parametrize('m', [0, 29])     # 2 d or more: no Gram matrix of the upper layer
def test_products_are_those_of_inference(m):
    "Counted by PyTorch itself, multiplications and additions; for who watches, the loop is Python's."
    from torch.utils.flop_counter import FlopCounterMode
    Y, decoder = torch.randn(7, 13), HiddenDecoder(5, m, 13) if m else LinearDecoder(5, 13)
    with FlopCounterMode(display=False) as counter: fista(Y, decoder, Energy(.01), start=torch.rand(7, 5), step=1e-3, tol=1e-30, max_iters=4, watch=lambda k, Z: None)
    assert counter.get_total_flops() == sum(2*a*b*c*times for a, b, c, times in bench.inference_products(7, 13, 5, m, 4))


def test_judge():
    Y, D = bench.convex_problem(load('digits'), 20, l=30)
    assert Y.shape == (20, 784) and D.shape == (784, 30) and torch.allclose(D.norm(dim=0), torch.ones(30, dtype=torch.double))
    from deep_sparse_nb.kernels.active_set import exact_codes
    Z = exact_codes(Y, D, .005).codes
    assert bench.largest_gap(Y, D, Z, .005) < 1e-6
    assert bench.largest_gap(Y, D, 1.01*Z, .005) > 1e-6
    assert bench.largest_gap(Y, D, -Z, .005) > .1


def test_missing_peers_are_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(bench.importlib.util, 'find_spec', lambda name: None)
    Y, D = bench.convex_problem(load('digits'), 20, l=30)
    rows = bench.peers(Y.numpy(), D.numpy(), .005, 1)
    assert [name for name, (_, run) in rows.items() if run is None] == ['SPAMS lasso', 'celer']
