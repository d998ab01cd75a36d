"""What cannot be right is refused, by an error that names the argument and what is allowed.

A table: a call, and the words of its ValueError (or of another error, where one is named).
"""
# ruff: noqa: F401, that the table uses
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deep_sparse_nb
from deep_sparse_nb.__main__ import main
from deep_sparse_nb.data.arrays import Scaling, as_rows, batches
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.checkpoints import origin, peek, restore, save
from deep_sparse_nb.callbacks import CSVLog
from deep_sparse_nb.paper.contrast import by_contrast, by_picture
from deep_sparse_nb.convolution import ConvDecoder
from deep_sparse_nb.data.datasets import (
    Dataset, Split, add_noise, data_folder, load, own_data, read_mnist, split_rows)
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder, atoms, decoder_loss
from deep_sparse_nb.distributed import choose_device
from deep_sparse_nb.encoders import LISTA
from deep_sparse_nb.energy import Energy, deviation, hinge, hinge_gradient, planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.explore import show_code
from deep_sparse_nb.files import lock, write_atomically
from deep_sparse_nb.inference import fista, lipschitz
from deep_sparse_nb.kernels.active_set import exact_codes
from deep_sparse_nb.metrics import explained_variance, match, psnr, stability
from deep_sparse_nb.paper.recipes import Recipe, recipe
from deep_sparse_nb.data.patches import (cut, join, open_picture, photographs, read_picture,
                                    split_files)
from deep_sparse_nb.pictures import denoise, inpaint
from deep_sparse_nb.plots import show_images, show_pairs
from deep_sparse_nb.pretrained import read_folder, write_folder
from deep_sparse_nb.paper.probes import few_labels, first_of_each, only_labelled, stable_atoms
from deep_sparse_nb.paper.results import append, read_table
from deep_sparse_nb.paper.weights import load_model
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.paper.sweeps import choose, deadline_in, finished, sweep
from deep_sparse_nb.training import begin, evaluate, train

NAN, INF = float('nan'), float('inf')
Y, W, Z = planted(12, side=4)                  # (12, 16), (16, 8), (12, 8)
D, H, E, HINGED = LinearDecoder(8, 16), HiddenDecoder(8, 5, 16), Energy(.01), Energy(.01, 10.)
AE = Autoencoder.from_recipes(Recipe(l=8, epochs=1, batch=4), d=16)
SPLIT = Split(Y, scale=1., shift=0.)
DATA = Dataset('bars', SPLIT, shape=(4, 4))
G = torch.Generator()
HERE = Path(__file__).parent


def with_(A, value):
    "A copy of A whose first number is another."
    A = A.clone()
    A.view(-1)[0] = value
    return A


# call  ->  [type of the error:] how its message goes
TABLE = r'''
planted(3, side=8, k=0)                          -> k is 0
planted(3, side=8, k=17)                         -> k is 17
planted(-1)                                      -> n is -1
planted(3, side=0)                               -> side is 0
deviation(Z[:1])                                 -> Z has 1 sample
deviation(Z[:0])                                 -> Z has 0 sample
hinge(Z[:1])                                     -> Z has 1 sample
hinge_gradient(Z[:1])                            -> Z has 1 sample
Energy(-.1)                                      -> lam is -0.1
Energy(NAN)                                      -> lam is nan
Energy(INF)                                      -> lam is inf
Energy(.1, beta=-1.)                             -> beta is -1
Energy(.1, beta=NAN)                             -> beta is nan
Energy(.1, T=-1.)                                -> T is -1
Energy(.1, T=INF)                                -> T is inf
Energy(.1, gamma=-1.)                            -> gamma is -1
Energy(torch.tensor([.1, -.1]))                  -> lam is tensor
Energy('much')                                   -> lam is 'much'
Energy(None)                                     -> lam is None
Energy(.1, gamma=1.).value(Z, Y, Y)              -> gamma is 1.*encoded=

LinearDecoder(0, 16)                             -> l is 0
LinearDecoder(8, -1)                             -> d is -1
LinearDecoder(8.5, 16)                           -> l is 8.5
HiddenDecoder(8, 0, 16)                          -> m is 0
HiddenDecoder(0, 5, 16)                          -> l is 0
HiddenDecoder(8, 5, 0)                           -> d is 0
LISTA(16, 0)                                     -> l is 0
LISTA(0, 8)                                      -> d is 0
LISTA(16, 8, L=-1)                               -> L is -1
atoms(torch.nn.Linear(8, 16))                    -> l is missing
atoms(D, 0)                                      -> l is 0
stack([])                                        -> modules is empty
stack([D, H])                                    -> modules
stack([D, LinearDecoder(9, 16)])                 -> modules

fista(Y[0], D, E)                                -> Y has shape \(16,\)
fista(Y.int(), D, E)                             -> Y has .*type torch.int32
fista(Y > 0, D, E)                               -> Y has .*type torch.bool
fista(Y[:, :9], D, E)                            -> Y has images of 9 pixels; the decoder makes 16
fista(with_(Y, NAN), D, E)                       -> Y is not finite
fista(with_(Y, INF), D, E)                       -> Y is not finite
fista(with_(Y, NAN), H, E)                       -> Y is not finite
fista(Y.numpy(), D, E)                           -> Y is a ndarray
fista(Y.tolist(), D, E)                          -> Y is a list
fista(None, D, E)                                -> Y is a NoneType
fista(Y, None, E)                                -> decoder is a NoneType
fista(Y, W, E)                                   -> decoder is a Tensor
fista(Y, D, .1)                                  -> energy is a float
fista(Y[:1], D, HINGED)                          -> Y has 1 image
fista(Y[:0], D, HINGED)                          -> Y has 0 image
fista(Y, D, E, start=Z[:5])                      -> start has 5 codes for 12 images
fista(Y, D, E, start=Z[:, :5])                   -> start has shape .* the decoder takes 8
fista(Y, D, E, start=Z[0])                       -> start has shape
fista(Y, D, E, start=with_(Z, NAN))              -> start is not finite
fista(Y, D, E, encoded=Z[:5])                    -> encoded has 5 codes for 12 images
fista(Y, D, E, encoded=Z[:, :5])                 -> encoded has shape
fista(Y, D, E, encoded=with_(Z, INF))            -> encoded is not finite
fista(Y, D, Energy(.1, gamma=1.))                -> gamma is 1.*encoded=
fista(Y, D, Energy(torch.ones(3)), start=Z.expand(2, 12, 8)) -> leading dimensions do not fit
fista(Y.to('meta'), D, E)                        -> Y has no values
fista(Y, D, E, start=Z.numpy())                  -> start is a ndarray; it must be a Tensor
fista(Y, D, E, encoded=Z.numpy())                -> encoded is a ndarray; it must be a Tensor
fista(Y, D, E, encoded=Z.to('meta'))             -> encoded has no values
fista(Y, torch.nn.Linear(8, 16, device='meta'), E, start=Z) -> the decoder's weight has no values
fista(Y, torch.nn.LazyLinear(16), E, start=Z)    -> the decoder's weight has no values
fista(Y, D, E, step=0.)                          -> step is 0
fista(Y, D, E, step=-1.)                         -> step is -1
fista(Y, D, E, step=NAN)                         -> step is nan
fista(Y, D, E, step=INF)                         -> step is inf
fista(Y, D, E, step='big')                       -> step is 'big'; it must be a number, 'auto' or
fista(Y, D, E, max_iter=0)                      -> max_iter is 0; at least 1
fista(Y, D, E, max_iter=-3)                     -> max_iter is -3
fista(Y, D, E, tol=0.)                           -> tol is 0
fista(Y, D, E, tol=-1.)                          -> tol is -1
fista(Y, D, E, tol=NAN)                          -> tol is nan
fista(Y, D, E, kernel='fast')                    -> kernel is 'fast'; it must be 'auto' or 'plain'
fista(Y, D, E, precision='float8')               -> precision is 'float8'
fista(Y, D, E, mask=Y)                           -> mask has type torch.float32
fista(Y, D, E, mask=Y[:5] > 0)                   -> mask has shape
fista(Y, torch.nn.Linear(8, 16), E)              -> start is missing
fista(Y, torch.nn.Linear(8, 9), E, start=Z)      -> Y has images of 16 pixels; the decoder makes 9
fista(Y, torch.nn.Linear(8, 1), E, start=Z)      -> Y has images of 16 pixels; the decoder makes 1
fista(Y[:, :1], torch.nn.Linear(8, 16), E, start=Z) -> Y has images of 1 pixels
lipschitz(H, E, 12)                              -> Z is missing
exact_codes(Y[:, :9], W, .1)                     -> (Y|D)\b.*(9|16)
exact_codes(with_(Y, NAN), W, .1)                -> (Y|B|finite)
exact_codes(Y, W, -.1)                           -> lam is \[-0.1\]
exact_codes(Y, W, NAN)                           -> lam is \[nan\]
exact_codes(Y, W, .1, gamma=1.)                  -> gamma is 1

as_rows([])                                      -> X
as_rows(np.zeros((0, 3)))                        -> X
as_rows(np.zeros(3))                             -> X
as_rows(np.zeros((2, 0)))                        -> X
as_rows(np.array([['a', 'b']]))                  -> X
as_rows(np.array([[1., NAN]]))                   -> X
as_rows(np.array([[1., INF]]))                   -> X
as_rows(np.array([[1j, 2]]))                     -> X
as_rows(np.array([[1e300, 0]]))                  -> X
as_rows([[1, 2], [3]])                           -> X
as_rows(None)                                    -> X holds object, not numbers
as_rows('picture.png')                           -> X
as_rows({1: 2})                                  -> X holds object, not numbers
as_rows(7)                                       -> X
as_rows([[1., None]], 'train')                   -> train
next(batches(Y, 0))                              -> batch_size is 0
next(batches(Y, -5))                             -> batch_size is -5
next(batches(Y, 2.5))                            -> batch_size is 2.5
next(batches(iter([]), 5))                       -> X
Scaling('loud')                                  -> kind is 'loud'
Scaling('standard').apply(Y)                     -> fit
Scaling('standard').fit(with_(Y, NAN))           -> X
own_data(None)                                   -> train
own_data(with_(Y, NAN))                          -> train
own_data(Y, with_(Y, NAN))                       -> valid
own_data(Y, Y[:, :9])                            -> valid
own_data(Y, test=Y[:, :9])                       -> test
own_data(Y, scaling='loud')                      -> kind is 'loud'

Split(with_(Y, NAN))                             -> images
Split(Y[0])                                      -> images
Split(Y, torch.zeros(5))                         -> labels
Split(Y, scale=1.)                               -> shift
SPLIT.to_pixels(Y[:, :9])                        -> Y has shape
Split(Y).to_pixels(Y)                            -> this split has no way back
add_noise(Y, -1.)                                -> sigma is -1
add_noise(Y, NAN)                                -> sigma is nan
add_noise(Y, INF)                                -> sigma is inf
split_rows(5, (3, 3), 'bars', 0)                 -> sizes is \(3, 3\), 6 images in all; bars has 5
load('cifar')                                    -> name is 'cifar'; it must be one of mnist
load('')                                         -> name is ''
load(None)                                       -> name is None
load('digits', sizes=(1, 2))                     -> sizes is \(1, 2\); three positive
load('digits', sizes=())                         -> sizes is \(\); three positive
load('patches', images=TMP/'pictures', picture_shares=()) -> picture_shares is \(\)
load('mnist', data_dir='')                       -> data_dir is ''; it must name a folder
load('digits', sizes=(0, 1, 1))                  -> sizes is
load('digits', sizes=(-1, 1, 1))                 -> sizes is
load('digits', sizes=(1.5, 1, 1))                -> sizes is
load('digits', sizes=(9000, 1, 1))               -> sizes is .*digits has 1,797
load('digits', images='here')                    -> images is for 'patches' only
load('digits', picture_shares=(1, 1, 1))         -> picture_shares is for 'patches' only
load('patches')                                  -> images
load('patches', images=TMP/'none')               -> FileNotFoundError: none
load('patches', images=TMP/'empty')              -> FileNotFoundError: empty
load('patches', images=TMP/'text.png')           -> FileNotFoundError: text.png, which is not
load('digits', device='tpu')                     -> device is 'tpu'
load('mnist', data_dir=TMP/'text.png')           -> data_dir is .*a file, not a folder
data_folder(TMP/'text.png')                      -> data_dir is
read_mnist(TMP/'broken', True)                   -> is not as MNIST's

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
cut(torch.zeros(5, 5), 0)                        -> size is
cut(torch.zeros(5, 5), 2, 0)                     -> stride is
cut(torch.zeros(5), 2)                           -> picture has shape
join(torch.zeros(4, 4), (5, 5), 2)               -> patches
join(torch.zeros(16, 5), (5, 5), 2)              -> patches
split_files(None, (1, 1, 1), G)                  -> images
split_files(TMP/'pictures', (1, 1, 1), G)        -> FileNotFoundError: holds 1 picture

psnr(Y, Y[:, :9])                                -> x has shape .* and y
psnr(Y, Y[:5])                                   -> x has shape .* and y
psnr(Y, Y, peak=0.)                              -> peak is 0
psnr(Y, Y, peak=-1.)                             -> peak is -1
explained_variance(Y, Y[:5])                     -> x has shape .* and y
match(W.T, W)                                    -> A has shape .* and B
match(with_(W.T, NAN), W.T)                      -> A is not finite
stability(W.T[None])                             -> A has
show_images(Y, shape=(3, 3))                     -> images
show_images(Y, shape=(4, 4), ncols=0)            -> ncols is 0
show_pairs({}, shape=(4, 4))                     -> pairs
show_code(AE, SPLIT, i=99, shape=(4, 4))         -> i is 99
show_code(AE, SPLIT, member=5, shape=(4, 4))     -> member is 5

recipe('cifar', 'VDL', .1)                       -> dataset is 'cifar'; it must be one of
recipe('mnist', 'XDL', .1)                       -> model is 'XDL'; it must be one of
recipe('mnist', 'VDL', -1.)                      -> lam is -1
recipe('mnist', 'VDL', NAN)                      -> lam is nan
recipe('mnist', 'VDL', 'x')                      -> lam is 'x'
Recipe(lamda=.1)                                 -> TypeError: lamda
Autoencoder(None)                                -> decoder
Autoencoder('D')                                 -> decoder
Autoencoder(D, recipes=[])                       -> recipes
Autoencoder(D, recipes=Recipe(l=8), seeds=[0, 1, 2][:0]) -> seeds
Autoencoder(D, recipes=Recipe(l=8, lam=-1.))     -> lam is -1
Autoencoder(D, recipes=Recipe(l=8, beta=NAN))    -> beta is nan
Autoencoder(D, recipes=Recipe(l=8, batch=0))     -> batch is 0
Autoencoder(D, recipes=Recipe(l=8, epochs=0))    -> epochs is 0
Autoencoder(D, recipes=Recipe(l=8, lr_decoder=-1.)) -> lr_decoder is -1
Autoencoder(D, recipes=Recipe(l=8, lr_encoder=NAN)) -> lr_encoder is nan
Autoencoder(D, recipes=Recipe(l=8, step=-1.))    -> step is -1
Autoencoder(D, recipes=Recipe(l=8, step='big'))  -> step is 'big'
Autoencoder(D, recipes=Recipe(l=8, step_rule='x')) -> step_rule is 'x'
Autoencoder(D, recipes=Recipe(l=8, precision='x')) -> precision is 'x'
Autoencoder(D, recipes=[Recipe(l=8), Recipe(l=8, batch=9)], seeds=[0, 1]) -> differ in batch
Autoencoder(lambda: 3, recipes=Recipe(l=8))      -> decoder is or makes a int
Autoencoder([D, D], recipes=[Recipe(l=8)]*3, seeds=[0, 1, 2]) -> decoder has 2 modules for 3
Autoencoder(torch.nn.Linear(7, 16), recipes=Recipe(l=8)) -> decoder
Autoencoder(D, LISTA(9, 8), Recipe(l=8))         -> encoder
Autoencoder(D, LISTA(16, 9), Recipe(l=8))        -> encoder
Autoencoder.from_recipes(Recipe(l=0), d=16)      -> l is 0
Autoencoder.from_recipes(Recipe(l=8), d=0)       -> d is 0
AE.infer(Y[:, :9])                               -> Y has shape \(12, 9\); it must be \(n, 16\)
AE.infer(Y[0])                                   -> Y has shape
AE.infer(with_(Y, NAN))                          -> Y is not finite
AE.encode(Y[:, :9])                               -> Y has shape
AE.encode('picture.png')                          -> Y
AE.infer(Y, tolerance=1.)                        -> TypeError: tolerance

choose_device('gpu')                             -> device is 'gpu'; it must be 'auto', 'cpu'
choose_device('tpu9')                            -> device is 'tpu9'
choose_device('cuda:99')                         -> device is 'cuda:99'; PyTorch sees
choose_device('')                                -> device is ''
choose_device(None)                              -> device is None
begin(D)                                         -> model is a LinearDecoder; it must be an Auto
begin(AE, device='gpu')                          -> device is 'gpu'
begin(AE, devcie='cpu')                          -> TypeError: devcie
train(begin(AE), own_data(Y[:, :9]), progress=False) -> images of shape \(9,\)
train(begin(AE), Y, progress=False)              -> data is Tensor, no Dataset
train(begin(AE), DATA, epochs=0, progress=False) -> epochs is 0
train(begin(AE), DATA, epochs=-2, progress=False) -> epochs is -2
train(begin(AE), DATA, minutes=-1, progress=False) -> minutes is -1
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
peek(TMP/'text.png')                             -> text.png is not a checkpoint
save(begin(AE), TMP/'text.png'/'x')              -> OSError: text.png
read_table(TMP/'none.csv')                       -> FileNotFoundError: no table at .*none.csv
read_table(TMP/'text.png')                       -> text.png
load_model('mnist', 'VDL', .777, results=TMP)    -> FileNotFoundError: 0.777
choose('none')                                   -> name is 'none'; grids are
choose('digits', models=['XDL'])                 -> models has 'XDL'; grid digits offers
choose('digits', lams=[7.])                      -> lams has 7
choose('digits', seeds=0)                        -> seeds is 0
choose('digits', epochs=-1)                      -> epochs is -1
deadline_in(0)                                   -> minutes is 0
deadline_in(-1)                                  -> minutes is -1
deadline_in(NAN)                                 -> minutes is nan
finished(TMP, ['digits'])                        -> FileNotFoundError: no finished checkpoint
sweep('none')                                    -> name is 'none'; grids are
sweep('digits', minutes=-1)                      -> minutes is -1
sweep('digits', device='gpu')                    -> device is 'gpu'
sweep('digits', models=['XDL'])                  -> models has 'XDL'
sweep('digits', models=[])                       -> models has nothing; grid digits offers
sweep('digits', lams=())                         -> lams has nothing; grid digits offers
sweep('digits', sizes=())                        -> sizes is \(\); three
sweep('digits', stack=0)                         -> stack is 0; .*at least 1
sweep('digits', stack=-1)                        -> stack is -1
sweep('digits', stack=1.5)                       -> stack is 1.5; it must be a whole number
few_labels(['digits'], draws=0)                  -> draws is 0; .*at least 1
few_labels(['digits'], epochs=0)                 -> epochs is 0; .*at least 1
few_labels(['digits'], seeds=0)                  -> seeds is 0; .*at least 1
only_labelled(DATA, (1, 0), 1)                   -> per_class is 0
few_labels(['none'], results=TMP, runs=TMP)      -> FileNotFoundError: no finished .* of none
stable_atoms(['digits'], results=TMP, runs=TMP)  -> FileNotFoundError: no finished checkpoint
by_contrast(results=TMP, runs=TMP, images=TMP)   -> FileNotFoundError: no finished checkpoint
by_picture(results=TMP, images=TMP)              -> FileNotFoundError: no weights of patches
first_of_each(torch.zeros(3).long(), 9)          -> k is 9; a class has only 3

ConvDecoder((8, 8), channels=(4,))               -> image_shape is \(8, 8\); it must be \(c, height
ConvDecoder((1, 8, 8), channels=(4,), kernel=0)  -> kernel is 0; it must be positive
ConvDecoder((1, 8, 8), channels=(4,), stride=0)  -> stride is 0; it must be positive
denoise(AE, 'picture.png')                       -> picture
denoise(AE, None)                                -> picture
denoise(AE, with_(torch.rand(9, 9), NAN))        -> picture
denoise(AE, torch.rand(9))                       -> picture
inpaint(AE, torch.rand(9, 9), torch.rand(9, 9))  -> mask
inpaint(AE, torch.rand(9, 9), torch.ones(5) > 0) -> mask
read_folder(TMP/'none')                          -> none has no config.json; a model needs it
read_folder(TMP/'empty')                         -> empty has no config.json
write_folder(TMP/'text.png', {}, {})             -> folder is .*text.png, a file
SparseCoder.from_pretrained('none')              -> name is 'none', neither a folder with a model
SparseCoder.from_pretrained(TMP/'empty')         -> name is .*empty, a folder without config.json
SparseCoder(8, checkpoint='c').fit(Y)            -> random_state is None; to go on from a checkpoint
CSVLog(TMP/'text.png'/'x')([dict(a=1)])          -> OSError: text.png
write_atomically(TMP/'text.png'/'x', len)        -> OSError: text.png
lock(TMP/'text.png'/'x', wait=True).__enter__()  -> OSError: text.png
'''
ROWS = [re.split(r'\s+-> ', line) for line in TABLE.strip().splitlines() if line]
KINDS = dict(FileNotFoundError=FileNotFoundError, OSError=OSError, TypeError=TypeError)


@pytest.fixture(scope='module')
def TMP(tmp_path_factory):
    "A folder of odd files."
    folder = tmp_path_factory.mktemp('odd')
    for name in ('empty', 'pictures', 'broken/MNIST/raw'): (folder/name).mkdir(parents=True)
    (folder/'text.png').write_text('no picture, no table, no checkpoint')
    (folder/'empty.png').touch()
    Image.new('L', (40, 40), 99).save(folder/'good.png')
    Image.new('L', (20_000, 1)).save(folder/'thin.png')
    Image.new('I;16', (9, 9)).save(folder/'deep.png')
    Image.new('L', (9, 9)).save(folder/'pictures'/'only.png')
    (folder/'short.png').write_bytes((folder/'good.png').read_bytes()[:60])
    for part in ('train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1'):
        (folder/'broken'/'MNIST'/'raw'/f'{part}-ubyte').write_bytes(b'what is this?' * 9)
    save(begin(AE), folder/'run')
    (folder/'half').write_bytes((folder/'run').read_bytes()[:-50])
    return folder


# What has no case above, and why. Whatever is exported stands in one place or the other.
NO_CASE = dict(
    checked_before="""adaptive.SparsityKnob adaptive.Learning adaptive.crossing adaptive.resample
        adaptive.halve_ online.AtomByAtom online.renew_atoms_ online.dictionary_step
        online.closed_form
        checkpoints.VERSION decoders.unit_columns_ decoders.reconstruction_gradient
        decoders.decoder_loss distributed.average_ distributed.sharing distributed.begin_alike_
        energy.Ranks distributed.ProcessRanks distributed.joined inference.certificate
        inference.curvature iteration.shrink iteration.Iteration iteration.Coasting
        kernels.active_set.exact kernels.active_set.signed
        pictures.noise_weight pictures.noise_level rows.streamed
        rows.in_memory rows.RowsEstimator
        sweeps.file_name sweeps.plan sweeps.predecessor sweeps.score sweeps.history_rows
        sweeps.finish training.optimizer training.training_step training.shorten_columns_
        training.data_order training.stable_step training.train_epoch training.learning_rates
        weights.worth_storing weights.weights_file weights.compact weights.unpacked
        weights.store_weights stacks.unstack stacks.OwnDecoder encoders.OwnEncoder
        pretrained.Pretrained pretrained.as_data pretrained.model_card
        data.standardize metrics.sparsity metrics.dead metrics.code_norms metrics.column_norms""",
    kinds_of_results="""inference.Inference inference.Diverged iteration.Rules training.Run
        decoders.Gradient decoders.Decoder decoders.Quadratic kernels.active_set.Exact
        paper.Member paper.Grid probes.Kind probes.Places plots.Table""",
    takes_nothing="""paper.targets results.commit results.processor
        results.provenance results.identity training.tiny_is_zero""",
    commands="""coding.fit_command coding.encode_command coding.decode_command
        coding.denoise_command coding.inpaint_command commands.train_command
        commands.evaluate_command commands.sweep_command commands.bench_command
        commands.perform""",
    elsewhere="""callbacks.TensorBoardLog callbacks.WandbLog""")
# Whose functions serve figures and tables, or `fista`; what users call of them is above.
WHOLE_PAGES = '''bench timing report rivals plots probes patches contrast explore paper kernels.cpu
    kernels.folded kernels.gpu kernels.hidden kernels.jit'''.split()


def exported():
    "Whatever can be called, from its module and name to whether the table has a call of it."
    for info in pkgutil.walk_packages(deep_sparse_nb.__path__, 'deep_sparse_nb.'):
        module = info.name.removeprefix('deep_sparse_nb.')
        if module in ('_modidx', '__main__'): continue
        found = importlib.import_module(info.name)
        for name in getattr(found, '__all__', []):
            if callable(getattr(found, name)):
                yield f'{module}.{name}', bool(re.search(rf'\b{name}\b', TABLE))


def test_whatever_is_exported_has_a_case_or_a_reason():
    told = {name for names in NO_CASE.values() for name in names.split()}
    there = dict(exported())
    for name, has_case in there.items():
        page = name.rpartition('.')[0] in WHOLE_PAGES
        assert has_case or name in told or page, f'{name} has no case; give it one or a reason'
    assert not [name for name in told if there.get(name)], 'has a case by now'


def test_there_are_many():
    calls = [call for call, _ in ROWS]
    assert len(ROWS) >= 150 and len(set(calls)) == len(calls)


@pytest.mark.parametrize('call,said', ROWS, ids=[call for call, _ in ROWS])
def test_is_refused(call, said, TMP, monkeypatch):
    monkeypatch.chdir(TMP)              # what is not refused writes there
    kind, _, words = said.partition(': ')
    if kind not in KINDS: kind, words = 'ValueError', said
    with pytest.raises(KINDS.get(kind, ValueError)) as caught:
        eval(call, globals() | dict(TMP=TMP))
    assert re.search(words, str(caught.value)), str(caught.value)


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
'''
LINES = [re.split(r'\s+-> ', line) for line in SHELL.strip('\n').splitlines()]


@pytest.mark.parametrize('words,said', LINES, ids=[words for words, _ in LINES])
def test_the_shell_refuses_it(words, said, TMP, capsys):
    code, _, message = said.partition(' ')
    try: returned = main([w.replace('TMP', str(TMP)) for w in words.split()])
    except SystemExit as end: returned = end.code
    out, err = capsys.readouterr()
    assert returned == int(code) and re.search(message, ' '.join(err.split())), err
    assert out == '' and 'Traceback' not in err and not (TMP/'new').exists()
