"""Measure dictionaries that one call learns from nine data sets, beside SPAMS and scikit-learn.

`python tools/results/learners.py [SECONDS]` adds rows to results/learners.csv. Kill it at will, or
give it so many seconds, and call it again: what has a row is not measured twice. SPAMS is the
package spams-bin. Each learner sees four fifths of the rows, on one thread. Its dictionary is
judged on the others, by exact codes with the same number of zeros, as they are and after least
squares on their support. SPAMS and scikit-learn get the weight of the l1 norm, of those below,
with which their dictionary explains most of those very rows; ours gets the share of zeros.
"""
import importlib.util
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from skimage.data import brick, grass, gravel, lfw_subset, page, text
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images
from sklearn.decomposition import MiniBatchDictionaryLearning

from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.kernels.active_set import Prepared
from deep_sparse_nb.paper.results import append, provenance, read_table

TABLE = Path(__file__).resolve().parents[2]/'results'/'learners.csv'
KEY = ['data', 'draw', 'learner']
DRAWS = 3
WEIGHTS = .05, .1, .2, .4, .8           # times the mean length of a row
SPAMS = 400, 100, 1600                  # batches of 256; the weight is chosen with the first


def patches(pictures, size, n, rng):
    "n patches of size x size pixels, as rows, taken evenly from pictures of 0 to 255."
    rows = []
    for picture in pictures:
        h, w = picture.shape[:2]
        for _ in range(n//len(pictures)):
            i, j = rng.integers(h - size + 1), rng.integers(w - size + 1)
            rows.append(picture[i:i + size, j:j + size].reshape(-1))
    return np.stack(rows).astype(float)


def spectra(rng, n=3000, channels=200, substances=40):
    centres = rng.uniform(10, channels - 10, (substances, 3, 1))
    S = np.exp(-((np.arange(channels) - centres)/4)**2/2).sum(1)
    amounts = rng.uniform(.5, 1.5, (n, substances))*(rng.random((n, substances)) < .1)
    return amounts @ S + .02*rng.standard_normal((n, channels))


def words():
    folder = Path(importlib.util.find_spec('wordllama').submodule_search_locations[0])
    (X,) = load_file(folder/'weights'/'l2_supercat_256.safetensors').values()
    return X.double().numpy()


def grey(pictures): return [picture.mean(2) for picture in pictures]


# name: rows, atoms, share of zeros
DATA = {
    'photographs, grey': (lambda r: patches(grey(load_sample_images().images), 12, 25_000, r),
                          128, .9),
    'photographs, colour': (lambda r: patches(load_sample_images().images, 8, 25_000, r),
                            256, .9),
    'textures': (lambda r: patches([brick(), grass(), gravel()], 10, 25_000, r), 128, .9),
    'print': (lambda r: patches([page(), text()], 8, 25_000, r), 128, .9),
    'digits': (lambda r: load_digits().data, 64, .8),
    'faces': (lambda r: lfw_subset().reshape(200, -1), 64, .8),
    'breast cancer': (lambda r: load_breast_cancer().data, 60, .8),
    'spectra': (spectra, 80, .9),
    'word embeddings': (lambda r: words(), 512, .95)}


def rows_of(name, draw):
    "Training and test rows."
    rng = np.random.default_rng(draw)
    X = DATA[name][0](rng)
    X = X[rng.permutation(len(X))]
    if name == 'breast cancer': X = X/X.std(0)          # of thirty different units
    n = len(X)//5
    return X[n:], X[:n]


def judged(D, X, Y, zeros):
    "Of atoms D (l, d) for scaled rows: explained without and with least squares, and zeros."
    Y, l = torch.from_numpy(Y), len(D)
    solver = Prepared(torch.from_numpy(np.ascontiguousarray(D.T)))
    try: lam = solver.lam_for(Y, l*(1 - zeros))
    except ValueError: lam = 1e-6*(Y @ torch.from_numpy(D.T)).max().item()*2/D.shape[1]
    # then codes have as many active components as they ever have, which are fewer
    def explained(refit):
        Z = solver.codes(Y, lam, refit=refit, sparse=True).codes
        return 1 - (Z @ D - Y.numpy()).__pow__(2).sum()/np.square(Y - Y.mean(0)).sum().item(), Z
    plain, Z = explained(False)
    return dict(explained=plain, refitted=explained(True)[0], zeros=1 - Z.nnz/len(Y)/l)


def timed(learn, *args):
    begun = time.process_time()
    made = learn(*args)
    return made, time.process_time() - begun


def by_spams(X, l, weight, batches):
    import spams
    return spams.trainDL(np.asfortranarray(X.T), K=l, lambda1=weight, mode=2, iter=batches,
                         batchsize=256, posAlpha=True, numThreads=1, verbose=False).T


def by_scikit_learn(X, l, weight, draw):
    model = MiniBatchDictionaryLearning(
        l, alpha=weight, batch_size=256, positive_code=True, fit_algorithm='cd', random_state=draw)
    return model.fit(X).components_


def ours(X, l, zeros, draw):
    coder = SparseCoder(l, target_sparsity=zeros, random_state=draw).fit(X)
    return coder.model_.decoder.W[0].detach().double().numpy().T


def best(learn, weights, *judge):
    "The weight whose dictionary explains most, its dictionary, and the seconds of its fit."
    tried = []
    for weight in weights:
        D, seconds = timed(learn, weight)
        if np.isfinite(D).all() and np.abs(D).sum(1).all():
            tried.append((judged(D, *judge)['explained'], weight, D, seconds))
    return max(tried, key=lambda found: found[0])[1:]


def measure(name, draw):
    "The rows of the table for a draw of a data set."
    l, zeros = DATA[name][1:]
    there = read_table(TABLE)[KEY].values.tolist() if TABLE.is_file() else []
    if [name, draw, 'MiniBatchDictionaryLearning'] in there: return     # the last of them
    if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
    train, test = rows_of(name, draw)
    mean, unit = train.mean(), train.std()
    X, Y = (train - mean)/unit, (test - mean)/unit
    weights = [share*np.linalg.norm(X, axis=1).mean() for share in WEIGHTS]
    judge = X, Y, zeros
    def note(learner, D, seconds, weight=math.nan):
        row = dict(data=name, draw=draw, learner=learner, atoms=l, rows=len(X),
                   features=X.shape[1], weight=weight, seconds=seconds) | judged(D, *judge)
        append(TABLE, [row | provenance()], KEY, digits=5)
        print(name, draw, learner, f"{row['explained']:.4f} {row['refitted']:.4f}",
              f'{seconds:.1f} s', flush=True)
    note('SparseCoder', *timed(ours, train, l, zeros, draw))
    weight, D, seconds = best(lambda w: by_spams(X, l, w, SPAMS[0]), weights, *judge)
    note(f'SPAMS, {SPAMS[0]}', D, seconds, weight)
    for batches in SPAMS[1:]:
        note(f'SPAMS, {batches}', *timed(by_spams, X, l, weight, batches), weight)
    weight, D, seconds = best(lambda w: by_scikit_learn(X, l, w, draw), weights, *judge)
    note('MiniBatchDictionaryLearning', D, seconds, weight)


if __name__ == '__main__':
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    SECONDS = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else None
    SparseCoder(8, max_epochs=2, random_state=0).fit(load_digits().data)        # compiles
    for draw in range(DRAWS):
        for name in DATA: measure(name, draw)
