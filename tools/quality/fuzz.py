"""Inference from everywhere at once: threads, forks, workers, one core. Right codes, no deadlock?

`python tools/quality/fuzz.py --minutes 3` draws one way after another, with random problems;
`--ways fork joblib` draws among those two. A way that does not end within five minutes counts as a
deadlock.
"""
import argparse
import os
import random
import subprocess
import sys
import time

PATIENCE = 300      # seconds


# ---- random problems, and what their codes are when nothing else goes on ----

def problem(seed):
    "Codes of one random problem, a function of its seed alone."
    import torch

    from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
    from deep_sparse_nb.energy import Energy
    from deep_sparse_nb.inference import fista
    dice, rng = random.Random(seed), torch.Generator().manual_seed(seed)
    n, l, d = dice.choice([2, 40, 300]), dice.choice([5, 64, 130]), dice.choice([16, 64])
    hidden, beta = dice.random() < .4, dice.choice([0., 2.])
    decoder = HiddenDecoder(l, 20, d, seed) if hidden else LinearDecoder(l, d, seed)
    Y = torch.randn(n, d, generator=rng, dtype=torch.double)
    start = torch.full((n, l), .05, dtype=torch.double) if hidden else None
    return fista(Y, decoder.double(), Energy(.02, beta=beta), start=start, step=.1, tol=1e-12,
                 max_iter=30).codes


def check(seed, codes):
    import torch
    torch.testing.assert_close(torch.as_tensor(codes), problem(seed), rtol=1e-6, atol=1e-9)


# ---- ways to be called; each runs in a process of its own ----

def threads(seeds):
    "Many threads at once."
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool: found = list(pool.map(problem, seeds))
    for seed, codes in zip(seeds, found): check(seed, codes)


def thread_counts(seeds):
    "PyTorch's number of threads changes between calls, and while others compute."
    import threading

    import torch
    done = threading.Event()
    def change():
        while not done.wait(.01): torch.set_num_threads(random.randint(1, 4))
    changer = threading.Thread(target=change)
    changer.start()
    try: found = [problem(seed) for seed in seeds]
    finally:
        done.set()
        changer.join()
    torch.set_num_threads(1)
    for seed, codes in zip(seeds, found): check(seed, codes)


def fork(seeds):
    "Children of a process that has computed on several threads: each has one thread."
    import multiprocessing as mp

    import torch
    torch.set_num_threads(4)
    torch.randn(2000, 2000) @ torch.randn(2000, 2000)
    for seed in seeds: problem(seed)
    with mp.get_context('fork').Pool(2, torch.set_num_threads, (1,)) as pool:
        found = pool.map(problem, seeds)
    for seed, codes in zip(seeds, found): check(seed, codes)


def fork_first(seeds):
    "Children that were forked before anything was computed may use all threads."
    import multiprocessing as mp

    import torch
    with mp.get_context('fork').Pool(2, torch.set_num_threads, (4,)) as pool:
        torch.set_num_threads(4)
        ours, found = [problem(seed) for seed in seeds], pool.map(problem, seeds)
    for seed, a, b in zip(seeds, ours, found):
        check(seed, a)
        check(seed, b)


def spawn(seeds):
    "Children that begin anew, of a process that has computed on several threads."
    import multiprocessing as mp

    import torch
    torch.set_num_threads(4)
    for seed in seeds: problem(seed)
    with mp.get_context('spawn').Pool(2) as pool: found = pool.map(problem, seeds)
    for seed, codes in zip(seeds, found): check(seed, codes)


def joblib(seeds):
    "scikit-learn's workers, and its threads."
    from joblib import Parallel, delayed
    for backend in ('loky', 'threading'):
        work = (delayed(problem)(seed) for seed in seeds)
        for seed, codes in zip(seeds, Parallel(2, backend=backend)(work)): check(seed, codes)


def workers(seeds):
    "A DataLoader's workers; the process that they are forked from has computed."
    from torch.utils.data import DataLoader, Dataset
    class Codes(Dataset):
        def __len__(self): return len(seeds)
        def __getitem__(self, i): return problem(seeds[i])
    problem(seeds[0])
    for seed, codes in zip(seeds, DataLoader(Codes(), batch_size=None, num_workers=2)):
        check(seed, codes)


def one_core(seeds):
    "Fewer cores than threads, as taskset and containers have it."
    import torch
    os.sched_setaffinity(0, {random.choice([*os.sched_getaffinity(0)])})
    torch.set_num_threads(8)
    threads(seeds)


WAYS = {f.__name__: f for f in (threads, thread_counts, fork, fork_first, spawn, joblib, workers,
                                one_core)}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--minutes', type=float, default=3.)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--ways', nargs='*', choices=WAYS, default=[*WAYS])
    args = p.parse_args()
    dice, end, failed, turns = random.Random(args.seed), time.monotonic() + 60*args.minutes, 0, 0
    while time.monotonic() < end:
        way = args.ways[turns % len(args.ways)]
        seeds, begun = [dice.randint(0, 10**6) for _ in range(12)], time.monotonic()
        call = [sys.executable, __file__, '--way', way, *map(str, seeds)]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=PATIENCE)
            said = 'right' if done.returncode == 0 else f'FAILED\n{done.stderr[-2000:]}'
        except subprocess.TimeoutExpired: said = 'DEADLOCK'
        failed, turns = failed + (said != 'right'), turns + 1
        print(f'{way:14} {time.monotonic() - begun:5.0f} s  {said}', flush=True)
    print(f'{turns - failed} of {turns} turns gave right codes, of 12 problems each')
    return bool(failed)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--way']: WAYS[sys.argv[2]]([int(s) for s in sys.argv[3:]])
    else: sys.exit(main())
