"Pursuit to an error: alone, with pixels missing, in groups, and expected amounts."
import numpy as np
import pytest
from sklearn.linear_model import orthogonal_mp

from deep_sparse_nb.cleaning import _clean, _cosines, _fill, _learn_atoms, _own_atoms
from deep_sparse_nb.kernels.pursuit import (centred, expect, overlapped, pursue, pursue_alike,
                                            pursue_known)


def planted(n=60, d=36, l=90, k=3, noise=.02, seed=0):
    "Rows of k atoms each, and the atoms."
    rng = np.random.default_rng(seed)
    D = rng.standard_normal((d, l))
    D /= np.linalg.norm(D, axis=0)
    X = np.stack([D[:, rng.choice(l, k, replace=False)] @ rng.standard_normal(k)
                  for _ in range(n)])
    return X + noise*rng.standard_normal(X.shape), D


def test_pursuit_is_scikit_learns():
    X, D = planted()
    limit = .03
    Z = pursue(X, D, limit).dense(D.shape[1])
    theirs = orthogonal_mp(D, X.T, tol=limit, precompute=True).T
    assert np.allclose(Z, theirs, atol=1e-3)
    error = np.square(X - Z @ D.T).sum(1)
    assert (error <= limit*1.001).all()


def test_each_row_has_its_limit_and_most_atoms_hold():
    X, D = planted()
    limits = np.linspace(.01, 2., len(X))
    found = pursue(X, D, limits)
    assert (np.square(X - found.dense(90) @ D.T).sum(1) <= limits*1.001).all()
    assert pursue(X, D, 0., most=2).used.max() == 2
    assert not pursue(0*X, D, 0.).used.any()


def test_copies_and_opposites_of_atoms_do_no_harm():
    X, D = planted()
    twice = pursue(X, np.hstack([D, -D, D, 0*D]), .03).dense(360)
    whole = twice[:, :90] - twice[:, 90:180] + twice[:, 180:270]
    assert np.allclose(whole, pursue(X, D, .03).dense(90), atol=1e-3)


def test_missing_numbers_do_not_matter():
    X, D = planted()
    known = np.random.default_rng(1).random(X.shape) < .7
    made = [pursue_known(np.where(known, X, there), known, D, 0, .02**2, 9).dense(90)
            for there in (np.nan, 1e6)]
    assert (made[0] == made[1]).all()
    for x, seen, z in zip(X, known, made[0]):
        S = z != 0
        best = np.linalg.lstsq(D[seen][:, S], x[seen], rcond=None)[0]
        assert np.allclose(z[S], best, atol=1e-3)
    assert not pursue_known(X, known & False, D, 0, 0., 9).used.any()


def test_expected_amounts_are_wieners():
    X, D = planted()
    code = pursue(X, D, .03)
    made, weight = expect(X, D, code, .3)
    for x, z, y, w in zip(X, code.dense(90), made, weight):
        S = z != 0
        matrix = D[:, S].T @ D[:, S]
        inverse = np.linalg.inv(matrix + np.diag(.09/z[S]**2))
        assert np.allclose(D[:, S] @ (inverse @ (D[:, S].T @ x)), y, atol=1e-3)
        assert w == pytest.approx(1/(1 + np.trace(inverse @ matrix)), rel=1e-3)


def test_groups_of_one_are_patches_alone():
    "Nothing is pulled where a group is a single patch."
    rng = np.random.default_rng(0)
    planes, D = 10*rng.standard_normal((1, 20, 22)), _cosines(4, 24)
    X, levels = centred(planes, 4)
    made = pursue_alike(planes, planes, D, 4, 5., 1., step=1, group=1)
    code = pursue(X, D, 25.*16, 8)
    rows = code.dense(24) @ D.T + levels.repeat(16, 1)
    expected = overlapped(rows.astype(np.float32), 1/(1.05 + code.used), planes.shape, 4)
    assert np.allclose(made, expected, atol=1e-2)


def test_a_group_keeps_its_mean_and_loses_its_noise():
    "A picture that repeats one patch: its mean is what many noisy copies say."
    rng = np.random.default_rng(0)
    tile = 300*_cosines(8, 64)[:, 9].reshape(8, 8) + 1000
    planes = np.tile(tile, (6, 6))[None]
    noisy = planes + 10*rng.standard_normal(planes.shape)
    made = pursue_alike(noisy, planes, _cosines(8, 64), 8, 10., 1., step=8, reach=48)
    assert np.square(made - planes).mean() < 100/16


def test_channels_that_are_the_same_are_coded_as_one():
    "Three equal planes with atoms of equal thirds; the noise of a number is the same."
    rng = np.random.default_rng(0)
    plane, D = 100 + 10*rng.standard_normal((1, 20, 22)), _cosines(4, 24)
    one = pursue_alike(plane, plane, D, 4, 5., 1., group=1)
    three = pursue_alike(np.repeat(plane, 3, 0), plane, np.vstack([D]*3)/3**.5, 4, 5., 1., group=1)
    assert np.allclose(one, three[0], atol=1) and np.allclose(three[0], three[2], atol=1e-3)


@pytest.mark.parametrize('channels', [1, 3])
def test_cut_and_laid_patches_are_the_picture(channels):
    planes = np.random.default_rng(0).random((channels, 17, 13))
    rows, levels = centred(planes, 5)
    assert np.abs(rows.reshape(-1, channels, 25).mean(2)).max() < 1e-6
    whole = overlapped(rows + levels.repeat(25, 1), np.ones(len(rows)), planes.shape, 5)
    assert np.allclose(whole, planes, atol=1e-5)


def test_atoms_are_learned_that_were_planted():
    X, D = planted(3000, d=16, l=20, k=2)
    X = X.astype(np.float32)
    start = np.random.default_rng(1).standard_normal(D.shape)
    start /= np.linalg.norm(start, axis=0)
    W = _learn_atoms(X, start, .02, passes=30, batch=500)
    assert np.allclose(np.linalg.norm(W, axis=0), 1, atol=1e-4)
    few, many = (pursue(X, A, .02).used.mean() for A in (W, start))
    assert few < .8*many


def test_tiles_leave_no_seam(monkeypatch):
    i, j = np.mgrid[:90, :100]
    truth = (100 + 50*np.sin(i/6) + 50*np.sin(j/5 + i/9))[None]
    noisy = truth + 15*np.random.default_rng(0).standard_normal(truth.shape)
    D = _own_atoms(noisy, 15.)
    whole = _clean(noisy, D, 15.)
    monkeypatch.setattr('deep_sparse_nb.cleaning._TILE', 50)
    tiled = _clean(noisy, D, 15.)
    errors = [np.square(x - truth).mean() for x in (whole, tiled, noisy)]
    assert errors[1] < 1.05*errors[0] and errors[1] < errors[2]/8


def test_known_pixels_stay_and_all_is_filled():
    planes = np.add.outer(np.arange(30.), np.arange(26.))[None]
    known = np.random.default_rng(0).random(planes.shape) < .4
    known[0, 5:25, 5:20] = False
    made = _fill(np.where(known, planes, np.nan), known, _cosines(8, 100), 8)
    assert (made[known] == planes[known]).all() and np.isfinite(made).all()
    assert np.abs(made - planes).max() < 2*planes.std()
    assert np.std((made - planes)[~known]) < planes.std()/2
