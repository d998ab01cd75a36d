"""`SparseCoder`: scikit-learn's contract, sparsity on demand, data of every kind, wrong input."""
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from scipy.sparse import issparse
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import deep_sparse_nb
from deep_sparse_nb.decoders import LinearDecoder
from deep_sparse_nb.encoders import LISTA
from deep_sparse_nb.energy import planted
from deep_sparse_nb.estimator import SparseCoder, _center_biases_
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.training import _L1Weight

TRAIN, TEST = train_test_split(load_digits().data, random_state=0)
BARS, MORE_BARS = (planted(n, noise=.05, seed=seed)[0].numpy() for n, seed in ((2000, 0), (500, 1)))

def small(**changes):
    return SparseCoder(**dict(n_components=8, max_epochs=2, random_state=0) | changes)

@pytest.fixture(scope='module')
def fitted(): return small(n_components=16, max_epochs=5).fit(TRAIN)

# ---- scikit-learn's contract ----

@pytest.mark.slow
@pytest.mark.parametrize('changes', [
    dict(), dict(transform_algorithm='inference'), dict(decoder='hidden'),
    dict(regularization='unit_norm', encoder=None),
    pytest.param(dict(decoder='hidden', transform_algorithm='inference'),
                 marks=pytest.mark.slow)], ids=str)
def test_scikit_learn_checks(changes):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        done = check_estimator(small(n_components=4, max_epochs=1, **changes))
    assert len(done) > 30 and {check['status'] for check in done} <= {'passed', 'skipped'}
    skipped = {check['check_name'] for check in done if check['status'] == 'skipped'}
    assert not skipped - {'check_array_api_input', 'check_estimator_sparse_tag'}, skipped

@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)

PARTS = dict(linear=dict(), hidden=dict(decoder='hidden'),
             atoms=dict(encoder=None, regularization='unit_norm'))
ONCE = {name: small(**changes).fit(TRAIN[:300]).transform(TEST) for name, changes in PARTS.items()}

@pytest.mark.parametrize('name', PARTS)
def test_the_type_that_torch_defaults_to_changes_nothing(name, double_by_default):
    again = small(**PARTS[name]).fit(TRAIN[:300]).transform(TEST)
    np.testing.assert_array_equal(again, ONCE[name])

@pytest.mark.parametrize('kind', [np.float16, np.float32, np.float64])
def test_reconstructions_do_not_overflow(kind):
    X = TRAIN*1e5                                              # up to 1.6 million
    coder = small().fit(X)
    back = coder.inverse_transform(coder.transform(X).astype(kind))
    assert np.isfinite(back).all() and back.max() > 1e5
    assert back.dtype == (np.float64 if kind == np.float64 else np.float32)

def test_tensors_of_eight_bits_and_of_gradients_are_rows_too(fitted):
    X = torch.from_numpy(TEST).round()                         # 0 to 16: exact in eight bits
    expected = fitted.transform(X.float())
    for given in (X.to(torch.float8_e4m3fn), X.float().requires_grad_()):
        np.testing.assert_allclose(fitted.transform(given), expected, atol=1e-6)

def test_works_in_a_pipeline_and_in_a_grid_search():
    labels = load_digits().target[:400]
    pipeline = make_pipeline(small(n_components=16), LogisticRegression(max_iter=50))
    grid = dict(sparsecoder__target_sparsity=[.5, .8])
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score='raise')
    search.fit(load_digits().data[:400], labels)
    assert search.best_score_ > .5
    assert len(search.cv_results_['params']) == 2

def test_frames_have_names_and_set_output_makes_frames(fitted):
    X = pd.DataFrame(TRAIN, columns=[f'pixel{i}' for i in range(64)])
    coder = small().fit(X).set_output(transform='pandas')
    made = coder.transform(X)
    assert [*made] == [f'sparsecoder{i}' for i in range(8)] == [*coder.get_feature_names_out()]
    assert (coder.feature_names_in_ == X.columns).all()
    with pytest.raises(ValueError, match='feature names'): coder.transform(X[X.columns[::-1]])

def test_clones_and_joblib_keep_what_they_should(fitted, tmp_path):
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), 'model_')
    joblib.dump(fitted, tmp_path/'coder.joblib')
    again = joblib.load(tmp_path/'coder.joblib')
    np.testing.assert_array_equal(again.transform(TEST), fitted.transform(TEST))
    again.partial_fit(TRAIN[:250])
    assert again.n_iter_ == fitted.n_iter_ + 1

def test_fit_begins_anew_and_repeats_itself(fitted):
    again = clone(fitted).fit(BARS).fit(TRAIN)
    np.testing.assert_allclose(again.transform(TEST), fitted.transform(TEST), atol=1e-5)
    assert again.n_iter_ == 5 == len(again.history_)

def test_partial_fit_learns():
    coder = small(n_components=16)
    for _ in range(5): coder.partial_fit(BARS)
    assert coder.score(MORE_BARS) > .85 > coder.history_[0]['explained_variance']
    assert coder.n_iter_ == 5

# ---- rows by themselves ----

@pytest.mark.parametrize('changes', [
    dict(), dict(transform_algorithm='inference'), dict(encoder=None),
    dict(encoder=None, regularization='unit_norm'),
    dict(decoder='hidden', transform_algorithm='inference')], ids=str)
def test_a_row_has_its_codes_whoever_stands_beside_it(changes):
    coder = small(n_components=16, **changes).fit(TRAIN)
    codes = coder.transform(TEST)
    alone = np.concatenate([coder.transform(TEST[i:i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, codes[:5], atol=1e-9)
    np.testing.assert_allclose(coder.transform(TEST[::-1])[::-1], codes, atol=1e-9)
    strangers = np.concatenate([TEST[:5], 100*TEST[5:10]])
    np.testing.assert_allclose(coder.transform(strangers)[:5], codes[:5], atol=1e-9)

# ---- sparsity ----

@pytest.mark.parametrize('data, changes', [
    ('digits', dict(target_sparsity=.7)), ('digits', dict(target_sparsity=.9)),
    ('digits', dict(target_sparsity=.8, transform_algorithm='inference')),
    ('digits', dict(target_sparsity=.8, regularization='unit_norm')),
    ('digits', dict(target_sparsity=.9, regularization='unit_norm', encoder=None)),
    ('digits', dict(target_sparsity=.8, regularization='unit_norm', encoder=None,
                    positive=False)),
    ('bars', dict(target_sparsity=.8)), ('bars', dict(target_sparsity=.9)),
    ('digits', dict(target_sparsity=.7, positive=False)),
    ('digits', dict(target_sparsity=.8, decoder='hidden'))], ids=str)
def test_share_of_zeros_is_what_was_asked_for_on_held_out_data(data, changes):
    train, test = dict(digits=(TRAIN, TEST), bars=(BARS, MORE_BARS))[data]
    coder = SparseCoder(32, max_epochs=40, random_state=0, **changes).fit(train)
    zeros = (coder.transform(test) == 0).mean()
    assert abs(zeros - changes['target_sparsity']) < .015
    assert coder.score(test) > .3
    assert (coder.transform(test) >= 0).all() == coder.positive

def test_alpha_is_left_alone():
    coder = small(alpha=.03).fit(TRAIN)
    assert coder.alpha_ == .03 and {row['alpha'] for row in coder.history_} == {.03}


def test_the_weight_turns_the_right_way():
    weight = _L1Weight(torch.ones(2), torch.tensor([.8, 0.]))           # the second is fixed
    weight.turn(torch.tensor([.5, .5]), None)
    once = weight.lam.clone()
    assert 1 < once[0] <= 1.11 and once[1] == 1
    weight.turn(torch.tensor([.99, .99]), torch.tensor([.99, .99]))
    assert weight.lam[0] < once[0] and weight.lam[1] == 1
    weight = _L1Weight(torch.ones(1), torch.tensor([.8]))
    for _ in range(50): weight.turn(torch.tensor([.7]), torch.tensor([.8]))
    assert weight.gap.item() == pytest.approx(.1, abs=1e-4)


def test_a_weight_does_not_run_away_where_codes_in_use_cannot_follow():
    weight = _L1Weight(torch.ones(2), torch.full((2,), .8))
    for _ in range(500): weight.turn(1 - torch.exp(-weight.lam), torch.tensor([0., 1.]))
    assert (1 - torch.exp(-weight.lam)).tolist() == pytest.approx([.9, .4], abs=1e-3)

@pytest.mark.parametrize('positive', [True, False])
def test_encoders_begin_with_half_of_their_codes_at_zero(positive):
    encoder = stack([LISTA(64, 32, L=0, positive=positive)])
    X = torch.from_numpy(TRAIN).float()
    _center_biases_(encoder, X)
    assert ((encoder(X) == 0).float().mean((0, 1)) - .5).abs().max() < .05
    _center_biases_(encoder, X[:1])
    assert (encoder(X[:1]) != 0).all()

def test_a_target_that_cannot_be_reached_is_told():
    dense = nn.Linear(64, 8)
    with pytest.warns(ConvergenceWarning, match=r'target_sparsity is 0\.7, but 0\.0% of the codes'):
        coder = small(encoder=dense, target_sparsity=.7, max_epochs=8).fit(TRAIN)
    assert coder.alpha_ < 1
    with warnings.catch_warnings():
        warnings.simplefilter('error', ConvergenceWarning)
        small(target_sparsity=.7).fit(TRAIN)

# ---- units ----

@pytest.mark.parametrize('scaling', ['standard', 'features'])
def test_a_thousand_times_the_data_changes_the_scale_alone(scaling):
    one, many = (small(scaling=scaling).fit(k*BARS) for k in (1, 1000))
    Z = one.transform(MORE_BARS)
    np.testing.assert_allclose(many.transform(1000*MORE_BARS), Z, atol=1e-3)
    back = one.inverse_transform(Z)
    np.testing.assert_allclose(many.inverse_transform(Z), 1000*back, atol=10*back.std())
    np.testing.assert_allclose(many.components_, 1000*one.components_, atol=10*back.std())

def test_components_are_what_a_unit_of_code_adds(fitted):
    none, unit = np.zeros((1, 16)), np.eye(16)
    added = fitted.inverse_transform(unit) - fitted.inverse_transform(none)
    np.testing.assert_allclose(fitted.components_, added, atol=1e-4)

def test_score_is_the_share_of_variance_explained(fitted):
    back = fitted.inverse_transform(fitted.transform(TEST))
    expected = 1 - ((TEST - back)**2).sum()/((TEST - TEST.mean(0))**2).sum()
    assert fitted.score(TEST) == pytest.approx(expected, abs=1e-9)
    assert fitted.score([TEST[:100], TEST[100:]]) == pytest.approx(expected, abs=1e-6)

def test_contrast_is_given_back_from_the_data():
    images = TRAIN.reshape(-1, 8, 8)
    coder = small(scaling='contrast').fit(images)
    Z = coder.transform(images[:5])
    assert coder.inverse_transform(Z, like=images[:5]).shape == (5, 8, 8)
    with pytest.raises(ValueError, match='like is None'): coder.inverse_transform(Z)

# ---- data of every kind ----

def test_sources_of_the_same_rows_give_the_same_kind_of_model(tmp_path):
    X = TRAIN.astype(np.float32)
    np.save(tmp_path/'X.npy', X)
    dataset = TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))
    sources = dict(file=np.load(tmp_path/'X.npy', mmap_mode='r'), dataset=dataset,
                   loader=DataLoader(dataset, 100), batches=[X[:500], X[500:501], X[501:]],
                   tensor=torch.from_numpy(X), rows=X.tolist(), half=torch.from_numpy(X).half(),
                   numbers=X.astype(np.uint8))
    for name, source in sources.items():
        coder = small(n_components=16, batch_size=100, max_epochs=12).fit(source)
        assert coder.n_features_in_ == 64 and coder.score(TEST) > .1, name
        assert coder.transform(source).shape == (len(X), 16), name

def test_images_come_back_as_images():
    for shape in ((8, 8), (4, 4, 4)):
        images = TRAIN.reshape(-1, *shape)
        coder = small().fit(images)
        Z = coder.transform(images)
        assert coder.inverse_transform(Z).shape == images.shape and Z.shape == (len(images), 8)
        assert coder.components_.shape == (8, 64)
        np.testing.assert_array_equal(coder.transform(TRAIN), Z)
        with pytest.raises(ValueError, match='X has images of shape'):
            coder.transform(images.reshape(-1, 2, 32))

def test_few_rows_and_remainders_of_one():
    for n in (2, 3, 11, 251, 501):
        assert small().fit(TRAIN[:n]).transform(TRAIN[:n]).shape == (n, 8)

@pytest.mark.slow
def test_a_large_file_is_not_read_into_memory(tmp_path):
    "4 GB, most of it holes, in a process that may not hold as much."
    script = f'''
import numpy as np, resource
from deep_sparse_nb.estimator import SparseCoder, _center_biases_
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.training import _L1Weight
X = np.lib.format.open_memmap({str(tmp_path/'X.npy')!r}, 'w+', np.float32, (1_000_000, 1000))
X[::1000] = np.random.default_rng(0).standard_normal((1000, 1000))
coder = SparseCoder(4, max_epochs=1, batch_size=1000, alpha=.01)
coder.fit(np.load({str(tmp_path/'X.npy')!r}, mmap_mode='r'))
assert coder.history_[0]['rows'] == 1_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20)
'''
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.5

# ---- decoders and encoders of one's own ----

class Pictures(nn.Module):
    def __init__(self, l=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(l, 32), nn.Tanh(), nn.Linear(32, 64))
    def forward(self, Z): return self.layers(Z).unflatten(-1, (8, 8))

def codes(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())

@pytest.mark.parametrize('decoder', [Pictures, Pictures()], ids=['a class', 'a module'])
def test_modules_of_ones_own_learn(decoder):
    weights = [*decoder.parameters()] if isinstance(decoder, nn.Module) else []
    given = [p.clone() for p in weights]
    coder = small(decoder=decoder, encoder=codes, max_epochs=10).fit(TRAIN.reshape(-1, 8, 8))
    assert coder.history_[-1]['error'] < .9*coder.history_[0]['error']
    assert coder.inverse_transform(coder.transform(TEST)).shape == (len(TEST), 8, 8)
    assert all(torch.equal(before, after) for before, after in zip(given, weights))

@pytest.mark.slow
def test_dead_components_are_counted_and_revived():
    common = dict(n_components=128, max_epochs=15, target_sparsity=.9, batch_size=100,
                  regularization='unit_norm')
    left, revived = (small(**common, revive=revive).fit(TRAIN) for revive in (False, True))
    assert not any(row['revived'] for row in left.history_)
    assert any(row['revived'] for row in revived.history_)
    assert revived.history_[-1]['dead'] < .75*left.history_[-1]['dead']
    alone = common | dict(target_sparsity=.95, encoder=None)            # atom by atom
    left, revived = (small(**alone, revive=revive).fit(TRAIN) for revive in (False, True))
    assert any(row['revived'] for row in revived.history_)
    assert revived.history_[-1]['dead'] < left.history_[-1]['dead']
    hinged = small(**common | dict(regularization='variance')).fit(TRAIN)
    assert hinged.history_[-1]['dead'] == 0

def test_callbacks_hear_of_each_epoch():
    heard = []
    coder = small(callbacks=[lambda history: heard.append(len(history))]).fit(TRAIN)
    assert heard == [1, 2] and coder.history_[-1]['epoch'] == 2

# ---- the package ----

def test_the_package_has_it_without_importing_torch():
    script = ('import sys, deep_sparse_nb; assert "torch" not in sys.modules; '
              'from deep_sparse_nb import SparseCoder; print(SparseCoder.__module__)')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == 'deep_sparse_nb.estimator', done.stderr
    with pytest.raises(AttributeError, match='nonsense'): deep_sparse_nb.nonsense  # noqa: B018

# ---- a dictionary that is given ----

ATOMS = np.random.default_rng(0).normal(size=(60, 30)).astype(np.float32)
MIXED = np.random.default_rng(1)
MIXED = (MIXED.random((200, 60))*(MIXED.random((200, 60)) < .1)) @ ATOMS

@pytest.mark.parametrize('positive', [True, False])
def test_codes_of_a_dictionary_are_those_of_lasso(positive):
    coder = SparseCoder.from_dictionary(ATOMS, alpha=.05, refit=False, positive=positive)
    codes, gaps = coder.transform(MIXED[:100], certify=True)
    lasso = Lasso(alpha=.025, positive=positive, fit_intercept=False, tol=1e-10, max_iter=10**5)
    theirs = [lasso.fit(ATOMS.T.astype(float), x).coef_ for x in MIXED[:100]]
    np.testing.assert_allclose(codes, theirs, atol=1e-6)
    assert gaps.max() <= 1e-6 and np.array_equal(coder.components_, ATOMS)

def test_number_of_components_bias_and_least_squares(tmp_path):
    bias = np.arange(30.)
    def made(**changes):
        options = dict(n_nonzero=6, sample=MIXED[:100] + bias, sparse_output=True) | changes
        return SparseCoder.from_dictionary(ATOMS, bias, **options)
    coder, shrunk = made(), made(refit=False)
    codes = coder.transform(MIXED + bias)
    assert issparse(codes) and abs(codes.nnz/len(MIXED) - 6) < .6
    assert coder.score(MIXED + bias) > shrunk.score(MIXED + bias) > .8
    dense = made(sparse_output=False)
    assert np.array_equal(codes.toarray(), dense.transform(MIXED + bias))
    zeros = made(n_nonzero=None, target_sparsity=.9)
    assert zeros.alpha_ == pytest.approx(coder.alpha_, rel=.05)
    coder.save_pretrained(tmp_path/'model')
    again = SparseCoder.from_pretrained(tmp_path/'model').transform(MIXED + bias)
    assert abs(again - codes).max() == 0
    decoder = LinearDecoder(60, 30)
    decoder.W.data = torch.tensor(ATOMS).T.clone()
    both = [SparseCoder.from_dictionary(D, alpha=.05).transform(MIXED) for D in (ATOMS, decoder)]
    assert np.array_equal(*both)
    assert torch.equal(decoder.W.data, torch.tensor(ATOMS).T)

def test_learning_goes_on_from_a_dictionary():
    coder = SparseCoder.from_dictionary(ATOMS[:20], alpha=.02, refit=False, random_state=0)
    before = coder.score(MIXED)
    assert coder.partial_fit(MIXED).score(MIXED) > before

def test_exact_codes_in_use_are_no_part_of_a_pickle():
    coder = SparseCoder.from_dictionary(ATOMS, alpha=.05)
    size = len(pickle.dumps(coder))
    codes = coder.transform(MIXED)
    assert len(pickle.dumps(coder)) == size
    assert np.array_equal(pickle.loads(pickle.dumps(coder)).transform(MIXED), codes)
