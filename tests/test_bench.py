"The benchmark: its rows, its races and what they are run against. No test looks at a time."
import json

import numpy as np
import pytest
import torch
import deep_sparse_nb
from deep_sparse_nb.bench import races as bench
from deep_sparse_nb.bench import rivals
from deep_sparse_nb.bench import timing
from deep_sparse_nb.data.datasets import load
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.inference import fista
from deep_sparse_nb.kernels.active_set import exact_codes

KEYS = {'race', 'name', 'ours', 'other', 'what', 'ratio', 'good', 'bar', 'met', 'unit', 'threads',
        'data', 'device', 'quick', 'processor', 'command', 'commit', 'versions', 'date'}

@pytest.fixture(scope='module')
def quick():
    "The rows of every race, run for a moment."
    return list(bench.run(quick=True))

@pytest.mark.slow
def test_rows_of_a_quick_bench(quick):
    for row in quick:
        assert KEYS <= set(row) and row['ours'] > 0 and row['data'] == 'digits'
        assert json.loads(json.dumps(row, allow_nan=False)) == row
        assert row['bar'] is row['met'] is None, 'a quick run is no measurement'
        if row['other'] is None: assert row['ratio'] is None
        else:
            pair = row['ours'], row['other']
            pair = pair if row['good'] == 'low' else pair[::-1]
            assert np.isclose(row['ratio'], np.divide(*pair))
    text = timing.show(quick)
    for row in quick: assert row['name'] in text and row['race'] in text
    assert not timing.missed(quick)

@pytest.mark.slow
def test_every_race_takes_part(quick):
    for race in ('a FISTA iteration', 'a batch, to the stopping rule', 'an epoch of 55,000 images',
                 'VDL by batch size, per image', 'VDL by code dimension, per image',
                 'VDL by stacked models, per image', 'a training step, wide dictionary',
                 'images to a gap of 0.0001', 'images to a gap of 1e-06',
                 'a dictionary of patches', "decoders of one's own", 'a row, 96 atoms of 32'):
        assert race in [row['race'] for row in quick]

@pytest.mark.slow
def test_chosen_races_are_told_on_stderr(capsys):
    rows = list(bench.run(quick=True, races=['a wide dictionary']))
    assert [row['race'] for row in rows] == ['a training step, wide dictionary']
    assert capsys.readouterr() == ('', 'race 1 of 1: a wide dictionary\n')
    with pytest.raises(ValueError, match="'a short one'.*a wide dictionary"):
        list(bench.run(quick=True, races=['a short one']))

@pytest.mark.parametrize('good, ratio, bar, met', [
    ('low', 1.9, 2., True), ('low', 2.1, 2., False), ('high', 3.1, 3., True),
    ('high', 2.9, 3., False),
    ('high', 2.9, None, None)])
def test_bars(good, ratio, bar, met):
    ours, other = (ratio, 1.) if good == 'low' else (1., ratio)
    row = timing._row('race', 'name', ours, other, 'what', good, bar)
    assert row['ratio'] == ratio and row['met'] is met
    assert timing.missed([row]) == ([row] if met is False else [])

def test_who_cannot_take_part_misses_no_bar():
    row = timing._row('race', 'name', 1., None, 'not installed', 'high', 3.)
    assert row['ratio'] is row['met'] is None and not timing.missed([row])

def test_without_stored_weights_a_row_names_the_command_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                 # neither here nor beside the library
    monkeypatch.setattr(deep_sparse_nb, '__file__', str(tmp_path/'lib'/'__init__.py'))
    rows = list(bench._stored_models(bench._Setting(load('digits'), True)))
    assert rows and all(row['ratio'] is row['met'] is None for row in rows)
    assert all('deep-sparse sweep mnist-nl' in row['what'] for row in rows)
    text = timing.show([row | dict(data='digits', device='cpu') for row in rows])
    for row in rows: assert row['what'] in text

def test_stored_results_have_the_rows_of_a_run():
    from pathlib import Path
    stored = Path(__file__).parents[1]/'results'/'bench.json'
    rows = json.loads(stored.read_text(encoding='utf-8'))
    for row in rows: assert KEYS <= set(row) and not row['quick']
    assert timing.show(rows) and timing.missed(rows) == [row for row in rows if row['met'] is False]

@pytest.mark.parametrize('beta', [0., 10.])
@pytest.mark.parametrize('decoder', [LinearDecoder(16, 64), HiddenDecoder(16, 32, 64)],
                         ids=['linear', 'hidden'])
def test_the_obvious_way_computes_the_same(decoder, beta):
    Y, _, Z = planted(100, noise=.05)
    energy = Energy(.01, beta=beta, gamma=1.)
    for max_iter in (1, 5, 60):
        options = dict(tol=1e-3, max_iter=max_iter)
        plain, k = rivals._autograd_fista(Y, decoder, energy, Z + .1, .1, **options)
        found = fista(Y, decoder, energy, encoded=Z + .1, step=.1, **options)
        assert (plain - found.codes).norm() < 2e-3*plain.norm()
        assert abs(k - found.iterations.max()) <= 1

def test_the_step_by_the_gram_matrix_computes_the_same():
    rng = torch.Generator().manual_seed(0)
    D = torch.nn.functional.normalize(torch.randn(24, 96, generator=rng), dim=0)
    Y = torch.rand(16, 96, generator=rng)*(torch.rand(16, 96, generator=rng) < .05) @ D.T
    decoder, before = LinearDecoder(96, 24), D.clone()
    decoder.W.data = D.clone()
    found = fista(Y, decoder, Energy(.005), step='auto', tol=1e-30, max_iter=20).codes
    assert (rivals._gram_step(D, Y, .005, 20) - found).norm() < 1e-3*found.norm()
    assert not torch.equal(D, before) and torch.allclose(D.norm(dim=0), torch.ones(96))

@pytest.mark.parametrize('m', [0, 29])     # 2 d or more: no Gram matrix of the upper layer
def test_products_are_those_of_inference(m):
    "Counted by PyTorch itself, multiplications and additions, in the plain kernel."
    from torch.utils.flop_counter import FlopCounterMode
    Y, decoder = torch.randn(7, 13), HiddenDecoder(5, m, 13) if m else LinearDecoder(5, 13)
    with FlopCounterMode(display=False) as counter:
        fista(Y, decoder, Energy(.01), start=torch.rand(7, 5), step=1e-3, tol=1e-30, max_iter=4,
              kernel='plain')
    listed = rivals._inference_products(7, 13, 5, m, 4)
    assert counter.get_total_flops() == sum(2*a*b*c*times for a, b, c, times in listed)

@pytest.mark.slow
def test_judge():
    Y, D = rivals._convex_problem(load('digits'), 20, l=30)
    assert Y.shape == (20, 784) and D.shape == (784, 30)
    assert torch.allclose(D.norm(dim=0), torch.ones(30, dtype=torch.double))
    Z = exact_codes(Y, D, .005).codes
    assert rivals._largest_gap(Y, D, Z, .005) < 1e-6
    assert rivals._largest_gap(Y, D, 1.01*Z, .005) > 1e-6
    assert rivals._largest_gap(Y, D, -Z, .005) > .1

@pytest.mark.slow
@pytest.mark.parametrize('positive', [True, False])
def test_dictionaries_are_judged_and_learned(positive):
    X, held = rivals._patches_to_learn(1500)
    assert X.shape == (1500, 64) and held.shape == (2000, 64)
    for Y in (X, held):
        torch.testing.assert_close(Y.norm(dim=1), torch.ones(len(Y)))
        assert Y.mean(1).abs().max() < 1e-6
    task = rivals._DictionaryTask(X, 24, .3/64, positive)
    def energy(D): return rivals._dictionary_energy(held[:300], D, task.lam, positive)
    D = X[:24].T
    Z = fista(held[:300].double(), rivals._as_dictionary(D.double()), Energy(task.lam), step='auto',
              positive=positive, restart=True, tol=1e-9, max_iter=2000).codes
    value = ((held[:300] - Z @ D.T.double())**2).mean(1) + task.lam*Z.abs().sum(1)
    assert energy(D) == pytest.approx(value.mean().item(), rel=1e-4)
    assert energy(3*D) == pytest.approx(energy(D), rel=1e-6)
    learners = rivals._dictionary_learners(task)
    assert ('scikit-learn, lars' in learners) == (not positive)
    for name, (size, learn) in learners.items():
        if learn: assert energy(learn(1500//size)) < .97*energy(D), name

def test_a_learner_stops_as_soon_as_it_is_good_enough():
    seen = []
    def learn(batches): seen.append(batches); return batches
    assert rivals._fewest_batches(learn, 100, -12., lambda k: -float(k)) == (14, -14.)
    assert seen == [4, 6, 9, 14]
    assert rivals._fewest_batches(learn, 10, -12., lambda k: -float(k)) == (10, -10.)

def test_missing_solvers_are_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(rivals.importlib.util, 'find_spec', lambda name: None)
    Y, D = rivals._convex_problem(load('digits'), 20, l=30)
    rows = rivals._other_solvers(Y.numpy(), D.numpy(), .005, 1)
    assert [name for name, (_, run) in rows.items() if run is None] == ['SPAMS lasso', 'celer']
    learners = rivals._dictionary_learners(rivals._DictionaryTask(Y.float(), 9, .005, True))
    assert [name for name, (_, learn) in learners.items() if learn is None] == ['SPAMS']

@pytest.mark.parametrize('ratio, code', [(1.5, 0), (2.5, 3)])
def test_the_command_ends_with_3_where_a_bar_is_not_met(monkeypatch, capsys, ratio, code):
    from deep_sparse_nb.__main__ import main
    row = timing._row('race', 'name', ratio, 1., 'what', 'low', 2.)
    monkeypatch.setattr(bench, 'run', lambda **options: iter([row]))
    try: ended = main(['bench', '--json'])
    except SystemExit as stop: ended = stop.code
    told = capsys.readouterr()
    assert ended == code and json.loads(told.out) == [row]
    assert ('race, name: 2.50, bar 2.0' in told.err) == (code == 3)
