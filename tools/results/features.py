"""Measure which dictionaries find the features of the benchmark compositional-sparse-ood.

`python tools/results/features.py [SECONDS [LEARNER ...]]` adds rows to results/features.csv. Kill
it at will, or give it so many seconds, and call it again: what has a row is not measured twice.

The benchmark is that of arXiv 2603.28744, written from its description. A row is the sum of k = 10
of l = 1,000 random directions of unit length in d = 93 dimensions, ceil(2 k ln(l/k)), each times
a number from 0 to 1, without noise. Half of the training rows hold feature 0 with nine others of
the first half, half of them ten features without feature 0. Test rows hold feature 0 with nine of
the second half, which never happens in training. The score is the mean over the features in test
rows of the absolute correlation with a code of its own, matched one to one among as many codes,
those that vary most.
"""
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from deep_sparse_nb.kernels.active_set import Prepared
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.online import AtomByAtom, dictionary_step
from deep_sparse_nb.paper.recipes import Recipe
from deep_sparse_nb.paper.results import append, provenance, read_table
from deep_sparse_nb.sae import SAE

TABLE = Path(__file__).resolve().parents[2]/'results'/'features.csv'
L, K = 1000, 10
D_IN = math.ceil(2*K*math.log(L/K))
LAM = 2/D_IN*.1                        # .1 where the squared error is halved and summed
KEY = ['learner', 'train_rows', 'seed']
WAYS = {                               # settings were chosen with draws 100 and 101
    'all': {}, 'weight does not fall': dict(start=1.), 'sums go on': dict(restart=None),
    'twins stay': dict(twins=1.), 'no atom replaced': dict(replace=False),
    'first atoms random': dict(D='random')}


def draw(seed, n):
    "Directions (d, l), training rows (n, d), test codes (2500, l) and rows."
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((D_IN, L))
    A /= np.linalg.norm(A, axis=0)
    def codes(n, test):
        Z = np.zeros((n, L))
        for z in Z:
            if test: on = [0, *rng.choice(np.arange(L//2, L), K - 1, replace=False)]
            elif rng.random() < .5: on = [0, *rng.choice(np.arange(1, L//2), K - 1, replace=False)]
            else: on = rng.choice(np.arange(1, L), K, replace=False)
            z[on] = rng.random(K)
        return Z
    Z, test = codes(n, False), codes(2500, True)
    return A, Z @ A.T, test, test @ A.T


def correlations(X, Y):
    "Absolute correlations of columns; 0 where one is constant."
    def unit(x):
        x = x - x.mean(0)
        length = np.linalg.norm(x, axis=0)
        return x/np.where(length < 1e-8, 1, length)
    return np.abs(unit(X).T @ unit(Y))


def matched(similarity): return similarity[linear_sum_assignment(-similarity)]


def scores(D, A, test, rows):
    "Of a dictionary: OOD MCC with exact codes, and how near its atoms are to the features."
    found = Prepared(torch.from_numpy(D)).codes(torch.from_numpy(rows), LAM, sparse=True).codes
    codes, present = found.toarray(), test[:, test.var(0) > 1e-8]
    most = np.argsort(-codes.var(0))[:present.shape[1]]
    cosines = matched(A.T @ D)
    return dict(mcc_ood=matched(correlations(present, codes[:, most])).mean(),
                cosine=cosines.mean(), found=(cosines > .9).mean(), active=found.nnz/len(rows))


def as_shipped(Y, seed, passes=36, batch=500):
    "The learner of one pass over many rows, in as many passes."
    recipe = Recipe('SDL', LAM, l=L, beta=0., gamma=0., unit_columns=True, encoder=False,
                    step='auto', lr_decoder=0., batch=batch)
    model, rng = Autoencoder.from_recipes(recipe, seed, D_IN), torch.Generator().manual_seed(seed)
    memory, Y = AtomByAtom(model.decoder.W), torch.from_numpy(Y).float()
    for _ in range(passes):
        for rows in torch.randperm(len(Y), generator=rng).split(batch):
            dictionary_step(model, memory, Y[rows][None])
    return model.decoder.W[0].detach().double().numpy()


def random_atoms(seed):
    "Numbers of their own: with the seed of a draw they would be its directions."
    return np.random.default_rng([seed, 1]).standard_normal((D_IN, L))


def alternating(Y, seed, rounds=1000):
    """The benchmark's DL-FISTA: codes of all rows, then least squares for all atoms, in turn.

    Written from its description, from random atoms, for 1,000 rounds or until they move by less
    than 1e-5. There, codes are those of 100 iterations that begin with the last ones.
    """
    D = random_atoms(seed)
    D /= np.linalg.norm(D, axis=0)
    for _ in range(rounds):
        Z = Prepared(torch.from_numpy(D)).codes(torch.from_numpy(Y), LAM, tol=1e-3,
                                                sparse=True).codes
        new = np.linalg.solve((Z.T @ Z).toarray() + 1e-6*np.eye(L), Z.T @ Y).T
        new /= np.maximum(np.linalg.norm(new, axis=0), 1e-8)
        D, moved = new, np.linalg.norm(new - D)/np.linalg.norm(D)
        if moved < 1e-5: break
    return D


def learn(way, Y, seed):
    if way == 'online': return as_shipped(Y, seed)
    if way == 'DL-FISTA': return alternating(Y, seed)
    options = dict(WAYS[way])
    if 'D' in options: options['D'] = random_atoms(seed)
    return SAE.learn(Y, L, LAM, random_state=seed, **options).W_dec.T.double().numpy()


def measure(way, n, seed):
    "A row of the table, unless it has one."
    there = read_table(TABLE)[KEY].values.tolist() if TABLE.is_file() else []
    if [way, n, seed] in there or not (sys.argv[2:] == [] or way in sys.argv[2:]): return
    if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
    A, Y, test, rows = draw(seed, n)
    begun = time.process_time()
    D = A if way == 'true dictionary' else learn(way, Y, seed)
    seconds = time.process_time() - begun
    row = dict(learner=way, train_rows=n, seed=seed) | scores(D, A, test, rows)
    append(TABLE, [row | dict(seconds=seconds) | provenance()], KEY, digits=5)
    print(way, n, seed, f"{row['mcc_ood']:.4f}, {seconds:.0f} s", flush=True)


if __name__ == '__main__':
    torch.set_num_threads(1)
    SECONDS = time.monotonic() + float(sys.argv[1]) if sys.argv[1:] else None
    for seed in range(3): measure('true dictionary', 5000, seed)
    for seed in range(3): measure('all', 5000, seed)
    for way in [*WAYS][1:]: measure(way, 5000, 0)
    for n in (2500, 10000):
        for seed in range(3): measure('all', n, seed)
    measure('online', 5000, 0)
    for n in (5000, 10000):
        for seed in range(3): measure('DL-FISTA', n, seed)
    for seed in (1, 2):
        for way in [*WAYS][1:]: measure(way, 5000, seed)
