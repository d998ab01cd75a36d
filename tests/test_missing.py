"""Numbers that are missing: codes of what is known, what is learned, and what fills the holes."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deep_sparse_nb import SparseCoder
from deep_sparse_nb.data.arrays import Scaling, batches
from deep_sparse_nb.kernels.incomplete import known_codes
from deep_sparse_nb.metrics import explained_variance, _variance
from deep_sparse_nb.missing import _AtomByFeature

OPTIONS = dict(n_components=24, encoder=None, regularization='unit_norm', missing='ignore',
               scaling='mean', max_epochs=30, batch_size=50, random_state=0)

def rows(n=300, d=20, share=.3, seed=0):
    "Rows made of two of 12 atoms each, whole and with holes."
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((12, d))
    amounts = np.zeros((n, 12))
    for row in amounts: row[rng.choice(12, 2, replace=False)] = .5 + rng.random(2)
    whole = amounts @ atoms + 3 + .01*rng.standard_normal((n, d))
    return whole, np.where(rng.random((n, d)) < share, np.nan, whole)

@pytest.fixture(scope='module')
def fitted():
    whole, torn = rows()
    return SparseCoder(**OPTIONS).fit(torn[:200]), whole[200:], torn[200:]

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0., 1e-10, 1e-6, 1e-3, .1, 2.]),
       st.sampled_from([0., .1]), st.booleans())
def test_codes_of_degenerate_problems_are_finite_and_certified(seed, relative, ridge, positive):
    rng = np.random.default_rng(seed)
    d, l, rank = rng.integers(1, 12, 3)
    D = rng.standard_normal((d, rank)) @ rng.standard_normal((rank, l))
    D[:, rng.random(l) < .2] = 0                                # atoms of zeros, and twins
    if l > 1: D[:, 0] = D[:, -1]
    Y = rng.standard_normal((8, d))*10.**rng.integers(-3, 4)
    Y[rng.random(Y.shape) < rng.random()] = np.nan
    ridge, lam = ridge*(D**2).sum(0).max(), relative*2/d*np.abs(np.nan_to_num(Y) @ D).max()
    Z, gap = known_codes(torch.from_numpy(Y), torch.from_numpy(D), lam, ridge, positive)
    Z, known = Z.numpy(), ~np.isnan(Y)
    assert np.isfinite(Z).all() and (not positive or (Z >= 0).all())
    assert (Z[~known.any(1)] == 0).all()
    assert np.abs(np.where(known, Z @ D.T, 0)).max() <= 4*np.nanmax(np.abs(Y), initial=0.)*d
    def energy(Z):
        error = np.where(known, Y - Z @ D.T, 0)
        return ((error**2).sum(1) + ridge*(Z**2).sum(1))/d + lam*np.abs(Z).sum(1)
    if lam and (ridge or relative >= 1e-3): assert gap.max() < 1e-6
    below = energy(Z)*(1 - gap.numpy())                         # what the certificate promises
    slack = 1e-8*energy(0*Z)                                    # for the least ridge
    for other in (0*Z, .9*Z, 1.1*Z, *(Z*(np.arange(l) != j) for j in range(l))):
        assert (below <= energy(other) + slack).all()

def test_scaling_learns_from_what_is_known():
    _, torn = rows()
    torn[:, 3] = np.nan
    for kind in ('mean', 'features', 'standard'):
        scaling = Scaling(kind).fit(torn, batch_size=70, missing=True)
        scale, shift = (np.broadcast_to(A, 20) for A in scaling.maps(torch.from_numpy(torn)))
        seen = np.arange(20) != 3
        if kind == 'standard':
            assert np.allclose(shift, np.nanmean(torn)) and np.allclose(scale, np.nanstd(torn))
        else: assert np.allclose(shift[seen], np.nanmean(torn[:, seen], 0))
        if kind == 'features': assert np.allclose(scale[seen], np.nanstd(torn[:, seen], 0))
        again = Scaling.from_state(scaling.state())
        row = torch.zeros(1, 20)
        assert all(map(torch.equal, again.maps(row), scaling.maps(row)))
    with pytest.raises(ValueError, match='X has nan'): Scaling().fit(torn)
    torn[5, 5] = np.inf
    with pytest.raises(ValueError, match='X has inf in row 5'): [*batches(torn, missing=True)]

def test_measures_do_not_count_what_is_missing():
    whole, torn = (torch.from_numpy(A) for A in rows())
    assert torch.isclose(_variance(whole), whole.var(0, correction=0).mean())
    known = ~torn.isnan()
    means = [torn[k, j].mean() for j, k in enumerate(known.T)]
    squares = sum(((torn[k, j] - m)**2).sum() for (j, k), m in zip(enumerate(known.T), means))
    assert torch.isclose(_variance(torn), squares/known.sum())
    assert explained_variance(torn, whole) == 1
    assert torch.isclose(explained_variance(torn, whole + 1), 1 - known.sum()/squares)

def test_holes_are_filled(fitted):
    coder, whole, torn = fitted
    holes = np.isnan(torn)
    filled = coder.inverse_transform(coder.transform(torn), like=torn)
    assert np.allclose(filled[~holes], torn[~holes], rtol=1e-6)
    left = ((filled - whole)[holes]**2).sum()
    usual = ((coder.scaling_.maps(torch.from_numpy(torn))[1].numpy() - whole)[holes]**2).sum()
    assert left < .15*usual
    back = coder.inverse_transform(coder.transform(torn))
    known = np.where(holes, 0, (back - torn)**2).sum()
    spread = np.nansum((torn - np.nanmean(torn, 0))**2)
    assert coder.score(torn) == pytest.approx(1 - known/spread, abs=1e-5)

def test_a_row_has_its_own_code(fitted):
    coder, _, torn = fitted
    Z = coder.transform(torn)
    assert np.array_equal(Z[7:8], coder.transform(torn[7:8]))
    assert np.array_equal(Z[::-1], coder.transform(torn[::-1].copy()))
    nothing = coder.transform(np.full((1, 20), np.nan))
    assert not nothing.any()

def test_rows_come_in_any_form(fitted):
    coder, _, torn = fitted
    Z = coder.transform(torn)
    assert np.allclose(coder.transform(torch.from_numpy(torn)), Z)
    assert np.allclose(coder.transform([torn[:40], torn[40:]]), Z, atol=1e-6)
    small = dict(OPTIONS, max_epochs=1, alpha=.01)
    a = SparseCoder(**small).fit([torn[:40], torn[40:]])
    b = SparseCoder(**small).partial_fit(torn).partial_fit(torn)
    assert np.isfinite(a.components_).all() and np.isfinite(b.components_).all()

def test_stored_and_continued(fitted, tmp_path):
    coder, _, torn = fitted
    coder.save_pretrained(tmp_path/'model')
    again = SparseCoder.from_pretrained(tmp_path/'model')
    assert np.array_equal(again.transform(torn), coder.transform(torn))
    def stop(history):
        if len(history) == 2: raise KeyboardInterrupt
    options = dict(OPTIONS, max_epochs=4, checkpoint=tmp_path/'fit.safetensors')
    with pytest.raises(KeyboardInterrupt): SparseCoder(**options, callbacks=[stop]).fit(torn)
    on, straight = (SparseCoder(**options | more).fit(torn) for more in ({}, {'checkpoint': None}))
    assert np.array_equal(on.components_, straight.components_)

def test_what_is_refused():
    _, torn = rows(60)
    with pytest.raises(ValueError, match='NaN'): SparseCoder().fit(torn)
    for wrong in (dict(missing='drop'), dict(scaling='contrast'),
                  dict(regularization='variance', encoder='lista'),
                  dict(decoder='hidden', regularization='weight_decay')):
        with pytest.raises(ValueError, match='missing is'): SparseCoder(**OPTIONS | wrong).fit(torn)
    torn[3, 3] = np.inf
    with pytest.raises(ValueError, match='inf'): SparseCoder(**OPTIONS).fit(torn)
    with pytest.raises(ValueError, match='n_components is 2000'):
        _AtomByFeature(torch.nn.Parameter(torch.empty(1, 200, 2000)))
    for options, name in ((dict(lam=-1.), 'lam'), (dict(lam=1., tol=0.), 'tol'),
                          (dict(lam=1., ridge=torch.inf), 'ridge')):
        with pytest.raises(ValueError, match=name):
            known_codes(torch.ones(2, 3), torch.ones(3, 4), **options)
    with pytest.raises(ValueError, match='Y has shape'):
        known_codes(torch.ones(2, 3), torch.ones(4, 3), 1.)

def test_the_ridge_is_chosen_by_hidden_numbers_and_kept(tmp_path):
    "Of features that have nothing in common the column mean is best, so the largest ridge is."
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 12))
    torn = np.where(rng.random(X.shape) < .3, np.nan, X)
    alone = SparseCoder(**OPTIONS | dict(n_components=16, max_epochs=4)).fit(torn)
    assert alone.ridge_ >= 1
    X = rng.random((300, 3)) @ rng.standard_normal((3, 12))
    torn = np.where(rng.random(X.shape) < .3, np.nan, X)
    common = SparseCoder(**OPTIONS | dict(n_components=16, max_epochs=4)).fit(torn)
    assert common.ridge_ < alone.ridge_
    alone.save_pretrained(tmp_path)
    again = SparseCoder.from_pretrained(tmp_path)
    assert again.ridge_ == alone.ridge_
    np.testing.assert_array_equal(again.transform(torn), alone.transform(torn))
