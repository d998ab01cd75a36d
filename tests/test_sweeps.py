"""Sweeps: killed and resumed, tables that are never harmed, a report that cannot flatter."""
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from deep_sparse_nb.paper import probes

from deep_sparse_nb.paper import sweeps
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.data.datasets import load
from deep_sparse_nb.data.patches import photographs
from deep_sparse_nb.inference import Diverged
from deep_sparse_nb.paper.recipes import GRIDS, _LAMBDAS, PUBLISHED, recipe, _table_row, targets
from deep_sparse_nb.training import Autoencoder, Run, data_order, evaluate, train
from deep_sparse_nb.checkpoints import origin, contents, restore, save
from deep_sparse_nb.paper.results import (
    _KEY, _TABLE_VERSION, append, _identity, provenance, read_table)
from deep_sparse_nb.paper.weights import _compact, load_model, _unpacked, _worth_storing
from deep_sparse_nb.paper.sweeps import _choose, _file_name, _finished, _plan, sweep
from deep_sparse_nb.paper.report import report
from deep_sparse_nb.paper import contrast
from deep_sparse_nb.paper.contrast import by_contrast
from deep_sparse_nb.paper.probes import (_Classifier, best_lambda, few_labels, first_of_each, _fit,
    stable_atoms)

SIZES = (500, 250, 250)
RESULTS = Path(__file__).resolve().parents[1]/'results'
QUICK = dict(models=['VDL'], lams=[.005], seeds=1, epochs=3, sizes=SIZES, device='cpu',
             progress=False)

@pytest.fixture
def home(tmp_path): return dict(results=tmp_path/'results', runs=tmp_path/'runs')

def table_of(home, name='digits'): return read_table(home['results']/f'{name}.csv')

# ---- grids ----

@pytest.mark.parametrize('name', PUBLISHED)
def test_published_grids_are_table_3(name):
    grid = GRIDS[name]
    assert grid.seeds == 5
    theirs = [(m, lam) for m in grid.models for lam in _LAMBDAS[_table_row(grid.dataset, m)]]
    assert [(r.model, r.lam) for r in grid.recipes()] == theirs
    assert all(r == recipe(grid.dataset, r.model, r.lam) for r in grid.recipes())

def test_knobs_turn_one_coefficient_each():
    plain = recipe('mnist', 'VDL', .01)
    changed = [[k for k in ('beta', 'T', 'gamma') if getattr(r, k) != getattr(plain, k)]
               for r in GRIDS['knobs'].recipes()]
    assert changed[0] == [] and all(len(c) == 1 for c in changed[1:])
    assert len(_plan(_choose('knobs'), Path('nowhere'), origin('mnist'), 30)) == 1

def test_stored_weights_fit_a_repository():
    total = 0
    points = targets()[['dataset', 'model', 'lam']].drop_duplicates()
    for dataset, model, lam in points.itertuples(index=False):
        if _worth_storing(dataset, lam, model, 0):
            weights = _compact(Autoencoder.from_recipes(recipe(dataset, model, lam)),
                              eight_bits=dataset == 'patches' and 'NL' in model)
            total += sum(w.numel()*w.element_size() for w in weights.values())
    assert 5e6 < total < 25e6
    assert not _worth_storing('mnist', .02, 'VDL', 1)
    assert not _worth_storing('mnist', .003, 'VDL', 0)

# ---- stacks and files ----

def test_stacks_hold_members_that_may_be_trained_together(tmp_path):
    members = _choose('patches-nl')
    units = _plan(members, tmp_path, origin('patches'), 30)
    assert sorted(map(len, (group for _, group in units))) == [5, 30, 30]
    assert sorted(str(m) for _, group in units for m in group) == sorted(map(str, members))
    for _, group in units: Autoencoder.from_recipes(*zip(*[(replace(r, m=8), s) for r, s in group]))

def test_names_keep_trials_apart():
    r = recipe('mnist', 'VDL', .02)
    def name(recipes, came=origin('mnist')):
        return _file_name([(r, i) for i, r in enumerate(recipes)], came)
    assert name([r]) == 'VDL_0.02_s0.safetensors'
    assert len({name([r]), name([replace(r, epochs=3)]), name([replace(r, beta=3)]),
                name([r], origin('mnist', SIZES)), name([r, r])}) == 5

def test_checkpoints_are_known_by_content(tmp_path):
    came = origin('digits')
    members = _choose('digits')
    first, second = (Autoencoder.from_recipes(*member) for member in members[:2])
    save(Run(first, origin=dict(dataset='digits')), tmp_path/'any-name.safetensors')   # no more
    save(Run(second, origin=dict(dataset='digits', train_images=500)),
         tmp_path/'other.safetensors')
    assert contents(tmp_path/'any-name.safetensors') == ([members[0]], came, 0)
    units = _plan(members, tmp_path, came, 1)
    assert units[0] == (tmp_path/'any-name.safetensors', [members[0]])
    assert tmp_path/'other.safetensors' not in dict(units)
    assert [group for _, group in units] == [[m] for m in members]
    (tmp_path/'foreign.safetensors').write_text('no checkpoint')
    with pytest.raises(ValueError, match='foreign'): _plan(members, tmp_path, came, 1)

# ---- sweeps ----

def test_rows_say_what_evaluate_finds(home, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['deep-sparse', 'sweep'])
    assert not sweep('digits', **QUICK, **home)
    data, table = load('digits', sizes=SIZES), table_of(home)
    path, = (home['runs']/'digits').glob('*.safetensors')
    found = evaluate(restore(path).best_model(), data.test)
    assert table.sigma.tolist() == [0, 1, 1.5]
    assert table.psnr_input.isna().tolist() == [True, False, False]
    for column in ('psnr', 'sparsity', 'l1', 'dead'):
        assert table[column][0] == pytest.approx(found[column].item(), rel=1e-6)
    louder = 20*torch.tensor(1.5).log10().item()
    assert table.psnr_input[1] - table.psnr_input[2] == pytest.approx(louder, abs=1e-4)
    noisy = table.psnr_input[1]
    assert noisy == pytest.approx(-20*torch.tensor(data.test.scale).log10().item(), abs=.05)
    assert (table[['epochs', 'train_images', 'test_images']] == [3, 500, 250]).all(axis=None)
    for column in ('command', 'commit', 'device', 'versions', 'date'):
        assert table[column].str.len().min() > 3
    history = read_table(home['results']/'histories'/'digits.csv')
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.valid_psnr[2] == pytest.approx(restore(path).history[2]['valid_psnr'], rel=1e-4)

def test_stopped_sweep_goes_on_where_it_was(home, tmp_path):
    assert len(sweep('digits', minutes=1e-6, **QUICK, **home)) == 1
    path, = (home['runs']/'digits').glob('*.safetensors')
    assert contents(path)[2] == 1 and not (home['results']/'digits.csv').exists()
    assert not sweep('digits', **QUICK, **home)
    alone = dict(results=tmp_path/'b', runs=tmp_path/'b')
    sweep('digits', **QUICK, **alone)
    columns = [*_KEY, 'sigma', 'psnr', 'sparsity', 'best_epoch']
    pd.testing.assert_frame_equal(table_of(home)[columns], table_of(alone)[columns])

def test_lost_rows_are_made_again_without_training(home):
    sweep('digits', **QUICK, **home)
    before = table_of(home)
    (home['results']/'digits.csv').unlink()
    assert not sweep('digits', **QUICK, **home)
    pd.testing.assert_frame_equal(before.drop(columns='date'), table_of(home).drop(columns='date'))
    assert len(read_table(home['results']/'histories'/'digits.csv')) == 3

@pytest.mark.slow
def test_stack_and_single_agree(home, tmp_path):
    quick = QUICK | dict(lams=[.001, .005], seeds=2)
    other = dict(results=tmp_path/'b', runs=tmp_path/'b')
    assert not sweep('digits', **quick, **home) and not sweep('digits', stack=4, **quick, **other)
    assert len(list((other['runs']/'digits').glob('*.safetensors'))) == 1
    one, four = (t.sort_values([*_KEY, 'sigma']).reset_index()
                 for t in (table_of(home), table_of(other)))
    assert len(one) == len(four) == 12 and set(four.members) == {4}
    assert (one.psnr - four.psnr).abs().max() < .01
    assert (one.sparsity - four.sparsity).abs().max() < .002

def test_divergence_splits_a_stack_and_is_written_down(home, monkeypatch):
    def train_until(run, data, after_epoch, **options):
        if any(r.lam == .005 for r in run.model.recipes):
            train(run, data, epochs=1, after_epoch=after_epoch, progress=False)
            raise Diverged('epoch 2, batch 1: codes are not finite')
        return train(run, data, after_epoch=after_epoch, **options)
    monkeypatch.setattr(sweeps, 'train', train_until)
    assert not sweep('digits', stack=2, **QUICK | dict(lams=[.001, .005]), **home)
    table = table_of(home)
    assert table[table.lam == .001].diverged.isna().all()
    assert table[table.lam == .005].diverged.str.contains('epoch 2').all()
    assert len(list((home['runs']/'digits').glob('*.safetensors'))) == 2

def test_misnamed_checkpoint_is_not_overwritten(home):
    path = home['runs']/'digits'/_file_name([(replace(recipe('digits', 'VDL', .005), epochs=3), 0)],
                                           origin('digits', SIZES))
    other = Autoencoder.from_recipes(recipe('digits', 'VDL', .001))
    save(Run(other, origin=dict(dataset='digits')), path)
    with pytest.raises(ValueError, match='other members'): sweep('digits', **QUICK, **home)

# ---- weights ----

def test_weights_come_back(home):
    sweep('digits', **QUICK, **home)
    model = load_model('digits', 'VDL', .005, results=home['results'])
    path, = (home['runs']/'digits').glob('*.safetensors')
    best = restore(path).best_model()
    for a, b in zip(model.state_dict().values(), best.state_dict().values()):
        assert a.dtype == torch.float32 and torch.equal(a, b.half().float())
    test = load('digits', sizes=SIZES).test
    assert evaluate(model, test)['psnr'].item() == pytest.approx(table_of(home).psnr[0], abs=.02)

def test_eight_bits_round_to_half_a_unit():
    model = Autoencoder.from_recipes(recipe('digits', 'VDL-NL', .01))
    # a dead component must not become NaN
    model.decoder.W1.data[..., 3] = 0
    weights = _compact(model, eight_bits=True)
    back = _unpacked(weights)
    assert set(back) == set(model.state_dict()) and weights['decoder.W2'].dtype == torch.int8
    assert weights['decoder.b1'].dtype == torch.half
    for name in ('decoder.W1', 'decoder.W2', 'encoder.U', 'encoder.S'):
        assert ((back[name] - model.state_dict()[name]).abs() <= .501*weights[f'{name}.unit']).all()

def test_a_budget_is_extended_and_never_shortened(home, tmp_path):
    apart = dict(results=tmp_path/'apart', runs=tmp_path/'apart')
    for epochs, where in ((2, home), (4, home), (3, home), (4, apart)):
        assert not sweep('digits', **QUICK | dict(epochs=epochs), **where)
    begun = {epochs: table.psnr[0] for epochs, table in table_of(home).groupby('epochs')
             for table in [table.reset_index()]}
    assert begun[4] == table_of(apart).psnr[0] and set(begun) == {2, 3, 4}
    history = read_table(home['results']/'histories'/'digits.csv')
    epochs = history.groupby('epochs').epoch.apply(list).to_dict()
    assert epochs == {2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, 4]}
    first = history[history.epoch <= 2].groupby('epochs').seconds.apply(tuple)
    # the very same epochs, not trained again
    assert first[2] == first[3] == first[4]

def test_a_trial_does_not_replace_better_weights(home):
    sweep('digits', **QUICK, **home)
    path, = (home['results']/'weights').iterdir()
    before = path.read_bytes()
    sweep('digits', **QUICK | dict(epochs=1), **home)
    assert path.read_bytes() == before
    sweep('digits', **QUICK | dict(epochs=4), **home)
    assert load_model('digits', 'VDL', .005, results=home['results']).shared.epochs == 4

def test_weights_of_the_checkout_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_model('mnist', 'VDL', .02).recipes[0].lam == .02
    with pytest.raises(FileNotFoundError, match='results.* or .*results'):
        load_model('mnist', 'VDL', .01)

# ---- tables ----

ROW = dict(model='VDL', lam=.02, psnr=17.7, version=_TABLE_VERSION)

def test_append_keeps_every_old_byte(tmp_path):
    path = tmp_path/'t.csv'
    append(path, [ROW], ['model', 'lam'])
    before = path.read_bytes()
    append(path, [ROW | dict(psnr=99.), ROW | dict(lam=.01), ROW | dict(lam=.01)], ['model', 'lam'])
    assert path.read_bytes().startswith(before) and read_table(path).psnr.tolist() == [17.7, 17.7]
    assert sorted(os.listdir(tmp_path)) == ['.lock', 't.csv']

def test_words_that_look_like_numbers_stay_words(tmp_path):
    row = ROW | dict(source='2012', commit='7309e640', diverged='')
    for _ in range(2): append(tmp_path/'t.csv', [row], ['model', 'source'])
    table = read_table(tmp_path/'t.csv')
    assert table[['source', 'commit']].values.tolist() == [['2012', '7309e640']]
    assert table.diverged.isna().all()

def test_other_versions_and_columns_are_refused(tmp_path):
    path = tmp_path/'t.csv'
    append(path, [ROW], ['model'])
    before = path.read_bytes()
    with pytest.raises(ValueError, match='columns'): append(path, [ROW | dict(more=1)], ['model'])
    assert path.read_bytes() == before
    for text in ('model,lam,psnr,version\nVDL,0.02,17.7,0\n',
                 'model,lam,psnr,version\nVDL,0.02,17.7,4\n', 'model,lam,psnr\nVDL,0.02,17.7\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match='version'):
            append(path, [ROW | dict(model='SDL')], ['model'])
        assert path.read_text() == text
    with pytest.raises(FileNotFoundError, match='sweep mnist-linear'):
        read_table(tmp_path/'mnist-linear.csv')

# made by pages and tools, with columns of their own
OTHERS = {'cleaning.csv', 'convolution.csv', 'curved.csv', 'encoder-loss.csv', 'features.csv',
          'learners.csv', 'missing.csv', 'own-decoders.csv', 'photographs.csv', 'synthetic.csv'}
SWEPT = sorted(p.relative_to(RESULTS) for p in RESULTS.rglob('*.csv') if p.name not in OTHERS)

@pytest.mark.parametrize('name', SWEPT, ids=str)
def test_stored_tables_are_read(name):
    table = read_table(RESULTS/name)
    assert {'step_rule', 'precision'} <= {*table}
    assert set(table.precision) <= {'float32', 'bfloat16'}
    if name.stem.startswith('safe'): assert set(table.step_rule) == {'safe'}
    assert set(table.step_rule) <= {'recipe', 'safe', '1/L', 'coast'}

def test_divergence_in_the_first_epoch_is_written_down(home, monkeypatch):
    "There is no history yet then, and a table of histories may be there already."
    assert not sweep('digits', **QUICK | dict(lams=[.001]), **home)
    def diverge(run, data, after_epoch, **options):
        raise Diverged('epoch 1, batch 3: codes are not finite')
    monkeypatch.setattr(sweeps, 'train', diverge)
    assert not sweep('digits', **QUICK, **home)
    table = table_of(home)
    reasons = table[table.lam == .005].diverged.tolist()
    assert reasons == ['epoch 1, batch 3: codes are not finite']*3
    assert set(read_table(home['results']/'histories'/'digits.csv').lam) == {.001}

def test_full_disk_leaves_the_table(tmp_path, monkeypatch):
    path = tmp_path/'t.csv'
    append(path, [ROW], ['model'])
    before = path.read_bytes()
    def full(self, text):
        self.open('w').write(text[:5]); raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Path, 'write_text', full)
    with pytest.raises(OSError, match='as it was.*No space'):
        append(path, [ROW | dict(model='SDL')], ['model'])
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ['.lock', 't.csv']

def test_two_processes_lose_no_row(tmp_path):
    code = f'''
import sys
from deep_sparse_nb.paper.results import append
for i in range(15):
    row = dict(who=int(sys.argv[1]), i=i, version={_TABLE_VERSION})
    append({str(tmp_path/"t.csv")!r}, [row], ['who', 'i'])'''
    both = [subprocess.Popen([sys.executable, '-c', code, str(who)]) for who in (1, 2)]
    assert [p.wait() for p in both] == [0, 0]
    assert len(read_table(tmp_path/'t.csv')) == 30

def test_provenance_tells_no_folder(monkeypatch):
    folder = str(Path.home()/'secret')
    monkeypatch.setattr(sys, 'argv',
                        [f'{folder}/deep-sparse', 'sweep', 'digits', f'--data-dir={folder}/data',
                         '--runs', '../secret/runs'])
    assert provenance()['command'] == 'deep-sparse sweep digits --data-dir=data --runs runs'

# ---- the report ----

def published(folder, points, **changes):
    "A made-up table: (model, lam, seed, sigma, sparsity, psnr)."
    nl = points[0][0].endswith('-NL')
    rows = [_identity((replace(recipe('mnist', m, lam), epochs=changes.get('epochs', 200)), s),
                     origin('mnist', changes.get('sizes')))
            | dict(sigma=sigma, sparsity=sparsity, psnr=psnr, diverged=changes.get('diverged'),
                   unstable_from=changes.get('unstable_from'), version=_TABLE_VERSION)
            for m, lam, s, sigma, sparsity, psnr in points]
    append(folder/('mnist-nl.csv' if nl else 'mnist-linear.csv'), rows, [*_KEY, 'sigma'])
    return report(folder)

def line(table, figure, model='VDL', sigma=0):
    here = (table.figure == figure) & (table.model == model) & (table.sigma == sigma)
    found, = table[here & (table.dataset == 'mnist')].to_dict('records')
    return found

def test_report_without_results_is_all_null(tmp_path):
    table = report(tmp_path/'none')
    assert [*table][:11] == ['figure', 'dataset', 'model', 'lam', 'paper_psnr', 'our_psnr',
                             'paper_sparsity', 'our_sparsity', 'epochs', 'seeds', 'within']
    records = json.loads(table.to_json(orient='records'), parse_constant=pytest.fail)
    assert len(records) == 30
    ours = 'within', 'our_psnr', 'seeds', 'step_rule', 'precision', 'unstable_from'
    assert all(r[column] is None for r in records for column in ours)

@pytest.mark.parametrize('model, figure, sigma, psnr, sparsity, verdict', [
    *[('VDL', '2d', 0, *point) for point in (
        (17.7, .918, 'point'), (17.41, .918, 'point'), (17.39, .918, False),
        (17.7, .9325, 'point'), (17.7, .934, False), (17.99, .904, 'point'),
        (18.01, .904, False))],
    ('VDL-NL', '4d', 0, 18.69, .94, 'point'), ('VDL-NL', '4d', 0, 18.71, .922, False),
    ('VDL-NL', '4d', 0, 18.3, .943, False), ('VDL', 'table1', 1, 15.01, .5, 'point'),
    ('VDL', 'table1', 1, 14.99, .5, False), ('VDL', 'table1', 1, 15.81, .5, False)])
def test_points_agree_within_bars(tmp_path, model, figure, sigma, psnr, sparsity, verdict):
    table = published(tmp_path, [(model, .02, 0, float(sigma), sparsity, psnr)])
    assert line(table, figure, model, sigma)['within'] == verdict

@pytest.mark.parametrize('left, right, verdict', [
    ((.66, 21.0), (.74, 20.2), 'curve'),   # 20.7 at 69 %
    ((.66, 21.5), (.74, 20.7), False),     # 21.2 there
    ((.70, 20.7), (.74, 20.2), 'point'),
    ((.71, 20.7), (.74, 20.2), False)])    # the paper's sparsity lies outside: nothing to read
def test_sliding_along_the_curve(tmp_path, left, right, verdict):
    table = published(tmp_path,
                      [('VDL', .005, 0, 0, *left), ('VDL', .01, 0, 0, *right),
                       ('SDL', .003, 0, 0, .69, 10.)])
    assert line(table, '2c')['within'] == verdict

def test_mean_over_seeds(tmp_path):
    points = [('VDL', .02, s, 0, .918, p) for s, p in enumerate((17.3, 17.7, 18.4))]
    row = line(published(tmp_path, points), '2d')
    assert (row['our_psnr'], row['our_sparsity'], row['seeds'], row['epochs'],
            row['train_images']) == (17.8, 91.8, 3, 200, 55_000)

@pytest.mark.parametrize('less',
                         [dict(epochs=20), dict(sizes=(5_000, 5_000, 10_000)),
                          dict(sizes=(55_000, 5_000, 1_000)), dict(diverged='epoch 3')])
def test_less_than_the_whole_never_agrees(tmp_path, less):
    points = [('VDL', .02, 0, 0, .918, 17.7)]
    row = line(published(tmp_path, points, **less), '2d')
    assert (row['within'], row['verdict']) == ((None, 'not yet run') if 'diverged' in less
                                               else (False, 'shorter run'))
    # a whole run, far off: the trial is out of the picture
    both = line(published(tmp_path, [('VDL', .02, 1, 0, .5, 30.)]), '2d')
    assert (both['our_psnr'], both['seeds']) == (30., 1)
    assert (both['within'], both['verdict']) == (False, 'disagrees')

def test_the_report_says_how_codes_were_inferred(tmp_path):
    "Rows of another step or precision are compared by themselves, and named."
    recipes = [replace(recipe('mnist', 'VDL', .02), step_rule=rule, precision=precision)
               for rule, precision in (('1/L', 'bfloat16'), ('1/L', 'bfloat16'),
                                       ('recipe', 'float32'))]
    rows = [_identity((r, seed), origin('mnist'))
            | dict(sigma=0., sparsity=.918, psnr=17. + seed, diverged=None, unstable_from=None,
                   version=_TABLE_VERSION)
            for seed, r in enumerate(recipes)]
    append(tmp_path/'mnist-linear.csv', rows, [*_KEY, 'sigma'])
    row = line(report(tmp_path), '2d')
    assert (row['step_rule'], row['precision'], row['our_psnr'], row['seeds']) == (
        'recipe', 'float32', 19., 1)              # the paper's way comes before more seeds
    stored = report(Path(__file__).parents[1]/'results').set_index(['figure', 'sigma'])
    assert tuple(stored.loc[('4a', 0)][['step_rule', 'precision']]) == ('1/L', 'bfloat16')

@pytest.mark.parametrize('seen, told', [
    ((None, None), None), ((0, None), 0), ((0, 66), 66), ((187, 90), 90)])
def test_the_report_says_where_the_step_became_too_long(tmp_path, seen, told):
    for seed, epoch in enumerate(seen):
        points = [('VDL', .02, seed, 0, .918, 17.7)]
        row = line(published(tmp_path, points, unstable_from=epoch), '2d')
    found = row['unstable_from']
    assert pd.isna(found) if told is None else found == told

def test_a_whole_run_with_a_safe_step_counts_under_its_name(tmp_path):
    "A shorter one does not, and the paper's own step comes first."
    def add(table, epochs, rule, psnr):
        r = replace(recipe('mnist', 'VDL-NL', .02), epochs=epochs, step_rule=rule)
        row = dict(sigma=0., sparsity=.922, psnr=psnr, diverged=None, unstable_from=None,
                   version=_TABLE_VERSION)
        append(tmp_path/table, [_identity((r, 0), origin('mnist')) | row], [*_KEY, 'sigma'])
        found = line(report(tmp_path), '4d', 'VDL-NL')
        return found['step_rule'], found['epochs'], found['our_psnr'], found['verdict']
    assert add('mnist-nl.csv', 26, 'recipe', 18.) == ('recipe', 26, 18., 'shorter run')
    assert add('safe-step.csv', 62, 'safe', 17.) == ('recipe', 26, 18., 'shorter run')
    assert add('safe-step.csv', 200, 'safe', 18.1) == ('safe', 200, 18.1, 'agrees')
    assert add('mnist-nl.csv', 200, 'recipe', 18.2) == ('recipe', 200, 18.2, 'agrees')

# ---- what rests on finished models ----

def test_first_of_each_class():
    labels = torch.tensor([1, 0, 1, 1, 0, 0])
    assert first_of_each(labels, 1).tolist() == [0, 1]
    assert first_of_each(labels, 2).tolist() == [0, 1, 2, 4]
    assert first_of_each(labels, None).tolist() == list(range(6))
    with pytest.raises(ValueError, match='only 3'): first_of_each(labels, 4)

def test_draws_of_labelled_images_differ_and_can_be_had_again():
    labels = torch.arange(3).repeat(40)
    drawn = [first_of_each(labels, 5, draw) for draw in range(4)]
    assert all(labels[rows].bincount().tolist() == [5, 5, 5] for rows in drawn)
    assert drawn[0].tolist() == list(range(15))
    assert len({tuple(rows.tolist()) for rows in drawn}) == 4
    assert torch.equal(drawn[3], first_of_each(labels, 5, 3))
    # more labels of the same draw
    assert set(first_of_each(labels, 2, 3).tolist()) <= set(drawn[3].tolist())

def test_only_labelled_keeps_the_images_of_each_task():
    data = load('digits', sizes=(300, 50, 50))
    kept, rows = probes._only_labelled(data, (1, 3), 2)
    assert len(kept.train) < 100 and set(rows) == {(1, 0), (1, 1), (3, 0), (3, 1)}
    for (k, draw), chosen in rows.items():
        assert torch.equal(kept.train.images[chosen],
                           data.train.images[first_of_each(data.train.labels, k, draw)])
    assert [*probes._only_labelled(data, (None,), 3)[1]] == [(None, 0)]

@pytest.mark.parametrize('l', [0, 16])
def test_a_stack_of_classifiers_is_each_alone(l):
    g = torch.Generator().manual_seed(0)
    X, labels = torch.randn(2, 60, 20, generator=g), torch.randint(3, (60,), generator=g)
    V, v = torch.randn(2, 40, 20, generator=g), torch.randint(3, (40,), generator=g)
    made = stack([_Classifier(20, 3, l, s) for s in (0, 1)])
    lr = torch.tensor([1e-3, 1e-2])
    when, loss = _fit(made, X, labels, (V, v), torch.arange(2), [0, 1], lr, epochs=8, batch=25)
    for i in (0, 1):   # one at a time, by plain Adam
        alone, lowest = _Classifier(20, 3, l, i), torch.inf
        adam = torch.optim.Adam(alone.parameters(), lr=lr[i].item())
        for epoch in range(1, 9):
            for rows in data_order([i], epoch, 60)[0].split(25):
                adam.zero_grad()
                torch.nn.functional.cross_entropy(alone(X[i][rows]), labels[rows]).backward()
                adam.step()
            now = torch.nn.functional.cross_entropy(alone(V[i]), v).item()
            if now < lowest: lowest, best, kept = now, epoch, alone.W.detach().clone()
        assert when[i] == best and loss[i].item() == pytest.approx(lowest, rel=1e-4)
        assert torch.allclose(made.W[i], kept, atol=1e-4)

def test_top_errors():
    scores = torch.tensor([[[4., 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]]])
    found = probes._top_errors(scores, torch.tensor([0, 2, 0]))
    assert found['top1'].tolist() == pytest.approx([2/3])
    assert found['top3'].tolist() == pytest.approx([1/3])

@pytest.mark.slow
def test_few_labels_and_stability(home):
    quick = QUICK | dict(models=['SDL', 'VDL'], seeds=2)
    with pytest.raises(FileNotFoundError, match='sweep digits'): few_labels(['digits'], **home)
    sweep('digits', minutes=1e-6, **quick, **home)
    with pytest.raises(FileNotFoundError, match='no finished'): _finished(home['runs'], ['digits'])
    sweep('digits', **quick, **home)
    options = dict(grids=['digits'], seeds=2, per_class=(1, 5), epochs=5, device='cpu', **home)
    # four kinds of features, two numbers of labels
    assert few_labels(minutes=1e-9, **options) == 8
    assert few_labels(**options) == 0
    table = table_of(home, 'labels')
    assert table.groupby('model').size().to_dict() == dict(raw=4, LISTA=4, SDL=4, VDL=4)
    assert sorted(table.labels.unique()) == [10, 50] and (table.top3 <= table.top1).all()
    before = (home['results']/'labels.csv').read_bytes()
    assert few_labels(**options) == 0 and (home['results']/'labels.csv').read_bytes() == before
    assert few_labels(**options | dict(per_class=(None,))) == 0
    assert set(table_of(home, 'labels').labels) == {10, 50, 500}
    assert few_labels(minutes=1e-9, **options | dict(draws=3)) == 16
    assert few_labels(**options | dict(draws=3)) == 0
    table = table_of(home, 'labels').query("model == 'raw' and per_class == 1")
    assert table.groupby('draw').size().to_dict() == {0: 2, 1: 2, 2: 2}
    assert table.groupby('draw').top1.first().nunique() > 1
    with pytest.raises(ValueError, match='draws is 0'): few_labels(**options | dict(draws=0))
    path = home['results']/'labels.csv'
    pd.read_csv(path).drop(columns='draw').to_csv(path, index=False)
    with pytest.raises(ValueError, match='no column draw'): few_labels(**options)
    stable_atoms(['digits'], **home)
    stable = table_of(home, 'stability').set_index('model')
    assert set(stable.index) == {'SDL', 'VDL'} and (stable.seeds == 2).all()
    assert stable.alive.between(1, 128).all()
    assert stable[['similarity', 'floor']].stack().between(-1, 1).all()
    assert (stable.lowest <= stable.highest).all()

def test_stability_needs_two_seeds(home):
    sweep('digits', **QUICK, **home)
    with pytest.raises(ValueError, match='two'): stable_atoms(['digits'], **home)

def test_contrast_of_the_test_patches(home, tmp_path):
    images = tmp_path/'photographs'
    images.mkdir()
    for path in photographs('train'): (images/path.name).symlink_to(path)
    sweep('patches-linear', **QUICK | dict(epochs=1), **home, images=images)
    by_contrast(**home, images=images)
    table = table_of(home, 'contrast').query('sigma == 1').sort_values('share')
    assert table.share.tolist() == sorted(contrast._SHARES)
    assert table.psnr_input.is_monotonic_increasing and table.psnr_input.nunique() == len(table)
    # of noisy images: errors scale with the contrast, too
    assert table.psnr.is_monotonic_increasing
    whole, swept = table.iloc[-1], table_of(home, 'patches-linear').query('sigma == 1').iloc[0]
    for column in ('psnr', 'sparsity', 'psnr_input'):
        assert whole[column] == pytest.approx(swept[column], rel=1e-6)
    with pytest.raises(ValueError, match='learned from photographs'):
        by_contrast(**home, images=tmp_path)

def test_best_lambda_looks_at_validation_only():
    base = dict(dataset='mnist', source='mnist', model='VDL', epochs=200, train_images=55_000,
                per_class=1, classifier_epochs=100)
    table = pd.DataFrame([base | dict(lam=lam, seed=s, valid_top1=v, top1=t)
                          for lam, v, t in ((.001, .5, .1), (.02, .4, .9)) for s in (0, 1)])
    assert best_lambda(table).lam.tolist() == [.02, .02]
