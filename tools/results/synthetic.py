"""Measure who finds the features of a small draw in the manner of SynthSAEBench.

`python tools/results/synthetic.py [SECONDS]` adds rows to results/synthetic.csv. Kill it at will,
or give it so many seconds, and call it again: what has a row is not measured twice.

The data follow the description in arXiv 2602.14687, in our own code and much smaller: l = 512
random directions of unit length in d = 64 dimensions; which of them a row holds is drawn by a
Gaussian copula of rank 8, with probabilities that fall with the square root of a feature's rank;
each counts with a normal number of its own mean, cut off at zero. With a hierarchy the features
are 64 parents with seven children each. A child can only be there with its parent, and of the
children of one parent one at most is. Rows hold six features on average, without noise.
"""
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.kernels.active_set import Prepared
from deep_sparse_nb.kernels.pursuit import pursue
from deep_sparse_nb.paper.results import append, provenance, read_table
from deep_sparse_nb.sae import SAE

TABLE = Path(__file__).resolve().parents[2]/'results'/'synthetic.csv'
L, D_IN, K, ROWS = 512, 64, 6, 10000
PARENTS = 64
KEY = ['hierarchy', 'draw', 'dictionary', 'codes']


class World:
    "Directions (l, d), and as many rows of them as wanted."
    def __init__(self, draw, hierarchy):
        self.rng, self.hierarchy = np.random.default_rng([draw, hierarchy]), hierarchy
        def normal(*shape): return self.rng.standard_normal(shape)
        self.atoms = normal(L, D_IN)
        self.atoms /= np.linalg.norm(self.atoms, axis=1, keepdims=True)
        self.load = normal(L, 8)
        self.load *= .3/np.linalg.norm(self.load, axis=1, keepdims=True)
        self.mean = self.rng.uniform(.5, 1.5, L)
        share = 1/np.sqrt(1 + np.arange(L))
        self.share = share*K/share.sum()
        if hierarchy:               # of a child: given its parent
            order = 1/np.sqrt(1 + np.arange(PARENTS))
            self.share[:PARENTS] = order*K/1.6/order.sum()
            self.share[PARENTS:] = .13

    def parent(self, j): return j % PARENTS

    def draw(self, n):
        "Codes (n, l) and rows (n, d), float32."
        common, own = self.rng.standard_normal((n, 8)), self.rng.standard_normal((n, L))
        seen = common @ self.load.T + own*np.sqrt(1 - .3**2)
        there = seen > norm.isf(self.share)
        if self.hierarchy:
            children = there[:, PARENTS:].reshape(n, -1, PARENTS)
            first = (self.rng.random(children.shape)*children).argmax(1)
            only = np.arange(children.shape[1])[None, :, None] == first[:, None]
            children &= only & there[:, None, :PARENTS]
        Z = there*np.maximum(self.mean + .3*self.rng.standard_normal((n, L)), 0)
        return Z.astype(np.float32), (Z @ self.atoms).astype(np.float32)

    def chains(self):
        "Parents as they are, and for each child its direction with its parent's, as they come."
        mine = self.mean[:, None]*self.atoms
        pairs = mine[PARENTS:] + mine[np.arange(PARENTS, L) % PARENTS]
        D = np.concatenate([mine[:PARENTS], pairs])
        return D/np.linalg.norm(D, axis=1, keepdims=True)


def as_sae(atoms):
    "An SAE of atoms (l, d) whose encoder is their transpose."
    W = torch.as_tensor(atoms).float()
    return SAE(W.T, torch.zeros(L), W, torch.zeros(D_IN), kind='batchtopk', k=K)


def batch_topk(world, seed, falling, steps=2000, batch=250):
    "BatchTopK from fresh rows, K active a row, or falling to it from 4 K in half of the steps."
    rng = torch.Generator().manual_seed(seed)
    W = torch.nn.functional.normalize(torch.randn(L, D_IN, generator=rng), dim=1)
    parts = [p.clone().requires_grad_() for p in (W.T, torch.zeros(L), W, torch.zeros(D_IN))]
    adam = torch.optim.Adam(parts, lr=2e-3)
    slower = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: min(1, 4*(1 - t/steps)))
    for t in range(steps):
        if t % 40 == 0: X = torch.from_numpy(world.draw(40*batch)[1])
        x = X[t % 40*batch:][:batch]
        k = K*(1 + 3*max(0., 1 - 2*t/steps)) if falling else K
        W_enc, b_enc, W_dec, b_dec = parts
        pre = ((x - b_dec) @ W_enc + b_enc).relu()
        least = pre.flatten().topk(int(k*batch)).values[-1].detach()
        loss = ((pre*(pre >= least)) @ W_dec + b_dec - x).square().sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        slower.step()
        with torch.no_grad(): W_dec /= W_dec.norm(dim=1, keepdim=True)
    return SAE(*(p.detach() for p in parts), kind='batchtopk', k=K)


def hinge(X, seed):
    "Atoms of variance regularization, without an encoder, in 400 batches."
    coder = SparseCoder(L, regularization='variance', encoder=None, target_sparsity=1 - K/L,
                        transform_algorithm='inference', scaling='none', batch_size=250,
                        max_epochs=10, random_state=seed)
    return coder.fit(X).model_.decoder.W[0].detach().T


def pursued(sae, X):
    "Codes of orthogonal matching pursuit, to one error for all rows, with K active on average."
    D = sae.W_dec/sae.W_dec.norm(dim=1, keepdim=True)
    X = (torch.from_numpy(X) - sae.b_dec).numpy()
    low, high = 0., float(np.square(X).sum(1).max())
    for _ in range(25):
        middle = (low + high)/2
        code = pursue(X, D.T.contiguous().numpy(), middle, most=40)
        if code.used.mean() > K: low = middle
        else: high = middle
    return torch.from_numpy(code.dense(L))


def matches(sae, atoms):
    "Which latent stands for each feature: cosines, matched one to one."
    D = torch.nn.functional.normalize(sae.W_dec, dim=1).numpy()
    return linear_sum_assignment(-(atoms @ D.T))[1]


def judge(sae, world, Z, X, sample):
    "A row for each way to make codes."
    prepared, order = sae.prepared(), matches(sae, world.atoms)
    exact = sae.recode(X, lam=sae.lam_for(sample, K), refit=False)
    ways = {'encoder': sae.encode(X), 'exact': exact,
            'exact, least squares': prepared.refit(torch.from_numpy(X) - sae.b_dec, exact).float(),
            'matching pursuit': pursued(sae, X)}
    D = torch.nn.functional.normalize(sae.W_dec, dim=1)
    for name, codes in ways.items():
        W = D if name == 'matching pursuit' else sae.W_dec
        left = X - (codes.float() @ W + sae.b_dec).numpy()
        on, true = (codes > 0).numpy()[:, order], Z > 0
        yield dict(codes=name, explained=1 - np.square(left).sum()/np.square(X - X.mean(0)).sum(),
                   active=(codes != 0).float().sum(1).mean().item(),
                   f1=2*(on & true).sum()/(on.sum() + true.sum()))


def measure(draw, hierarchy, with_hinge):
    "All rows of a draw but those of the hinge, which takes longest, or those alone."
    world = World(draw, hierarchy)
    _, train = world.draw(ROWS)
    Z, X = world.draw(3000)
    _, sample = world.draw(1000)
    made = {}
    def topk(falling): return lambda: batch_topk(world, draw, falling)
    def ours():                     # the weight is that of BatchTopK's dictionary
        lam = Prepared(made['BatchTopK'].W_dec.T).lam_for(torch.from_numpy(sample), K)
        return as_sae(SAE.learn(train, L, lam, random_state=draw).W_dec)
    ways = {'true': lambda: as_sae(world.atoms), 'BatchTopK': topk(False),
            'BatchTopK, K falls': topk(True), 'ours': ours,
            'ours from BatchTopK': lambda: made['BatchTopK'].refine(train, K),
            'chains': lambda: as_sae(world.chains())}
    if not hierarchy: del ways['chains']
    if with_hinge: ways = {'hinge': lambda: as_sae(hinge(train, draw))}
    there = read_table(TABLE)[KEY[:3]].values.tolist() if TABLE.is_file() else []
    if all([int(hierarchy), draw, name] in there for name in ways): return
    for name, make in ways.items():
        if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
        begun = time.process_time()
        made[name] = make()
        about = dict(hierarchy=int(hierarchy), draw=draw, dictionary=name)
        about |= dict(seconds=time.process_time() - begun)
        D = torch.nn.functional.normalize(made[name].W_dec, dim=1).numpy()
        cosines = (world.atoms @ D.T)[np.arange(L), matches(made[name], world.atoms)]
        about |= dict(cosine=cosines.mean(), present=(Z > 0).sum(1).mean())
        rows = [about | row | provenance() for row in judge(made[name], world, Z, X, sample)]
        append(TABLE, rows, KEY, digits=5)
        told = ', '.join(f"{r['explained']:.3f} {r['f1']:.3f}" for r in rows)
        print(hierarchy, draw, name, told, f"{about['seconds']:.0f} s", flush=True)


if __name__ == '__main__':
    torch.set_num_threads(1)
    SECONDS = time.monotonic() + float(sys.argv[1]) if sys.argv[1:] else None
    for with_hinge in (False, True):
        for draw in range(3):
            for hierarchy in (False, True): measure(draw, hierarchy, with_hinge)
