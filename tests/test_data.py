"Sources of images: splits, normalization and its inverse, errors that tell the way out."
import gzip
import os
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from deep_sparse_nb.data.arrays import Scaling
from deep_sparse_nb.data.datasets import Split, add_noise, load, own_data, _split_rows

FOLDER = os.environ.get('DEEP_SPARSE_DATA')
seeds = st.integers(0, 2**31)

# Splits

def test_indexing_carries_labels_and_maps():
    split = Split(torch.rand(5, 4), torch.arange(5), torch.rand(5, 4), torch.rand(5, 4))
    for i in (slice(1, 3), torch.tensor([3, 0]), torch.tensor([True, False, True, False, False])):
        part = split[i]
        assert torch.equal(part.labels, split.labels[i])
        assert torch.equal(part.to_pixels(part.images), split.to_pixels(split.images)[i])

def test_to_pixels_takes_a_stack_of_reconstructions():
    split = Split(torch.rand(5, 4), scale=torch.rand(5, 4), shift=torch.rand(5, 4))
    Y = torch.rand(2, 3, 5, 4)
    assert torch.equal(split.to_pixels(Y)[1, 2], split.to_pixels(Y[1, 2]))

@given(sizes=st.tuples(*[st.integers(1, 30)]*3), spare=st.integers(0, 20), seed=seeds)
def test_split_rows_is_disjoint_and_nested(sizes, spare, seed):
    n = sum(sizes) + spare
    rows = _split_rows(n, sizes, 'toy', seed)
    assert tuple(map(len, rows)) == sizes and len(torch.cat(rows).unique()) == sum(sizes)
    fewer = _split_rows(n, (1, *sizes[1:]), 'toy', seed)
    assert fewer[0][0] == rows[0][0] and torch.equal(fewer[1], rows[1])
    assert torch.equal(fewer[2], rows[2])

@pytest.mark.parametrize('make',
                         [lambda X: X, lambda X: X.numpy(), lambda X: X.double().numpy(),
                          lambda X: pd.DataFrame(X.numpy())])
def test_splits_of_arrays(make):
    X = torch.rand(5, 4)
    split = Split(make(X), np.arange(5), scale=make(X)[0] if torch.is_tensor(make(X))
                  else np.full(4, 2.), shift=0)
    assert torch.equal(split.images, X) and split.images.dtype == torch.float32
    assert split.labels.dtype == torch.int64
    assert split.scale.shape == X.shape and torch.equal(split[2:].scale, split.scale[2:])
    assert split[1:3].shift == 0

def test_own_data_without_validation():
    X = 100 + torch.randn(50, 6, 8)
    data = own_data(X.numpy())
    assert data.valid is None and data.test is None and data.shape == (6, 8)
    assert data.to('cpu').train.images.shape == (50, 48)
    assert torch.allclose(data.train.to_pixels(data.train.images), X.flatten(1), rtol=1e-5)

@pytest.mark.parametrize('kind', Scaling.KINDS)
def test_own_data_are_scaled_by_what_was_learned_from_training(kind):
    X = 100 + torch.randn(60, 6, 8)
    data = own_data([X[:30], X[30:40]], valid=X[40:50], test=X[50:].flatten(1), scaling=kind)
    for split, part in ((data.train, X[:40]), (data.valid, X[40:50]), (data.test, X[50:])):
        assert torch.allclose(split.to_pixels(split.images), part.flatten(1), rtol=1e-5)
    again = own_data(X[:40], scaling=Scaling(kind, (6, 8)).fit(X[:40]))
    assert torch.allclose(again.train.images, data.train.images, atol=1e-4)

# Digits

def test_digits_keep_their_labels():
    from sklearn.datasets import load_digits
    bunch = load_digits()
    original = F.interpolate(torch.from_numpy(bunch.images)[:, None].float()/16, size=(28, 28),
                             mode='bilinear').flatten(1)
    dataset, seen = load('digits', seed=3), []
    for split in (dataset.train, dataset.valid, dataset.test):
        distance, row = torch.cdist(split.to_pixels(split.images), original,
                                    compute_mode='donot_use_mm_for_euclid_dist').min(1)
        assert distance.max() < 1e-4
        assert torch.equal(split.labels, torch.from_numpy(bunch.target)[row])
        seen.append(row)
    assert len(torch.cat(seen).unique()) == 1797

def test_digits_are_normalized_float32():
    train = load('digits').train
    assert train.images.dtype == torch.float32 and train.images.shape == (1297, 784)
    assert train.images.mean().abs() < 1e-5 and (train.images.std() - 1).abs() < 1e-5

# MNIST

def write_mnist(folder: Path, n_train=30, n_test=10):
    "A tiny data set in MNIST's file format."
    raw = folder/'MNIST'/'raw'; raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, n in (('train', n_train), ('t10k', n_test)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 10
        for kind, values in (('images-idx3', pixels), ('labels-idx1', labels)):
            head = bytes([0, 0, 8, values.ndim]) + b''.join(s.to_bytes(4, 'big')
                                                            for s in values.shape)
            (raw/f'{name}-{kind}-ubyte').write_bytes(head + values.tobytes())
    return folder

@pytest.fixture
def offline(monkeypatch):
    def fail(self): raise RuntimeError('no network')
    monkeypatch.setattr('torchvision.datasets.MNIST.download', fail)

def test_mnist_folder_is_argument_then_variable_then_data(tmp_path, monkeypatch, offline):
    sizes = (20, 10, 10)
    write_mnist(tmp_path/'there'); (tmp_path/'empty').mkdir()
    monkeypatch.setenv('DEEP_SPARSE_DATA', str(tmp_path/'empty'))
    from_argument = load('mnist', data_dir=tmp_path/'there', sizes=sizes)
    monkeypatch.setenv('DEEP_SPARSE_DATA', str(tmp_path/'there'))
    assert torch.equal(load('mnist', sizes=sizes).train.images, from_argument.train.images)
    monkeypatch.delenv('DEEP_SPARSE_DATA')
    write_mnist(tmp_path/'data'); monkeypatch.chdir(tmp_path)
    assert torch.equal(load('mnist', sizes=sizes).train.images, from_argument.train.images)

def test_mnist_normalization_and_test_order(tmp_path):
    test = load('mnist', data_dir=write_mnist(tmp_path), sizes=(20, 10, 10)).test
    stored = np.frombuffer((tmp_path/'MNIST/raw/t10k-images-idx3-ubyte').read_bytes()[16:],
                           np.uint8).reshape(10, 784)/255
    assert torch.allclose(test.images, torch.from_numpy((stored - .1307)/.3081).float(), atol=1e-5)
    assert torch.allclose(test.to_pixels(test.images), torch.from_numpy(stored).float(), atol=1e-6)
    assert test.labels.tolist() == list(range(10))

def test_absent_mnist_names_the_ways_out(tmp_path, offline):
    with pytest.raises(FileNotFoundError,
                       match='data_dir.*DEEP_SPARSE_DATA.*network.*digits') as error:
        load('mnist', data_dir=tmp_path)
    assert str(tmp_path.resolve()) in str(error.value)

def test_mnist_sizes(tmp_path):
    write_mnist(tmp_path)
    for sizes in ((25, 10, 10), (20, 10, 11)):
        with pytest.raises(ValueError, match='sizes'):
            load('mnist', data_dir=tmp_path, sizes=sizes)

BROKEN = {'cut short': ('train-images-idx3-ubyte', lambda b: b[:5000]),
          'labels cut short': ('train-labels-idx1-ubyte', lambda b: b[:20]),
          'empty': ('train-images-idx3-ubyte', lambda b: b''),
          'half a head': ('t10k-images-idx3-ubyte', lambda b: b[:10]),
          'a web page': ('train-images-idx3-ubyte', lambda b: b'<!DOCTYPE html>'*100),
          'compressed': ('t10k-labels-idx1-ubyte', gzip.compress),
          'other images': ('train-images-idx3-ubyte',
                           lambda b: b[:11] + bytes([14, 0, 0, 0, 56]) + b[16:]),
          'other labels': ('train-labels-idx1-ubyte', lambda b: b[:7] + bytes([10]) + b[8:18])}

@pytest.mark.parametrize('name, change', BROKEN.values(), ids=BROKEN)
def test_broken_mnist_is_named_with_the_way_to_mend_it(tmp_path, name, change):
    path = write_mnist(tmp_path)/'MNIST'/'raw'/name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match="is not as MNIST's .*Delete") as error:
        load('mnist', data_dir=tmp_path, sizes=(20, 10, 10))
    assert str(path.parent) in str(error.value) and name in str(error.value)

def test_half_of_mnist_counts_as_none(tmp_path, offline):
    (write_mnist(tmp_path)/'MNIST'/'raw'/'t10k-labels-idx1-ubyte').unlink()
    with pytest.raises(FileNotFoundError, match='could not be downloaded'):
        load('mnist', data_dir=tmp_path, sizes=(20, 10, 10))

def test_real_mnist():
    if not FOLDER or not Path(FOLDER, 'MNIST', 'raw').is_dir():
        pytest.skip('set DEEP_SPARSE_DATA to a folder with MNIST/raw')
    dataset = load('mnist')
    assert [len(s) for s in (dataset.train, dataset.valid, dataset.test)] == [55_000, 5_000,
                                                                              10_000]
    whole = torch.cat([dataset.train.images, dataset.valid.images])
    assert whole.mean().abs() < 1e-3 and (whole.std() - 1).abs() < 1e-3
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    error = dataset.test.to_pixels(add_noise(dataset.test.images,
                                             1.)) - dataset.test.to_pixels(dataset.test.images)
    assert round(-10*error.square().mean(1).log10().mean().item(), 1) == 10.2       # Table 1

# Errors

# Noise

@given(sigma=st.floats(0, 3), seed=seeds)
@settings(deadline=None, max_examples=20)
def test_noise_is_reproducible_and_scales(sigma, seed):
    Y = torch.ones(3, 5, dtype=torch.float64)
    unit = add_noise(Y, 1., seed) - Y
    assert torch.equal(add_noise(Y, sigma, seed), add_noise(Y, sigma, seed))
    assert torch.allclose(add_noise(Y, sigma, seed) - Y, sigma*unit) and unit.dtype == Y.dtype

def test_noise_has_the_asked_deviation_and_varies_with_the_seed():
    Y = torch.zeros(200, 500)
    a, b = add_noise(Y, 1.5, 0), add_noise(Y, 1.5, 1)
    assert abs(a.std() - 1.5) < .02 and abs(a.mean()) < .02 and abs((a*b).mean()) < .05
    with pytest.raises(ValueError, match='sigma is -1'): add_noise(Y, -1)

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_same_data_on_the_gpu():
    cpu, gpu = load('digits'), load('digits', device='cuda')
    assert gpu.train.images.is_cuda and torch.equal(gpu.train.images.cpu(), cpu.train.images)
    assert torch.equal(add_noise(gpu.test.images, 1.).cpu(), add_noise(cpu.test.images, 1.))
