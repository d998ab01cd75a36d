"""Write the data of the pieces that move on the site, nbs/_widgets/data/, from results/."""
import json
from pathlib import Path

import numpy
import pandas
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from deep_sparse_nb.energy import deviation, planted

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT/'nbs'/'_widgets'/'data'
LINEAR = ('SDL', 'VDL', 'WDL', 'DO')
DRAWN = {'SDL': .005, 'VDL': .02}      # the models that a drawn digit goes through


def weights(model, lam, results=ROOT/'results'):
    "Stored weights of a linear model of MNIST, seed 0, in float32. None if there are none."
    path = results/'weights'/f'mnist-{model}-{lam:g}-0.safetensors'
    return {name: W[0].float() for name, W in load_file(path).items()} if path.is_file() else None


def collapse():
    "A batch of the toy world: an image, its code, the l1 norm of all, and the deviations."
    Y, D, Z = planted(250)
    rounded = lambda A: [round(v, 5) for v in A.flatten().tolist()]
    return dict(side=8, image=rounded(Y[0]), atoms=rounded(D), code=rounded(Z[0]),
                size=Z.abs().sum().item(), deviations=deviation(Z).tolist())


def regret(results=ROOT/'results'):
    "Test PSNR, sparsity and dead components of the linear models at full budget, means over seeds."
    table = pandas.read_csv(results/'mnist-linear.csv')
    table = table.query('sigma == 0 and epochs == 200 and train_images == 55000')
    models = {}
    for (model, lam), rows in table[table.model.isin(LINEAR)].groupby(['model', 'lam']):
        stored = weights(model, lam, results) is not None
        models.setdefault(model, []).append(dict(
            lam=lam, psnr=round(rows.psnr.mean(), 3), sparsity=round(100*rows.sparsity.mean(), 2),
            dead=round(rows.dead.mean(), 2), seeds=rows.seed.nunique(),
            atoms=f'atoms-{model}-{lam:g}.png' if stored else None))
    return {model: models[model] for model in LINEAR}


def sheet(W, columns=16, side=28):
    "A grey picture of the atoms (d, l), each on its own scale about mid-grey: uint8."
    tiles = (W/W.abs().amax(0).clamp(min=1e-12)).T.reshape(-1, columns, side, side)
    tiles = torch.nn.functional.pad(tiles, (1, 0, 1, 0), value=1.).permute(0, 2, 1, 3)
    rows = tiles.reshape(len(tiles)*(side + 1), -1)[1:, 1:]
    return (127.5 + 127.5*rows).round().to(torch.uint8).numpy()


def quantized(W):
    "A matrix as whole numbers between -127 and 127 and a scale for each column."
    scale = W.abs().amax(0).clamp(min=1e-12)/127
    return (W/scale).round().to(torch.int8), scale


def digits(results=ROOT/'results'):
    "Encoders and decoders in 8 bits, and a test digit of each class: what the file's tensors are."
    tensors, examples = {}, load_file(results/'figures'/'mnist-examples.safetensors')
    for model, lam in DRAWN.items():
        stored = weights(model, lam, results)
        for part, name in (('W', 'decoder.W'), ('U', 'encoder.U'), ('S', 'encoder.S')):
            whole, scale = quantized(stored[name])
            tensors |= {f'{model}.{part}': whole, f'{model}.{part}.scale': scale}
        tensors[f'{model}.b'] = stored['encoder.b']
    first = torch.stack([(examples['labels'] == k).nonzero()[0, 0] for k in range(10)])
    return tensors | dict(examples=examples['images'][first].reshape(10, 784))


def write(data=DATA):
    data.mkdir(parents=True, exist_ok=True)
    for old in data.iterdir(): old.unlink()
    points = regret()
    for name, content in dict(collapse=collapse(), regret=points).items():
        (data/f'{name}.json').write_text(json.dumps(content) + '\n')
    for model, line in points.items():
        for point in (p for p in line if p['atoms']):
            grey = numpy.asarray(sheet(weights(model, point['lam'])['decoder.W']))
            Image.fromarray(grey).save(data/point['atoms'], optimize=True)
    tensors = {name: T.contiguous() for name, T in digits().items()}
    save_file(tensors, data/'digits.safetensors', metadata={'lam': json.dumps(DRAWN)})
    (data/'digits.safetensors').chmod(0o644)


if __name__ == '__main__': write()
