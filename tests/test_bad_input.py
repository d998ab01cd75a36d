"""What cannot be right is refused, by an error that names the argument and what is allowed.

A table: a call, and the words of its ValueError, or of another error, where one is named.
"""
import importlib
import pkgutil
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import deep_sparse_nb
from deep_sparse_nb.__main__ import main
from deep_sparse_nb.checkpoints import save
from deep_sparse_nb.data.datasets import Dataset, Split, load  # noqa: F401 not that of sae
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.paper.recipes import Recipe
from deep_sparse_nb.training import Run

NAN, INF = float('nan'), float('inf')
Y, W, Z = planted(12, side=4)                  # (12, 16), (16, 8), (12, 8)
D, H, E, HINGED = LinearDecoder(8, 16), HiddenDecoder(8, 5, 16), Energy(.01), Energy(.01, 10.)
AE = Autoencoder.from_recipes(Recipe(l=8, epochs=1, batch=4), d=16)
SPLIT = Split(Y, scale=1., shift=0.)
DATA = Dataset('bars', SPLIT, shape=(4, 4))
G = torch.Generator()
X = planted(60, side=4, noise=.05)[0].numpy()  # (60, 16)
IMAGES = X.reshape(-1, 4, 4)
CODES = np.ones((3, 8))

def with_(A, value):
    "A copy of A whose first number is another."
    A = A.clone()
    A.view(-1)[0] = value
    return A

def small(**changes):
    return SparseCoder(**dict(n_components=8, max_epochs=1, alpha=.01, random_state=0) | changes)

def broken(value, rows=X):
    rows = rows.copy()
    rows[7].flat[3] = value
    return rows

def mapped(rows, folder):
    np.save(folder/'rows.npy', rows)
    return np.load(folder/'rows.npy', mmap_mode='r')

def loader(rows): return DataLoader(TensorDataset(torch.from_numpy(rows)), 10)

class Ragged(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return torch.ones(3 + i % 2)

class Dicts(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return dict(image=torch.ones(16), label=1)

class Lazy:
    "As polars has them."
    def collect(self): return X

class Unknown:
    "As dask has them, where rows were chosen by a condition."
    shape = NAN, 16
    def __len__(self): raise ValueError('not known')
    def __getitem__(self, i): return X[i]

NESTED = torch.nested.nested_tensor([torch.ones(3, 16), torch.ones(4, 16)])

class Wide(nn.Module):
    def forward(self, Z): return torch.ones(len(Z), 9)

CODER = small().fit(X)
PICTURES = small(scaling='contrast').fit(IMAGES)
NAMED = small().fit(pd.DataFrame(X, columns=[f'x{i}' for i in range(16)]))

# call  ->  [type of the error:] how its message goes
FUNCTIONS = r'''
planted(3, side=8, k=0)                          -> k is 0
planted(-1)                                      -> n is -1
planted(3, side=0)                               -> side is 0
deviation(Z[:1])                                 -> Z has 1 sample
hinge(Z[:1])                                     -> Z has 1 sample
hinge_gradient(Z[:1])                            -> Z has 1 sample
Energy(-.1)                                      -> lam is -0.1
Energy(NAN)                                      -> lam is nan
Energy(.1, beta=-1.)                             -> beta is -1
Energy(.1, beta=NAN)                             -> beta is nan
Energy(.1, T=-1.)                                -> T is -1
Energy(.1, T=INF)                                -> T is inf
Energy(.1, gamma=-1.)                            -> gamma is -1
Energy(.1, gamma=1.).value(Z, Y, Y)              -> gamma is 1.*encoded=
LinearDecoder(0, 16)                             -> l is 0
LinearDecoder(8, -1)                             -> d is -1
LinearDecoder(8.5, 16)                           -> TypeError: l is 8.5
HiddenDecoder(8, 0, 16)                          -> m is 0
HiddenDecoder(0, 5, 16)                          -> l is 0
HiddenDecoder(8, 5, 0)                           -> d is 0
LISTA(16, 0)                                     -> l is 0
LISTA(0, 8)                                      -> d is 0
LISTA(16, 8, L=-1)                               -> L is -1
atoms(torch.nn.Linear(8, 16))                    -> l is missing
stack([])                                        -> modules is empty
fista(Y[0], D, E)                                -> Y has shape \(16,\)
fista(Y.int(), D, E)                             -> Y has .*type torch.int32
fista(Y, None, E)                                -> TypeError: decoder is a NoneType
fista(Y, W, E)                                   -> TypeError: decoder is a Tensor
fista(Y, D, .1)                                  -> TypeError: energy is a float
fista(Y, D, E, start=Z[:5])                      -> start has 5 codes for 12 images
fista(Y, D, E, start=Z[:, :5])                   -> start has shape .* the decoder takes 8
fista(Y, D, E, encoded=Z[:5])                    -> encoded has 5 codes for 12 images
fista(Y, D, E, encoded=Z[:, :5])                 -> encoded has shape
fista(Y, D, Energy(.1, gamma=1.))                -> gamma is 1.*encoded=
fista(Y, D, Energy(torch.ones(3)), start=Z.expand(2, 12, 8)) -> leading dimensions do not fit
fista(Y, torch.nn.Linear(8, 16, device='meta'), E, start=Z) -> the decoder's weight has no values
fista(Y, torch.nn.LazyLinear(16), E, start=Z)    -> the decoder's weight has no values
fista(Y, D, E, step=0.)                          -> step is 0
fista(Y, D, E, step=-1.)                         -> step is -1
fista(Y, D, E, max_iter=0)                      -> max_iter is 0; it must be at least 1
fista(Y, D, E, max_iter=-3)                     -> max_iter is -3
fista(Y, D, E, tol=0.)                           -> tol is 0
fista(Y, D, E, tol=-1.)                          -> tol is -1
fista(Y, D, E, kernel='fast')                    -> kernel is 'fast'; it must be 'auto' or 'plain'
fista(Y, D, E, precision='float8')               -> precision is 'float8'
fista(Y, D, E, mask=Y)                           -> TypeError: mask has type torch.float32
fista(Y, D, E, mask=Y[:5] > 0)                   -> mask has shape
lipschitz(H, E, 12)                              -> Z is missing
exact_codes(Y[:, :9], W, .1)                     -> (Y|D)\b.*(9|16)
exact_codes(with_(Y, NAN), W, .1)                -> (Y|B|finite)
exact_codes(Y, W, -.1)                           -> lam is \[-0.1\]
exact_codes(Y, W, NAN)                           -> lam is \[nan\]
exact_codes(Y, W, .1, gamma=1.)                  -> gamma is 1
as_rows([])                                      -> X
as_rows([[1., None]], 'train')                   -> train
next(batches(Y, 0))                              -> batch_size is 0
next(batches(iter([]), 5))                       -> X
Scaling('loud')                                  -> kind is 'loud'
Scaling('standard').apply(Y)                     -> fit
Scaling('standard').fit(with_(Y, NAN))           -> X
own_data(None)                                   -> train
own_data(Y, with_(Y, NAN))                       -> valid
own_data(Y, test=Y[:, :9])                       -> test
own_data(Y, scaling='loud')                      -> kind is 'loud'
Split(with_(Y, NAN))                             -> images
Split(Y, torch.zeros(5))                         -> labels
Split(Y, scale=1.)                               -> shift
SPLIT.to_pixels(Y[:, :9])                        -> Y has shape
Split(Y).to_pixels(Y)                            -> this split has no way back
add_noise(Y, -1.)                                -> sigma is -1
_split_rows(5, (3, 3), 'bars', 0)                 -> sizes is \(3, 3\), 6 images in all; bars has 5
load('cifar')                                    -> name is 'cifar'; it must be one of mnist
load('')                                         -> name is ''
load('digits', sizes=(1, 2))                     -> sizes is \(1, 2\); three positive
load('digits', sizes=())                         -> sizes is \(\); three positive
load('patches', images=TMP/'pictures', picture_shares=()) -> picture_shares is \(\)
load('mnist', data_dir='')                       -> data_dir is ''; it must name a folder
load('digits', images='here')                    -> images is for 'patches' only
load('digits', picture_shares=(1, 1, 1))         -> picture_shares is for 'patches' only
load('patches')                                  -> images
load('patches', images=TMP/'none')               -> FileNotFoundError: none
load('patches', images=TMP/'empty')              -> FileNotFoundError: empty
load('patches', images=TMP/'text.png')           -> FileNotFoundError: text.png, which is not
load('digits', device='tpu')                     -> device is 'tpu'
load('mnist', data_dir=TMP/'text.png')           -> data_dir is .*a file, not a folder
_data_folder(TMP/'text.png')                      -> data_dir is
_read_mnist(TMP/'broken', True)                   -> is not as MNIST's
read_picture(TMP/'none.png')                     -> none.png cannot be read
read_picture(TMP/'text.png')                     -> text.png
read_picture(TMP/'short.png')                    -> short.png
read_picture(TMP/'empty.png')                    -> empty.png
read_picture(TMP/'good.png', max_pixels=10)      -> good.png.*max_pixels
read_picture(TMP/'thin.png')                     -> thin.png
open_picture(TMP/'good.png', 9, name='mask')     -> mask: .*good.png.*max_pixels is 9
open_picture(TMP/'deep.png')                     -> deep.png has more than 8 bits a pixel
open_picture(TMP/'short.png')                    -> short.png cannot be read
photographs('all')                               -> split is 'all'
cut(torch.zeros(5, 5), 6)                        -> size is
cut(torch.zeros(5, 5), 2, 0)                     -> stride is
cut(torch.zeros(5), 2)                           -> picture has shape
join(torch.zeros(4, 4), (5, 5), 2)               -> patches
split_files(None, (1, 1, 1), G)                  -> images
split_files(TMP/'pictures', (1, 1, 1), G)        -> FileNotFoundError: holds 1 picture
psnr(Y, Y[:, :9])                                -> x has shape .* and y
psnr(Y, Y, peak=0.)                              -> peak is 0
explained_variance(Y, Y[:5])                     -> x has shape .* and y
match(W.T, W)                                    -> A has shape .* and B
stability(W.T[None])                             -> A has
show_images(Y, shape=(3, 3))                     -> images
show_images(Y, shape=(4, 4), ncols=0)            -> ncols is 0
show_pairs({}, shape=(4, 4))                     -> pairs
_show_code(AE, SPLIT, i=99, shape=(4, 4))         -> i is 99
_show_code(AE, SPLIT, member=5, shape=(4, 4))     -> member is 5
recipe('cifar', 'VDL', .1)                       -> dataset is 'cifar'; it must be one of
recipe('mnist', 'XDL', .1)                       -> model is 'XDL'; it must be one of
recipe('mnist', 'VDL', -1.)                      -> lam is -1
Recipe(lamda=.1)                                 -> TypeError: lamda
Autoencoder(None)                                -> decoder
Autoencoder(D, recipes=[])                       -> recipes
Autoencoder(D, recipes=Recipe(l=8), seeds=[0, 1, 2][:0]) -> seeds
Autoencoder(D, recipes=Recipe(l=8, lam=-1.))     -> lam is -1
Autoencoder(D, recipes=Recipe(l=8, beta=NAN))    -> beta is nan
Autoencoder(D, recipes=Recipe(l=8, batch=0))     -> batch is 0
Autoencoder(D, recipes=Recipe(l=8, epochs=-1))    -> epochs is -1
Autoencoder(D, recipes=Recipe(l=8, lr_decoder=-1.)) -> lr_decoder is -1
Autoencoder(D, recipes=Recipe(l=8, lr_encoder=NAN)) -> lr_encoder is nan
Autoencoder(D, recipes=Recipe(l=8, step=-1.))    -> step is -1
Autoencoder(D, recipes=Recipe(l=8, step_rule='x')) -> step_rule is 'x'
Autoencoder(D, recipes=Recipe(l=8, precision='x')) -> precision is 'x'
Autoencoder(D, recipes=[Recipe(l=8), Recipe(l=8, batch=9)], seeds=[0, 1]) -> differ in batch
Autoencoder(D, LISTA(9, 8), Recipe(l=8))         -> encoder
Autoencoder.from_recipes(Recipe(l=0), d=16)      -> l is 0
Autoencoder.from_recipes(Recipe(l=8), d=0)       -> d is 0
AE.infer(Y[:, :9])                               -> Y has shape \(12, 9\); it must be \(n, 16\)
AE.encode(Y[:, :9])                               -> Y has shape
AE.infer(Y, tolerance=1.)                        -> TypeError: tolerance
choose_device('gpu')                             -> device is 'gpu'; it must be 'auto', 'cpu'
Run(D)                                           -> TypeError: model is a LinearDecoder; it must be
Run(AE, device='gpu')                          -> device is 'gpu'
Run(AE, devcie='cpu')                          -> TypeError: devcie
train(Run(AE), own_data(Y[:, :9]), progress=False) -> images of shape \(9,\)
train(Run(AE), Y, progress=False)                -> TypeError: data is Tensor; it must be a Dataset
train(Run(AE), DATA, epochs=0, progress=False) -> epochs is 0
train(Run(AE), DATA, minutes=-1, progress=False) -> minutes is -1
evaluate(AE, Split(Y[:, :9]))                    -> images of shape \(9,\)
evaluate(AE, SPLIT, batch=0)                     -> batch is 0
evaluate(AE, SPLIT, noise=Y[:5])                 -> noise has 5 rows
restore(TMP/'none')                              -> FileNotFoundError: no checkpoint at .*none
restore(TMP/'text.png')                          -> text.png is not a checkpoint
restore(TMP/'empty.png')                         -> empty.png is not a checkpoint
restore(TMP/'run', device='gpu')                 -> device is 'gpu'
origin('cifar')                                  -> dataset is 'cifar'
origin('digits', (1, 2))                         -> sizes is
read_table(TMP/'empty.png')                      -> empty.png
append(TMP/'text.png', [dict(a=1)], ['a'])       -> text.png
load_model('cifar', 'VDL', .01)                  -> dataset is 'cifar'
load_model('mnist', 'XDL', .01)                  -> model is 'XDL'
restore(TMP/'half')                              -> half is not a checkpoint
contents(TMP/'text.png')                             -> text.png is not a checkpoint
save(Run(AE), TMP/'text.png'/'x')              -> OSError: text.png
read_table(TMP/'none.csv')                       -> FileNotFoundError: no table at .*none.csv
read_table(TMP/'text.png')                       -> text.png
load_model('mnist', 'VDL', .777, results=TMP)    -> FileNotFoundError: 0.777
_choose('none')                                   -> name is 'none'; grids are
_choose('digits', models=['XDL'])                 -> models has 'XDL'; grid digits offers
_choose('digits', lams=[7.])                      -> lams has 7
_choose('digits', seeds=0)                        -> seeds is 0
_choose('digits', epochs=-1)                      -> epochs is -1
deadline_in(0)                                   -> minutes is 0
_finished(TMP, ['digits'])                        -> FileNotFoundError: no finished checkpoint
sweep('none')                                    -> name is 'none'; grids are
sweep('digits', minutes=-1)                      -> minutes is -1
sweep('digits', device='gpu')                    -> device is 'gpu'
sweep('digits', models=['XDL'])                  -> models has 'XDL'
sweep('digits', lams=())                         -> lams has nothing; grid digits offers
sweep('digits', sizes=())                        -> sizes is \(\); three
sweep('digits', stack=0)                         -> stack is 0; .*at least 1
few_labels(['digits'], draws=0)                  -> draws is 0; .*at least 1
few_labels(['digits'], epochs=0)                 -> epochs is 0; .*at least 1
few_labels(['digits'], seeds=0)                  -> seeds is 0; .*at least 1
_only_labelled(DATA, (1, 0), 1)                   -> per_class is 0
few_labels(['none'], results=TMP, runs=TMP)      -> FileNotFoundError: no finished .* of none
stable_atoms(['digits'], results=TMP, runs=TMP)  -> FileNotFoundError: no finished checkpoint
by_contrast(results=TMP, runs=TMP, images=TMP)   -> FileNotFoundError: no finished checkpoint
by_picture(results=TMP, images=TMP)              -> FileNotFoundError: no weights of patches
first_of_each(torch.zeros(3).long(), 9)          -> k is 9; a class has only 3
ConvDecoder((8, 8), channels=(4,))               -> image_shape is \(8, 8\); it must be \(c, height
ConvDecoder((1, 8, 8), channels=(4,), kernel=0)  -> kernel is 0; it must be positive
ConvDecoder((1, 8, 8), channels=(4,), stride=0)  -> stride is 0; it must be positive
denoise(AE, 'picture.png')                       -> picture is a str; it must be an array
denoise(AE, None)                                -> picture is a NoneType
inpaint(AE, torch.rand(9, 9), torch.rand(9, 9))  -> mask
inpaint(AE, torch.rand(9, 9), torch.ones(5) > 0) -> mask
inpaint(AE, torch.rand(9, 9), torch.ones(9, 9) < 0) -> mask is False everywhere
inpaint(AE, torch.rand(9, 9), torch.ones(9, 9) > 0, size=3) -> size is 3; it must be height
inpaint(AE, torch.rand(9, 9), torch.ones(9, 9) > 0, stride=0) -> stride is 0
inpaint(AE, torch.rand(9, 9), torch.ones(9, 9) > 0, strength=0.) -> strength is 0.0; it must be
inpaint(AE, torch.rand(9, 9), torch.ones(9, 9) > 0, scaling='best') -> kind is 'best'
denoise(AE, torch.rand(9, 9), sigma=-1.)         -> sigma is -1.0; it must be positive
denoise(AE, torch.rand(9, 9), sigma='a')         -> TypeError: sigma is 'a'; it must be a number
denoise(AE, torch.rand(9, 9), sigma=[1, 2])      -> TypeError: sigma is \[1, 2\]; it must be one
denoise(AE, torch.rand(9, 9), strength='a')      -> TypeError: strength is 'a'; it must be a number
denoise(AE, torch.rand(9, 9), size='a')          -> TypeError: size is 'a'; it must be a whole
denoise(AE, torch.rand(9, 9), size=(4,))         -> size is \(4,\); it must be one number or two
denoise(AE, torch.rand(9, 9), stride=1.5)        -> TypeError: stride is 1.5; it must be a whole
denoise(AE, torch.empty(9, 9, device='meta'))    -> picture has no values
inpaint(AE, torch.rand(9, 9), 'mask')            -> mask is a str; it must be an array of bool
denoise(AE, torch.rand(3, 9))                    -> size is \(4, 4\); the picture has 3 x 9 pixels
denoise(AE, np.full((9, 9), 'a'))                -> picture holds <U1
denoise(nn.Linear(8, 16), torch.rand(9, 9))      -> model is a Linear; it must be an Autoencoder
denoise(SparseCoder(), torch.rand(9, 9))         -> NotFittedError: not fitted
_read_folder(TMP/'none')                          -> none has no config.json; a model needs it
_read_folder(TMP/'empty')                         -> empty has no config.json
_write_folder(TMP/'text.png', {}, {})             -> folder is .*text.png, a file
SparseCoder.from_pretrained('none')              -> name is 'none', neither a folder with a model
SparseCoder(8, checkpoint='c').fit(Y)            -> random_state is None; to go on from a checkpoint
write_atomically(TMP/'text.png'/'x', len)        -> OSError: text.png
lock(TMP/'text.png'/'x', wait=True).__enter__()  -> OSError: text.png
exact(torch.eye(3)[:2], Y, .1)                   -> H has shape
signed(torch.eye(3), Y[:, :3]*NAN, .1)           -> B is not finite
exact_codes(Y, W.T[0], .1)                       -> D has shape
exact_codes(Y.numpy(), W, .1)                    -> TypeError: Y is of type ndarray
'''

# what the estimator is made with, and what it is given after a fit
ESTIMATOR = r'''
small(n_components=0).fit(X)             -> n_components is 0; it must be a positive whole number
small(n_components=2.5).fit(X)           -> n_components is 2.5
small(max_epochs=-1).fit(X)              -> max_epochs is -1
small(max_epochs=0).fit(X)               -> max_epochs is 0
SparseCoder.from_dictionary(W.T[0], alpha=.1) -> D has shape .* must be \(l, d\)
SparseCoder.from_dictionary('x', alpha=.1) -> TypeError: D is a str
SparseCoder.from_dictionary(torch.nn.Linear(2, 3), alpha=.1) -> TypeError: D is a Linear
SparseCoder.from_dictionary(W.T) -> give one of alpha, n_nonzero, target_sparsity
SparseCoder.from_dictionary(W.T, n_nonzero=2) -> sample is None
SparseCoder.from_dictionary(W.T, [1.], alpha=.1) -> bias has shape
small(tol=0.).fit(X)                     -> tol is 0
small(gamma=-1).fit(X)                   -> gamma is -1
small(max_iter=0).fit(X)                 -> max_iter is 0
small(refit=True, encoder='lista').fit(X) -> refit is True
small(encoder='lista').fit(X).transform(X, certify=True) -> certify is True
small(batch_size=1.5).fit(X)             -> batch_size is 1.5
small(batch_size=None).fit(X)            -> batch_size is None
small(alpha=-1).fit(X)                   -> alpha is -1; it must be at least 0
small(alpha=NAN).fit(X)                  -> alpha is nan
small(alpha=None, target_sparsity=1.).fit(X)  -> target_sparsity is 1.0; it must be between 0 and 1
small(alpha=None, target_sparsity=90).fit(X)  -> target_sparsity is 90
small(decoder='deep').fit(X)             -> decoder is 'deep'; it must be one of 'linear', 'hidden'
small(decoder=None).fit(X)               -> decoder is None
small(encoder='mlp').fit(X)              -> encoder is 'mlp'; it must be one of 'auto', 'lista'
small(encoder=X).fit(X)                  -> encoder is array
small(regularization='l2').fit(X)        -> regularization is 'l2'; it must be one of auto, variance
small(regularization=None).fit(X)        -> regularization is None
small(transform_algorithm='omp').fit(X)  -> transform_algorithm is 'omp'; it must be one of encoder
small(scaling='minmax').fit(X)           -> scaling is 'minmax'; it must be one of none, mean
small(scaling='contrast').fit(X)         -> 'contrast' needs an image
small(device='tpu').fit(X)               -> device is 'tpu'
small(random_state='x').fit(X)           -> random_state is 'x'; it must be a whole number
small(random_state=-1).fit(X)            -> random_state is -1; it must be at least 0 and below
small(random_state=True).fit(X)          -> random_state is True
small(random_state=np.random.default_rng(0)).fit(X) -> random_state is Generator.*a whole number
small(alpha=True).fit(X)                 -> alpha is True; it must be a number
small(positive='no').fit(X)              -> positive is 'no'; it must be True or False
small(revive='no').fit(X)                -> revive is 'no'; it must be True or False
small(verbose='no').fit(X)               -> verbose is 'no'; it must be True or False
small(decoder=nn.Linear).fit(X)          -> decoder is Linear, which cannot be called without arg
small(encoder=lambda d, l: nn.Linear(d, l)).fit(X) -> encoder is <lambda>, which cannot be called
small(checkpoint='').fit(X)              -> checkpoint is ''; it must be the path of a file
small(checkpoint=3).fit(X)               -> checkpoint is 3; it must be the path of a file
small(checkpoint='a\0b').fit(X)          -> checkpoint is 'a.*which no file can be called
small(checkpoint='a'*5000).fit(X)        -> OSError: checkpoint is a+\.\.\., which cannot be written
small(checkpoint=TMP/'file'/'c').fit(X)  -> OSError: checkpoint is .*file/c, which cannot be written
small(checkpoint=TMP/'empty').fit(X)     -> checkpoint is .*empty.*path of a file
small().fit(X.astype(float)*1e160)       -> X has numbers up to .*e\+160; the square of each
small(scaling='none').fit(X.astype(float)*1e60) -> X has numbers up to .*e\+60, which are not finite
small(revive=True, decoder=nn.Linear(8, 16)).fit(X) -> revive is True; it needs decoder='linear'
small(callbacks=[3]).fit(X)              -> callbacks is \[3\]
SparseCoder(8, .1)                       -> TypeError: positional
SparseCoder(components=8)                -> TypeError: components
small().set_params(lam=.1)               -> Invalid parameter 'lam'
CODER.transform(X[:, :9])                -> X has 9 features, but SparseCoder is expecting 16
CODER.score(X[:, :9])                    -> X has 9 features
CODER.transform(loader(X[:, :9]))        -> X has 9 features
PICTURES.transform(X.reshape(-1, 2, 8))  -> X has images of shape \(2, 8\); \(4, 4\) or rows of 16
NAMED.transform(pd.DataFrame(X, columns=[f'y{i}' for i in range(16)])) -> feature names should match
clone(CODER).fit(X).partial_fit(X[:, :9]) -> X has 9 features
small(decoder='hidden').fit(X[:1])       -> X has 1 sample; the hinge needs 2
small(encoder='lista').partial_fit(X[:1]) -> X has 1 sample; the hinge needs 2
CODER.inverse_transform(CODES[:, :5])        -> Z has shape \(3, 5\); it must be \(N, 8\)
CODER.inverse_transform(CODES[0])            -> Z has shape \(8,\)
CODER.inverse_transform(csr_matrix(CODES))   -> Z is sparse; pass Z.toarray\(\)
CODER.inverse_transform(CODES.astype(str))   -> Z holds <U32, not numbers
CODER.inverse_transform(torch.empty(3, 8, device='meta')) -> Z has no values
CODER.inverse_transform('Z.npy')             -> Z is a str; it must be an array
CODER.inverse_transform(None)                -> Z is a NoneType; it must be an array
PICTURES.inverse_transform(CODES)            -> like is None
PICTURES.inverse_transform(CODES, X[:3, :9]) -> like has shape
CODER.get_feature_names_out(['a', 'b'])  -> input_features
clone(CODER).fit(X).set_output(transform='arrow').transform(X) -> output config must be in
small().transform(X)                     -> NotFittedError: not fitted
small().score(X)                         -> NotFittedError: not fitted
CODER.save_pretrained(TMP/'file')        -> folder is .*file, a file
CODER.save_pretrained(TMP/'file'/'sub')  -> OSError: sub
CODER.save_pretrained(None)              -> TypeError: folder is None
CODER.save_pretrained('')                -> folder is empty; it must be a path
CODER.save_pretrained('a\0b')            -> folder is 'a.*, which no file can be called
CODER.save_pretrained('gr\udcf6\udcdfe')  -> folder is 'gr.*, a name that is not UTF-8
CODER.save_pretrained('a'*5000)          -> OSError: folder is a+\.\.\., which cannot be written
SparseCoder.from_pretrained('a'*5000)    -> name is 'a+\.\.\.', neither a folder
SparseCoder.from_pretrained('a/' + 'a'*5000) -> name is 'a/a+\.\.\.', neither a folder
SparseCoder.from_pretrained(None)        -> name is None
SparseCoder.from_pretrained(3)           -> name is 3
SparseCoder.from_pretrained(TMP/'own')   -> decoder is missing: .* Linear
SparseCoder.from_pretrained(TMP/'own', decoder=nn.Linear(8, 9)) -> decoder
SparseCoder.from_pretrained(TMP/'own', decoder=nn.Linear(8, 16), device='tpu') -> device is 'tpu'
SparseCoder.from_pretrained('digits', encoder=nn.Linear(64, 8)) -> encoder .*'lista'
_read_folder(TMP/'none')                  -> none has no config.json; a model needs it
'''

# METHOD is each of those that take rows.
ROWS = r'''
METHOD(X[0])                             -> X|Reshape your data
METHOD(3.)                               -> X|Reshape your data
METHOD('rows.npy')                       -> X is a str; it must be an array
METHOD(TMP/'X.npy')                      -> X is a .*Path; it must be an array
METHOD(b'rows')                          -> X is a bytes
METHOD(None)                             -> X is a NoneType
METHOD({'a': 1})                         -> X is a dict; it must be an array
METHOD([])                               -> X
METHOD([['a', 'b']])                     -> X holds <U1, not numbers
METHOD(X.astype(str))                    -> X holds <U32, not numbers
METHOD(X.astype(str).astype(object))     -> X holds words, not numbers
METHOD(X.astype('m8[s]'))                -> X holds timedelta64\[s\], not numbers
METHOD([X.astype(str)]*2)                -> X holds <U32, not numbers
METHOD(np.ones(9, [('a', float)]))       -> X holds .*not numbers
METHOD(pd.DataFrame(dict(a=['1', '2'])))  -> X holds words
METHOD(pd.DataFrame(dict(a=pd.to_datetime(['2020', '2021'])))) -> X has columns that
METHOD(Lazy())                           -> X is a Lazy, which is not read yet; pass X.collect\(\)
METHOD(Unknown())                        -> X has shape \(nan, 16\), in which the number of rows
METHOD(Dicts())                          -> X gives dicts of image, label; it must give images
METHOD(torch.empty(9, 16, device='meta')) -> X has no values: it is on the device 'meta'
METHOD(torch.ones(9, 16).to_sparse())    -> X is a sparse tensor
METHOD(NESTED)                           -> X is a nested tensor
METHOD([[1., 2.], [3.]])                 -> X
METHOD(np.ones((0, 16)))                 -> X|0 sample
METHOD(np.ones((5, 0)))                  -> X|0 feature
METHOD(torch.ones(0, 16))                -> X|0 sample
METHOD(broken(NAN))                      -> X contains NaN
METHOD(broken(INF))                      -> X contains infinity
METHOD(broken(NAN, IMAGES))              -> X contains NaN
METHOD(torch.from_numpy(broken(NAN)))    -> X .*NaN|X has nan in row 7
METHOD(torch.tensor(broken(INF)).half()) -> X .*infinity|X has inf in row 7
METHOD(pd.DataFrame(broken(NAN)))        -> X contains NaN
METHOD(pd.DataFrame(dict(a=['x', 'y']))) -> X
METHOD(X*1j)                             -> [Cc]omplex
METHOD(np.array([['2020-01-01']], 'datetime64[D]')) -> X holds datetime64
METHOD(csr_matrix(X))                    -> TypeError: [Ss]parse
METHOD(iter([X]))                        -> X is a list_iterator, which can be gone through only
METHOD(Y for Y in [X])                   -> X is a generator
METHOD([broken(NAN)])                    -> X .*NaN|X has nan in row 7
METHOD([X, broken(NAN)])                 -> X .*NaN|X has nan in row 67
METHOD([X, X[:, :9]])                    -> X has rows of shape \(16,\), then of \(9,\)
METHOD(loader(broken(NAN)))              -> X .*NaN|X has nan in row 7
METHOD(loader(broken(INF)))              -> X .*infinity|X has inf in row 7
METHOD(mapped(broken(NAN), TMP))         -> X .*NaN|X has nan in row 7
METHOD(mapped(X[0], TMP))                -> X.*1D array|X has shape
METHOD(mapped(X[:0], TMP))               -> X.*0 sample|X has shape
METHOD(mapped(X*1j, TMP))                -> [Cc]omplex
METHOD(Ragged())                         -> X cannot be stacked from row 0
METHOD(DataLoader(TensorDataset(torch.ones(0, 16)))) -> X is empty
'''

KINDS = dict(FileNotFoundError=FileNotFoundError, OSError=OSError, TypeError=TypeError,
             NotFittedError=NotFittedError)

def names():
    "Whatever the library defines or exports, what is defined above, and what else is called."
    found = {}
    for info in pkgutil.walk_packages(deep_sparse_nb.__path__, 'deep_sparse_nb.'):
        module = importlib.import_module(info.name)
        found |= {name: value for name, value in vars(module).items()
                  if getattr(value, '__module__', '') == info.name
                  or name in getattr(module, '__all__', ())}
    return found | globals() | dict(clone=clone, csr_matrix=csr_matrix)

NAMES = names()

def table(lines): return [re.split(r'\s+-> ', line) for line in lines.splitlines() if line]

@pytest.fixture(scope='module')
def TMP(tmp_path_factory):
    "A folder of odd files."
    folder = tmp_path_factory.mktemp('odd')
    for name in ('empty', 'pictures', 'broken/MNIST/raw'): (folder/name).mkdir(parents=True)
    for name in ('text.png', 'file'): (folder/name).write_text('no picture, table or checkpoint')
    (folder/'empty.png').touch()
    for size, name in (((40, 40), 'good'), ((9, 9), 'ok'), ((20_000, 1), 'thin'),
                       ((9, 9), 'pictures/only')):
        Image.new('L', size, 99).save(folder/f'{name}.png')
    Image.new('I;16', (9, 9)).save(folder/'deep.png')
    (folder/'short.png').write_bytes((folder/'good.png').read_bytes()[:60])
    for part in ('train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1'):
        (folder/'broken'/'MNIST'/'raw'/f'{part}-ubyte').write_bytes(b'what is this?' * 9)
    save(Run(AE), folder/'run')
    (folder/'half').write_bytes((folder/'run').read_bytes()[:-50])
    small(decoder=nn.Linear(8, 16), encoder=None).fit(X).save_pretrained(folder/'own')
    np.save(folder/'X.npy', X)
    np.save(folder/'nan.npy', broken(NAN))
    np.savez(folder/'X.npz', X=X, Y=X)
    return folder

def refused(call, said, **more):
    kind, _, words = said.partition(': ')
    if kind not in KINDS: kind, words = 'ValueError', said
    with pytest.raises(KINDS.get(kind, ValueError)) as caught: eval(call, NAMES | more)
    assert re.search(words, str(caught.value)), str(caught.value)

@pytest.mark.parametrize('call, said', table(FUNCTIONS + ESTIMATOR), ids=lambda text: text)
def test_is_refused(call, said, TMP, monkeypatch):
    monkeypatch.chdir(TMP)              # what is not refused writes there
    refused(call, said, TMP=TMP)

@pytest.mark.parametrize('call, said', table(ROWS), ids=lambda text: text)
def test_wrong_rows_are_refused(call, said, TMP): refused(call, said, METHOD=small().fit, TMP=TMP)

@pytest.mark.parametrize('method', ['partial_fit', 'transform', 'score', 'fit_transform'])
def test_every_method_refuses_them(method, TMP):
    coder = small() if 'fit' in method else CODER
    for call, said in table(ROWS)[::6]: refused(call, said, METHOD=getattr(coder, method), TMP=TMP)

def test_a_refused_fit_changes_nothing():
    coder = small().fit(X)
    before = coder.transform(X)
    for wrong in (broken(NAN), X[0], 'X'):
        with pytest.raises(ValueError): coder.fit(wrong)
        with pytest.raises(ValueError): coder.partial_fit(wrong)
    np.testing.assert_array_equal(coder.transform(X), before)

# words after `deep-sparse`  ->  exit code, and how the message goes
SHELL = r'''
                                                 -> 2 usage
paint                                            -> 2 paint
train                                            -> 2 needs .*--dataset
train --dataset cifar                            -> 2 --dataset: invalid choice: 'cifar'
train --dataset digits --model VDL --lam .1      -> 2 --out
train --dataset digits --model XDL --lam .1 --out TMP/new -> 2 --model: invalid choice: 'XDL'
train --dataset digits --model VDL --lam x --out TMP/new  -> 2 --lam: invalid float value: 'x'
train --dataset digits --model VDL --lam -1 --out TMP/new -> 1 lam is -1
train --dataset digits --model VDL --lam nan --out TMP/new -> 1 lam is nan
train --dataset digits --model VDL --lam .1 --epochs 0 --out TMP/new -> 2 --epochs is 0
train --dataset digits --model VDL --lam .1 --batch 0 --out TMP/new -> 1 batch is 0
train --dataset digits --model VDL --lam .1 --step -1 --out TMP/new -> 1 step is -1
train --dataset digits --model VDL --lam .1 --device tpu9 --out TMP/new -> 2 --device: 'tpu9'
train --dataset digits --model VDL --lam .1 --device cuda:99 --out TMP/new -> 1 cuda:99
train --dataset patches --model VDL --lam .1 --out TMP/new -> 1 images
train --dataset patches --model VDL --lam .1 --images TMP/empty --out TMP/new -> 1 images
train --dataset mnist --model VDL --lam .1 --data-dir TMP/broken --out TMP/new -> 1 MNIST
train --resume TMP/none                          -> 1 no checkpoint at
train --resume TMP --lam 3                       -> 2 --resume .*--lam
evaluate                                         -> 2 DIR
evaluate TMP/none                                -> 1 no checkpoint at
sweep                                            -> 2 NAME
sweep none                                       -> 2 none
sweep digits --seeds 0                           -> 1 seeds is 0
sweep digits --epochs -1                         -> 1 epochs is -1
sweep digits --lam 7                             -> 1 lams has 7
sweep digits --minutes -1                        -> 1 minutes is -1
report --results TMP/none                        -> 1 none
bench --device tpu9                              -> 2 --device
fit TMP/none.npy --out TMP/new                   -> 1 none.npy
fit TMP/X.npy                                    -> 2 --out
fit TMP/X.npy --out TMP/new --components 0       -> [12] components.* 0
fit TMP/X.npy --out TMP/new --components x       -> 2 --components: invalid int value: 'x'
fit TMP/X.npy --out TMP/new --target-sparsity 2  -> [12] target.sparsity is 2
fit TMP/X.npy --out TMP/new --alpha -1           -> [12] alpha
fit TMP/X.npy --out TMP/new --decoder deep       -> 2 --decoder: invalid choice: 'deep'
fit TMP/X.npy --out TMP/new --scaling loud       -> 2 --scaling: invalid choice
fit TMP/X.npy --out TMP/new --epochs 0           -> [12] epochs is 0
fit TMP/X.npy --out TMP/new --device tpu9        -> 2 --device: 'tpu9'
fit TMP/nan.npy --out TMP/new                    -> 1 X
fit TMP/file --out TMP/new                       -> 1 X is .*file, not an array
fit TMP/X.npz --out TMP/new                      -> 1 X is .*X.npz, an archive of X, Y
encode                                           -> 2 needs|required
encode none TMP/X.npy --out TMP/new              -> 1 name is 'none', neither a folder
encode digits TMP/X.npy --out TMP/new            -> 1 X has 16 features
encode digits TMP/none.npy --out TMP/new         -> 1 none.npy
decode digits TMP/X.npy --out TMP/new            -> 1 Z has shape \(60, 16\)
denoise digits TMP/none.png --out TMP/new.png    -> 1 none.png
inpaint digits TMP/none.png --mask TMP/none.png --out TMP/new.png -> 1 none.png
inpaint digits TMP/X.npy --out TMP/new.png       -> 2 --mask
denoise digits TMP/ok.png --max-pixels 9 --out TMP/new -> 1 ok.png has 9 x 9 .*max_pixels is 9
denoise digits TMP/deep.png --out TMP/new        -> 1 deep.png has more than 8 bits
inpaint digits TMP/ok.png --mask TMP/deep.png --out TMP/new -> 1 mask: .*more than 8 bits
'''

@pytest.mark.parametrize('words, said', table(SHELL), ids=lambda text: text)
def test_the_shell_refuses_it(words, said, TMP, capsys):
    codes, _, message = said.partition(' ')
    try: returned = main([w.replace('TMP', str(TMP)) for w in words.split()])
    except SystemExit as end: returned = end.code
    out, err = capsys.readouterr()
    assert str(returned) in codes and re.search(message, ' '.join(err.split())), err
    assert out == '' and 'Traceback' not in err and not (TMP/'new').exists()
