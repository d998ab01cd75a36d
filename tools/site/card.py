"""Draw nbs/_assets/card.png, which a link to the site shows elsewhere, from stored atoms."""
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]


def mosaic(name, rows=8, columns=8):
    "The first atoms of stored weights as one image, each symmetric about grey."
    atoms = load_file(ROOT/'results'/'weights'/f'{name}.safetensors')['decoder.W'][0].float().T
    atoms = (atoms / atoms.abs().amax(1, keepdim=True)).reshape(-1, 28, 28)[:rows*columns]
    tiles = torch.nn.functional.pad(atoms, (1, 1, 1, 1), value=torch.nan)
    tiles = tiles.reshape(rows, columns, 30, 30)
    return tiles.transpose(1, 2).reshape(rows*30, columns*30)


def card(path):
    fig = plt.figure(figsize=(12, 6.3), facecolor='#15181d')
    ax = fig.add_axes([.5, .07, .45, .86]); ax.set_axis_off()
    ax.imshow(mosaic('mnist-VDL-0.005-0'), cmap='gray', vmin=-1, vmax=1)
    write = dict(transform=fig.transFigure, color='#dde1e6', family='DejaVu Serif', va='top')
    fig.text(.05, .83, 'deep_sparse_nb', fontsize=36, **write)
    says = 'Sparse coding with\nmulti-layer decoders\nusing variance regularization'
    fig.text(.05, .66, says, fontsize=23, linespacing=1.5, **write)
    orange = dict(color='#f58d42', style='italic')
    fig.text(.05, .16, 'a library that is a book', fontsize=17, **write | orange)
    fig.savefig(path, dpi=100, facecolor=fig.get_facecolor())


if __name__ == '__main__': card(ROOT/'nbs'/'_assets'/'card.png')
