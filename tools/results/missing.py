"""Measure what fills holes in tables.

`python tools/results/missing.py [SECONDS [METHOD ...]]` adds rows to results/missing.csv: parts of
three data sets go missing at random, and each way fills rows that it has not learned from. Kill it
at will, or give it so many seconds, and call it again: what has a row is not measured twice. The
word embeddings are those of the package wordllama.
"""
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.paper.results import append, provenance, read_table

TABLE = Path(__file__).resolve().parents[2]/'results'/'missing.csv'
KEY = ['data', 'missing', 'draw', 'method']
SHARES, DRAWS = (.5, .2, .8), 3
NEIGHBOURS = 5, 20      # both are measured; scikit-learn's default is 5


def whole(name):
    "Rows of a data set, and how `SparseCoder` scales them."
    if name == 'digits': return load_digits().data, 'mean'
    if name == 'breast cancer': return load_breast_cancer().data, 'features'
    folder = Path(importlib.util.find_spec('wordllama').submodule_search_locations[0])
    (X,) = load_file(folder/'weights'/'l2_supercat_256.safetensors').values()
    return X[::20].double().numpy(), 'mean'


def filled(method, train, test, scaling, draw):
    "The rows of `test` without holes, by what was learned from `train`."
    if method == 'SparseCoder':
        coder = SparseCoder(128, encoder=None, regularization='unit_norm', missing='ignore',
                            target_sparsity=.8, scaling=scaling, max_epochs=40,
                            batch_size=min(250, len(train)//3), random_state=draw).fit(train)
        return coder.inverse_transform(coder.transform(test), like=test)
    name, _, number = method.partition(' ')
    imputer = (KNNImputer(n_neighbors=int(number), keep_empty_features=True)
               if name == 'KNNImputer' else
               IterativeImputer(random_state=draw, keep_empty_features=True))
    return imputer.fit(train).transform(test)


def measure(name, share, draw, method):
    "A row of the table, unless it has one."
    place = dict(data=name, missing=share, draw=draw, method=method)
    there = read_table(TABLE)[KEY].values.tolist() if TABLE.is_file() else []
    if [*place.values()] in there: return
    if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
    rng, (X, scaling) = np.random.default_rng(draw), whole(name)
    X = X[rng.permutation(len(X))]
    torn = np.where(rng.random(X.shape) < share, np.nan, X)
    n = len(X)//4
    mean = np.nan_to_num(np.nanmean(torn[n:], 0))
    unit = np.nanstd(torn[n:], 0) if scaling == 'features' else np.ones(len(mean))
    torn, X = (torn - mean)/unit, (X - mean)/unit
    holes = np.isnan(torn[:n])
    begun = time.process_time()
    made = filled(method, torn[n:], torn[:n], scaling, draw)
    took = time.process_time() - begun
    # of the squared error of the column means, which are zero now
    explained = 1 - np.square(made - X[:n])[holes].sum()/np.square(X[:n])[holes].sum()
    row = place | dict(explained=explained, seconds=took, rows=len(X) - n, features=X.shape[1])
    append(TABLE, [row | provenance()], KEY, digits=5)
    print(name, share, draw, method, f'{explained:.3f}, {took:.1f} s', flush=True)


if __name__ == '__main__':
    torch.set_num_threads(1)
    SECONDS = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else None
    methods = [*(f'KNNImputer {k}' for k in NEIGHBOURS), 'SparseCoder', 'IterativeImputer']
    methods = sys.argv[2:] or methods
    for method in methods:                                      # compiles
        X = np.random.default_rng(0).standard_normal((60, 8))
        filled(method, np.where(X > 1, np.nan, X), X, 'mean', 0)
    sets = 'digits', 'breast cancer', 'embeddings'
    for draw in range(DRAWS):
        for name in sets:
            for method in methods:
                for share in SHARES: measure(name, share, draw, method)
