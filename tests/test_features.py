"Dictionaries that find features: a planted one is found; sums are those of the latest codes."
import numpy as np
import pytest
import torch
from scipy.sparse import random as random_codes

from deep_sparse_nb.features import _Sums, _learn_dictionary, _superfluous
from deep_sparse_nb.kernels import jit
from deep_sparse_nb.sae import SAE

needs_compiler = pytest.mark.skipif(not jit.available(), reason='exact codes take long')

def planted_rows(n=600, d=16, l=24, active=2):
    rng = np.random.default_rng(0)
    D = rng.standard_normal((d, l))
    D /= np.linalg.norm(D, axis=0)
    Z = rng.random((n, l))*(rng.random((n, l)).argsort(1) < active)
    return D, Z @ D.T

def test_sums_are_those_of_the_latest_codes():
    rng = np.random.default_rng(0)
    X, sums = rng.standard_normal((40, 5)), _Sums(5, 9, 40)
    for turn in range(3):
        codes = [random_codes(20, 9, .2, 'csr', random_state=2*turn + i) for i in range(2)]
        for i, Z in enumerate(codes): sums.put(i, X[20*i:20*i + 20], Z)
    Z = np.concatenate([Z.toarray() for Z in codes])
    np.testing.assert_allclose(sums.A, Z.T @ Z/40, atol=1e-12)
    np.testing.assert_allclose(sums.B, X.T @ Z/40, atol=1e-12)
    assert (sums.rows_of == (Z > 0).sum(0)).all()
    sums.forget(np.array([2, 5]))
    Z[:, [2, 5]] = 0
    np.testing.assert_allclose(sums.A, Z.T @ Z/40, atol=1e-12)
    np.testing.assert_allclose(sum(c.toarray() for c in sums.codes.values()).sum(0), Z.sum(0))

def test_the_twin_that_codes_use_less_and_unused_atoms_are_superfluous():
    D, sums = np.eye(6)[:, :5].copy(), _Sums(6, 5, 1)
    D[:, 3] = D[:, 1] + .1*D[:, 0]
    D[:, 3] /= np.linalg.norm(D[:, 3])
    sums.A[range(5), range(5)], sums.rows_of[:4] = [1, 1, 1, 2, 1], 1
    assert _superfluous(D, sums, .6).tolist() == [1, 4]
    assert _superfluous(D, sums, 1.).tolist() == [4]

@needs_compiler
def test_planted_features_are_found_and_refined():
    D, X = planted_rows()
    found = SAE.learn(X, 24, 2/16*.05, passes=18, batch_size=100)
    assert (np.abs(D.T @ found.W_dec.T.numpy()).max(1) > .95).mean() > .9
    rng = torch.Generator().manual_seed(0)
    off = found.W_dec + .15*torch.randn(found.W_dec.shape, generator=rng)
    worse = SAE(3*off.T, torch.zeros(24), 3*off, torch.zeros(16), kind='topk', k=2)
    better = worse.refine(X, passes=4)
    torch.testing.assert_close(better.W_dec.norm(dim=1), worse.W_dec.norm(dim=1))
    left = [(sae.decode(sae.recode(X, n_nonzero=2)).numpy() - X).var() for sae in (worse, better)]
    assert left[1] < .7*left[0]
    assert torch.equal(better.W_enc, worse.W_enc)

@needs_compiler
def test_atoms_that_nobody_uses_stay_where_none_is_replaced():
    D, X = planted_rows()
    D[:, 5] = 0
    new, history = _learn_dictionary(X, 24, .01, D=D, passes=2, start=1., restart=None,
                                     replace=False)
    assert (new[:, 5] == 0).all() and new.isfinite().all()
    assert [row['replaced'] for row in history] == [0, 0]

@pytest.mark.parametrize('wrong, says', [
    (dict(X=[[1.]]), 'X is of type list'), (dict(X=np.ones(5)), r'X has shape \(5,\)'),
    (dict(X=np.full((9, 3), np.nan)), 'not finite'), (dict(n_components=99), 'X has 9 rows'),
    (dict(lam=0.), 'lam is 0.0'), (dict(passes=0), 'passes is 0'), (dict(start=.5), 'start is 0.5'),
    (dict(fall=2.), 'fall is 2.0'), (dict(restart=0), 'restart is 0'), (dict(twins=0.), 'twins is'),
    (dict(D=np.ones((2, 4))), r'D has shape \(2, 4\)')])
def test_bad_input_is_refused_by_name(wrong, says):
    given = dict(X=np.ones((9, 3)), n_components=4, lam=.1) | wrong
    with pytest.raises((ValueError, TypeError), match=says): _learn_dictionary(**given)
