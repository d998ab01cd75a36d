"""What a `SparseCoder` cannot use is refused: the error names the argument and what is allowed.

A table: a call, and the words of its ValueError, or of another error, where one is named.
"""
# ruff: noqa: F401, that the table uses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from deep_sparse_nb.__main__ import main
from deep_sparse_nb.callbacks import CSVLog
from deep_sparse_nb.energy import planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.pretrained import models, read_folder, write_folder

NAN, INF = np.nan, np.inf
X = planted(60, side=4, noise=.05)[0].numpy()                   # (60, 16)
IMAGES = X.reshape(-1, 4, 4)
Z = np.ones((3, 8))


def small(**changes):
    return SparseCoder(**dict(n_components=8, max_epochs=1, alpha=.01, random_state=0) | changes)


def broken(value, rows=X):
    rows = rows.copy()
    rows[7].flat[3] = value
    return rows


def mapped(rows, folder):
    np.save(folder/'rows.npy', rows)
    return np.load(folder/'rows.npy', mmap_mode='r')


class Ragged(Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return torch.ones(3 + i % 2)


class Wide(nn.Module):
    def forward(self, Z): return torch.ones(len(Z), 9)


def loader(rows): return DataLoader(TensorDataset(torch.from_numpy(rows)), 10)


CODER = small().fit(X)
PICTURES = small(scaling='contrast').fit(IMAGES)
NAMED = small().fit(pd.DataFrame(X, columns=[f'x{i}' for i in range(16)]))
OWN = small(decoder=nn.Linear(8, 16), encoder=None).fit(X)

PARAMETERS = r'''
small(n_components=0).fit(X)             -> n_components is 0; it must be a positive whole number
small(n_components=2.5).fit(X)           -> n_components is 2.5
small(n_components='many').fit(X)        -> n_components is 'many'
small(n_components=True).fit(X)          -> n_components is True
small(max_epochs=-1).fit(X)              -> max_epochs is -1
small(max_epochs=0).fit(X)               -> max_epochs is 0
small(batch_size=1.5).fit(X)             -> batch_size is 1.5
small(batch_size=None).fit(X)            -> batch_size is None
small(batch_size=1).fit(X)               -> batch_size is 1; the hinge of a batch needs at least 2
small(alpha=-1).fit(X)                   -> alpha is -1; it must be at least 0
small(alpha=NAN).fit(X)                  -> alpha is nan
small(alpha='much').fit(X)               -> alpha is 'much'; it must be a number or None
small(target_sparsity=.5).fit(X)         -> alpha is 0.01; target_sparsity is 0.5: give one
small(alpha=None, target_sparsity=1.).fit(X)  -> target_sparsity is 1.0; it must be between 0 and 1
small(alpha=None, target_sparsity=90).fit(X)  -> target_sparsity is 90
small(alpha=None, target_sparsity='x').fit(X) -> target_sparsity is 'x'
small(decoder='deep').fit(X)             -> decoder is 'deep'; it must be one of 'linear', 'hidden'
small(decoder=None).fit(X)               -> decoder is None
small(decoder=3).fit(X)                  -> decoder is 3
small(decoder=X).fit(X)                  -> decoder is array
small(decoder=lambda: 3).fit(X)          -> decoder is or makes a int
small(decoder=nn.Linear(5, 16)).fit(X)   -> decoder
small(decoder=nn.Linear(8, 9)).fit(X)    -> decoder makes images of shape \(9,\); those of X have
small(encoder='mlp').fit(X)              -> encoder is 'mlp'; it must be one of 'lista', None
small(encoder=X).fit(X)                  -> encoder is array
small(encoder=nn.Linear(9, 8)).fit(X)    -> encoder
small(encoder=Wide).fit(X)               -> encoder
small(regularization='l2').fit(X)        -> regularization is 'l2'; it must be one of variance, unit
small(regularization=None).fit(X)        -> regularization is None
small(regularization=['variance']).fit(X) -> regularization is \['variance'\]
small(transform_algorithm='omp').fit(X)  -> transform_algorithm is 'omp'; it must be one of encoder
small(scaling='minmax').fit(X)           -> scaling is 'minmax'; it must be one of none, mean
small(scaling='contrast').fit(X)         -> 'contrast' needs an image
small(device='tpu').fit(X)               -> device is 'tpu'
small(random_state='x').fit(X)           -> 'x' cannot be used to seed
small(revive=True, decoder=nn.Linear(8, 16)).fit(X) -> revive is True; it needs decoder='linear'
small(callbacks=CSVLog('x')).fit(X)      -> callbacks is .*; it must be a list of functions
small(callbacks=[3]).fit(X)              -> callbacks is \[3\]
SparseCoder(8, .1)                       -> TypeError: positional
SparseCoder(components=8)                -> TypeError: components
small().set_params(lam=.1)               -> Invalid parameter 'lam'
'''

# METHOD is each of fit, partial_fit, transform and score; ROWS below go to all of them.
ROWS = r'''
METHOD(X[0])                             -> X|Reshape your data
METHOD(3.)                               -> X|Reshape your data
METHOD('rows.npy')                       -> X
METHOD(b'rows')                          -> X
METHOD(None)                             -> X
METHOD({'a': 1})                         -> TypeError: X
METHOD([])                               -> X
METHOD([['a', 'b']])                     -> X
METHOD([[1., 2.], [3.]])                 -> X
METHOD(np.ones((0, 16)))                 -> X|0 sample
METHOD(np.ones((5, 0)))                  -> X|0 feature
METHOD(torch.ones(0, 16))                -> X|0 sample
METHOD(broken(NAN))                      -> X contains NaN
METHOD(broken(INF))                      -> X contains infinity
METHOD(broken(NAN, IMAGES))              -> X contains NaN
METHOD(torch.from_numpy(broken(NAN)))    -> X contains NaN
METHOD(torch.tensor(broken(INF)).half()) -> X contains infinity
METHOD(pd.DataFrame(broken(NAN)))        -> X contains NaN
METHOD(pd.DataFrame(dict(a=['x', 'y']))) -> X
METHOD(X*1j)                             -> [Cc]omplex
METHOD(np.array([['2020-01-01']], 'datetime64[D]')) -> X
METHOD(csr_matrix(X))                    -> TypeError: [Ss]parse
METHOD(iter([X]))                        -> X is a list_iterator, which can be gone through only
METHOD(Y for Y in [X])                   -> X is a generator
METHOD([broken(NAN)])                    -> X .*NaN|X has nan in row 7
METHOD([X, broken(NAN)])                 -> X has nan in row 67
METHOD([X, X[:, :9]])                    -> X has rows of shape \(16,\), then of \(9,\)
METHOD(loader(broken(NAN)))              -> X .*NaN|X has nan in row 7
METHOD(loader(broken(INF)))              -> X .*infinity|X has inf in row 7
METHOD(mapped(broken(NAN), TMP))         -> X .*NaN|X has nan in row 7
METHOD(mapped(X[0], TMP))                -> X has shape \(16,\); it must be \(N, d\)
METHOD(mapped(X[:0], TMP))               -> X has shape \(0, 16\); a row and a feature are needed
METHOD(mapped(X*1j, TMP))                -> complex
METHOD(Ragged())                         -> X cannot be stacked from row 0
METHOD(DataLoader(TensorDataset(torch.ones(0, 16)))) -> X is empty
'''

# After a fit, to rows of another kind.
OTHERS = r'''
CODER.transform(X[:, :9])                -> X has 9 features, but SparseCoder is expecting 16
CODER.score(X[:, :9])                    -> X has 9 features
CODER.transform(loader(X[:, :9]))        -> X has 9 features
CODER.transform([X, X[:, :9]])           -> X has rows of shape
CODER.transform(mapped(X[:, :9], TMP))   -> X has 9 features
PICTURES.transform(X.reshape(-1, 2, 8))  -> X has images of shape \(2, 8\); \(4, 4\) or rows of 16
NAMED.transform(pd.DataFrame(X, columns=[f'y{i}' for i in range(16)])) -> feature names should match
clone(CODER).fit(X).partial_fit(X[:, :9]) -> X has 9 features
small().fit(X[:1])                       -> X has 1 sample; the hinge needs 2
small().partial_fit(X[:1])               -> X has 1 sample; the hinge needs 2
CODER.inverse_transform(Z[:, :5])        -> Z has shape \(3, 5\); it must be \(N, 8\)
CODER.inverse_transform(Z[0])            -> Z has shape \(8,\)
CODER.inverse_transform(Z*NAN)           -> Z has nan in row 0
CODER.inverse_transform('Z.npy')         -> Z
CODER.inverse_transform(None)            -> Z
CODER.inverse_transform(Z*1j)            -> Z has complex numbers
PICTURES.inverse_transform(Z)            -> like is None
PICTURES.inverse_transform(Z, X[:3, :9]) -> like has shape
PICTURES.inverse_transform(Z, X[:2])     -> like has 2 rows, Z 3
PICTURES.inverse_transform(Z, broken(NAN)[:10]) -> like has nan in row 7
CODER.get_feature_names_out(['a', 'b'])  -> input_features
clone(CODER).fit(X).set_output(transform='arrow').transform(X) -> output config must be in
small().transform(X)                     -> NotFittedError: not fitted
small().score(X)                         -> NotFittedError: not fitted
small().inverse_transform(Z)             -> NotFittedError: not fitted
small().components_                      -> NotFittedError: not fitted
small().get_feature_names_out()          -> NotFittedError: not fitted
small().save_pretrained(TMP/'new')       -> NotFittedError: not fitted
small().push_to_hub('a/b')               -> NotFittedError: not fitted
CODER.save_pretrained(TMP/'file')        -> folder is .*file, a file
CODER.save_pretrained(TMP/'file'/'sub')  -> OSError: sub
CODER.save_pretrained(None)              -> TypeError: folder is None
SparseCoder.from_pretrained(None)        -> name is None
SparseCoder.from_pretrained(3)           -> name is 3
SparseCoder.from_pretrained('')          -> name is ''; it must be a folder, or a name such
SparseCoder.from_pretrained('mnist')     -> name is 'mnist', neither a folder .* nor one of digits
SparseCoder.from_pretrained(TMP)         -> name is .*, a folder without config.json
SparseCoder.from_pretrained(TMP/'file')  -> name is
SparseCoder.from_pretrained(TMP/'own')   -> decoder is missing: .* Linear
SparseCoder.from_pretrained(TMP/'own', decoder=nn.Linear(8, 9)) -> decoder
SparseCoder.from_pretrained(TMP/'own', decoder=nn.Linear(9, 16)) -> decoder
SparseCoder.from_pretrained(TMP/'own', decoder=3) -> decoder
SparseCoder.from_pretrained(TMP/'own', decoder=nn.Linear(8, 16), device='tpu') -> device is 'tpu'
SparseCoder.from_pretrained('digits', decoder=nn.Linear(8, 16)) -> decoder .*'linear'
SparseCoder.from_pretrained('digits', encoder=nn.Linear(64, 8)) -> encoder .*'lista'
read_folder(TMP/'none')                  -> none has no config.json; a model needs it
'''
KINDS = dict(TypeError=TypeError, NotFittedError=NotFittedError, OSError=OSError)


def table(lines): return [re.split(r'\s+-> ', line) for line in lines.strip().splitlines()]


@pytest.fixture(scope='module')
def TMP(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wrong')
    (folder/'file').write_text('words')
    OWN.save_pretrained(folder/'own')
    return folder


def refused(call, said, **names):
    kind, _, words = said.partition(': ')
    if kind not in KINDS: kind, words = 'ValueError', said
    with pytest.raises(KINDS.get(kind, ValueError)) as caught:
        eval(call, globals() | names)
    assert re.search(words, str(caught.value)), str(caught.value)


@pytest.mark.parametrize('call, said', table(PARAMETERS), ids=lambda text: text)
def test_wrong_parameters_are_refused(call, said): refused(call, said)


@pytest.mark.parametrize('method', ['fit', 'partial_fit', 'transform', 'score', 'fit_transform'])
@pytest.mark.parametrize('call, said', table(ROWS), ids=lambda text: text)
def test_wrong_rows_are_refused(call, said, method, TMP):
    coder = small() if 'fit' in method else CODER
    refused(call, said, METHOD=getattr(coder, method), TMP=TMP)


@pytest.mark.parametrize('call, said', table(OTHERS), ids=lambda text: text)
def test_what_does_not_belong_is_refused(call, said, TMP): refused(call, said, TMP=TMP)


def test_a_refused_fit_changes_nothing():
    coder = small().fit(X)
    before = coder.transform(X)
    for wrong in (broken(NAN), X[0], 'X'):
        with pytest.raises(ValueError): coder.fit(wrong)
        with pytest.raises(ValueError): coder.partial_fit(wrong)
    np.testing.assert_array_equal(coder.transform(X), before)


SHELL = r'''
fit                                              -> 2 needs|required
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
fit TMP/X.npz --out TMP/new                      -> 1 X is .*X.npz, an archive
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
    np.save(TMP/'X.npy', X)
    np.save(TMP/'nan.npy', broken(NAN))
    np.savez(TMP/'X.npz', X=X)
    for kind, name in (('L', 'ok'), ('I;16', 'deep')):
        Image.new(kind, (9, 9)).save(TMP/f'{name}.png')
    codes, _, message = said.partition(' ')
    try: returned = main([w.replace('TMP', str(TMP)) for w in words.split()])
    except SystemExit as end: returned = end.code
    out, err = capsys.readouterr()
    assert str(returned) in codes and re.search(message, ' '.join(err.split())), err
    assert out == '' and 'Traceback' not in err and not (TMP/'new').exists()
