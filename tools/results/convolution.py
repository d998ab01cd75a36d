"""Train convolutional decoders and dictionaries of patches on the same photographs, and test both.

`python tools/results/convolution.py [SECONDS]` writes results/convolution.csv, its histories and
filters. Kill it at will, or give it so many seconds, and call it again: what has rows is not
trained twice.
"""
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.convolution import ConvDecoder
from deep_sparse_nb.data.datasets import Dataset, Split
from deep_sparse_nb.decoders import LinearDecoder
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.files import write_atomically
from deep_sparse_nb.metrics import psnr
from deep_sparse_nb.paper.recipes import Recipe
from deep_sparse_nb.data.patches import _blur, photographs, read_picture
from deep_sparse_nb.paper.results import append, provenance, read_table
from deep_sparse_nb.training import Run, train

RESULTS = Path(__file__).resolve().parents[2]/'results'
TABLE, HISTORY = RESULTS/'convolution.csv', RESULTS/'histories'/'convolution.csv'
FILTERS = RESULTS/'figures'/'convolution.safetensors'
SIDE, KERNEL, BATCH, EPOCHS = 32, 8, 25, 12
PIXELS = SIDE**2
N = dict(train=250, test=80)                      # pictures, all from different photographs
FILTERS_OF = {8: 98, 4: 32, 2: 9}                 # by stride: codes of 1568, 1568, 1521 numbers
LAM, LAMS = .002, (.0005, .001, .002, .004, .008) # while training; while testing
KINDS = {'unit': dict(unit_columns=True), 'hinge': dict(beta=.5),
         'none': dict(halve_every=0), 'none, halved': {}}     # at a constant rate, and at theirs
KEY = ['stride', 'filters', 'kind', 'seed', 'lam']


def pictures(split):
    "Squares of photographs without their local mean, as rows (n, PIXELS), of grey levels 0 to 1."
    rng, found = torch.Generator().manual_seed(0), []
    paths = photographs(split)
    for path in paths:
        x = read_picture(path).float()/255
        windows = (x - _blur(x, keep_size=True)).unfold(0, SIDE, 1).unfold(1, SIDE, 1)
        i, j = (torch.rand(N[split]//len(paths) + 1, 2, generator=rng)
                * torch.tensor(windows.shape[:2])).long().T
        found.append(windows[i, j].flatten(1))
    X = torch.cat(found)
    return X[torch.randperm(len(X), generator=rng)[:N[split]]]


def patches(X): # (n*16, 64)
    "The same pixels, as patches side by side."
    n, side = len(X), SIDE//KERNEL
    return X.reshape(n, side, KERNEL, side, KERNEL).movedim(2, 3).reshape(n*side**2, KERNEL**2)


def model(stride, kind, seed):
    "Patches side by side are a stride of the kernel's size, and then a dictionary is faster."
    filters, share = FILTERS_OF[stride], 1
    if stride == KERNEL: decoder, share = LinearDecoder(filters, KERNEL**2, seed), PIXELS//KERNEL**2
    else: decoder = ConvDecoder((1, SIDE, SIDE), filters, KERNEL, stride, seed)
    options = dict(beta=0., unit_columns=False, halve_every=4) | KINDS[kind]
    options['beta'] *= share
    recipe = Recipe(kind, LAM*share, EPOCHS, gamma=0., T=.5, lr_decoder=5e-3, encoder=False,
                    batch=BATCH*share, **options)
    return Autoencoder(decoder, None, recipe, seed), share


def filters_of(decoder): # (filters, 64)
    if isinstance(decoder, LinearDecoder): return decoder.W[0].detach().T
    return decoder.W[0][0, :, 0].detach().flatten(1)


def tested(model, share, X, scale):
    "For each l1 weight: decibels, and numbers that are not zero, for each pixel."
    for lam in LAMS:
        Z = model.infer(X, energy=Energy(lam*share), step='auto', restart=True).codes
        with torch.no_grad(): error = (model.decoder(Z)[0] - X).reshape(-1, PIXELS)
        found = psnr(torch.zeros_like(error), scale*error).mean().item()
        yield dict(lam=lam, psnr=found, nonzeros=(Z != 0).sum().item()/X.numel(),
                   l1=Z.abs().sum().item()/X.numel())


def run(stride, kind, seed):
    "Train one model, and write its rows, unless they are there."
    place = dict(stride=stride, filters=FILTERS_OF[stride], kind=kind, seed=seed)
    there = read_table(TABLE)[KEY[:4]].values.tolist() if TABLE.is_file() else []
    if [*place.values()] in there: return
    if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
    X, Y = pictures('train'), pictures('test')
    scale, begun, history = X.std().item(), time.process_time(), []
    past = provenance()
    made, share = model(stride, kind, seed)
    rows, test = (patches(A/scale) if share > 1 else A/scale for A in (X, Y))

    def note(run):
        Z = run.model.infer(rows[:5*share], energy=Energy(LAM*share), step='auto',
                            restart=True).codes
        history.append(place | dict(
            epoch=run.epoch, norm=filters_of(run.model.decoder).norm(dim=1).mean().item(),
            l1=Z.abs().sum().item()/rows[:5*share].numel()) | past)

    train(Run(made), Dataset('own', Split(rows)), after_epoch=note, progress=False)
    spent = time.process_time() - begun
    made.eval()
    if seed == 0:
        kept = load_file(FILTERS) if FILTERS.is_file() else {}
        kept[f'{stride} {kind}'] = filters_of(made.decoder).half().contiguous()
        write_atomically(FILTERS, lambda fresh: save_file(kept, fresh))
    table = [place | row | dict(train_pictures=len(X), epochs=EPOCHS, seconds=spent)
             | past for row in tested(made, share, test, scale)]
    append(HISTORY, history, [*KEY[:4], 'epoch'], digits=5)
    append(TABLE, table, KEY, digits=5)
    for row in table[::2]:
        print({k: row[k] for k in (*KEY, "psnr", "nonzeros", "seconds")}, flush=True)


if __name__ == '__main__':
    torch.set_num_threads(1)
    SECONDS = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else None
    for seed in (0, 1):
        for stride in FILTERS_OF:
            for kind in KINDS:
                if stride == 4 or kind in ('unit', 'hinge'): run(stride, kind, seed)
