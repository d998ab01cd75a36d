"""Make the trained models that travel inside the wheel, in deep_sparse_nb/models/.

From results/weights come models of MNIST and of natural patches, with the paper's recipes and
epochs; scikit-learn's digits are learned anew. Weights are in half precision, those of a model
with a hidden layer in eight bits.
"""
import json
import shutil
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from deep_sparse_nb.data.arrays import Scaling
from deep_sparse_nb.data.datasets import load
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.inference import lipschitz
from deep_sparse_nb.metrics import dead, explained_variance, sparsity
from deep_sparse_nb.data.patches import cut, photographs, read_picture
from deep_sparse_nb.pretrained import _read_folder, _write_folder
from deep_sparse_nb.paper.weights import _compact, load_model

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT/'deep_sparse_nb'/'models'
STORED = {'mnist-sdl': ('mnist', 'SDL', .005), 'mnist-vdl': ('mnist', 'VDL', .005),
          'mnist-vdl-nl': ('mnist', 'VDL-NL', .02), 'patches-vdl': ('patches', 'VDL', .01)}
ABOUT = dict(
    mnist='Handwritten digits of 28 x 28 pixels (MNIST), values between 0 and 1.',
    patches='Natural patches of 28 x 28 pixels in grey, values between 0 and 1, with local '
            "contrast normalized. Trained on a sample of ImageNet; the scaling's floor was "
            'measured on the photographs that come with scikit-image, and so were the numbers.')


def standard(mean, std, d=784):
    "The scaling that subtracts one mean and divides by one deviation."
    state = Scaling('standard').fit(torch.tensor([[0.]*d, [1.]*d])).state()
    n = 1_000_000
    return Scaling.from_state(state | dict(
        count=n, mean=torch.full((d,), mean, dtype=torch.double),
        squares=torch.full((d,), n*std**2, dtype=torch.double)))


def contrast():
    "Local contrast, with the floor of the photographs' patches."
    patches = torch.cat([cut(read_picture(f)/255, 28, 14) for f in photographs('train')])
    return Scaling('contrast', (28, 28)).fit(patches)


def stored(name):
    "A fitted `SparseCoder` with weights of results/, and what to say about it."
    dataset, kind, lam = STORED[name]
    model = load_model(dataset, kind, lam, results=ROOT/'results').eval()
    r = model.shared
    coder = SparseCoder(r.l, alpha=lam, decoder='hidden' if r.m else 'linear', device='cpu',
                        encoder='lista', regularization='variance' if r.beta else 'unit_norm',
                        scaling='standard' if dataset == 'mnist' else 'contrast')
    coder.model_, coder.alpha_, coder.n_iter_, coder.history_ = model, lam, r.epochs, []
    coder.n_features_in_, coder.image_shape_, coder._seed = 784, (28, 28), model.seeds[0]
    coder.scaling_ = standard(.1307, .3081) if dataset == 'mnist' else contrast()
    split = load(dataset if dataset == 'mnist' else 'natural').test
    images = split.images[:2000]
    with torch.no_grad():
        Z = model.encoder(images)
        L = lipschitz(model.decoder, Energy(0.), 2, Z[..., :250, :]).max().item()
        coder.step_ = (.5 if r.m else 1.)/L
        coder.metrics_ = dict(
            rows=len(images), held_out=True, sparsity=sparsity(Z).item(), dead=dead(Z).item(),
            explained_variance=explained_variance(images, model.decoder(Z)[0]).item())
    return coder, ABOUT[dataset]


def digits():
    train, _ = train_test_split(load_digits().data, random_state=0)
    coder = SparseCoder(64, target_sparsity=.8, regularization='variance', random_state=0,
                        device='cpu')
    about = "scikit-learn's digits of 8 x 8 pixels, values 0 to 16."
    return coder.fit(train.reshape(-1, 8, 8)), about


def write(name, coder, about):
    "The folder of one model, small."
    shutil.rmtree(MODELS/name, ignore_errors=True)
    coder.save_pretrained(MODELS/name)
    config, tensors = _read_folder(MODELS/name)
    config['history'] = config['history'][-1:]
    weights = _compact(coder.model_, eight_bits=name.endswith('-nl'))
    scaling = {k: v for k, v in tensors.items() if k.startswith('scaling.')}
    _write_folder(MODELS/name, config | dict(about=about), weights | scaling)


if __name__ == '__main__':
    for name in STORED: write(name, *stored(name))
    write('digits', *digits())
    for folder in sorted(MODELS.iterdir()):
        size = sum(f.stat().st_size for f in folder.iterdir())
        metrics = json.loads((folder/'config.json').read_text())['metrics']
        print(f'{folder.name}: {size:,} bytes', metrics)
