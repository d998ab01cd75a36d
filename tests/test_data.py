"Sources of images: splits, normalisation and its inverse, errors that tell the way out."
import os
from pathlib import Path
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from PIL import Image
from deep_sparse_nb import data
from deep_sparse_nb.data import (Split, add_noise, blur, contrast_floor, deal, generator, grey, lively, load, local_contrast,
                                 normalise_contrast, photographs, random_crops, read_picture, share)

FOLDER = os.environ.get('DEEP_SPARSE_DATA')
seeds = st.integers(0, 2**31)

def textured(n, seed=0): # crops of random grey levels, as uint8
    return torch.randint(256, (n, 52, 52), generator=generator(seed), dtype=torch.uint8)

@pytest.fixture
def pictures(tmp_path):
    "A flat folder of six small photographs."
    paths = photographs('train')[:2] + photographs('valid') + photographs('test')
    for i, path in enumerate(paths): Image.open(path).convert('L').resize((80, 64)).save(tmp_path/f'{i}.png')
    return tmp_path


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

def test_to_pixels_refuses():
    with pytest.raises(ValueError, match='no maps'): Split(torch.rand(5, 4)).to_pixels(torch.rand(5, 4))
    with pytest.raises(ValueError, match='needs.*5, 4'): Split(torch.rand(5, 4), scale=1., shift=0.).to_pixels(torch.rand(3, 4))

@given(sizes=st.tuples(*[st.integers(1, 30)]*3), spare=st.integers(0, 20), seed=seeds)
def test_share_is_disjoint_and_nested(sizes, spare, seed):
    n = sum(sizes) + spare
    rows = share(n, sizes, 'toy', seed)
    assert tuple(map(len, rows)) == sizes and len(torch.cat(rows).unique()) == sum(sizes)
    fewer = share(n, (1, *sizes[1:]), 'toy', seed)
    assert fewer[0][0] == rows[0][0] and torch.equal(fewer[1], rows[1]) and torch.equal(fewer[2], rows[2])

def test_share_refuses_more_than_there_are():
    with pytest.raises(ValueError, match='toy has 10'): share(10, (9, 1, 1), 'toy', 0)


# Digits

def test_digits_keep_their_labels():
    from sklearn.datasets import load_digits
    bunch = load_digits()
    original = F.interpolate(torch.from_numpy(bunch.images)[:, None].float()/16, size=(28, 28), mode='bilinear').flatten(1)
    dataset, seen = load('digits', seed=3), []
    for split in (dataset.train, dataset.valid, dataset.test):
        distance, row = torch.cdist(split.to_pixels(split.images), original, compute_mode='donot_use_mm_for_euclid_dist').min(1)
        assert distance.max() < 1e-4 and torch.equal(split.labels, torch.from_numpy(bunch.target)[row])
        seen.append(row)
    assert len(torch.cat(seen).unique()) == 1797

def test_digits_are_normalised_float32():
    train = load('digits').train
    assert train.images.dtype == torch.float32 and train.images.shape == (1297, 784)
    assert train.images.mean().abs() < 1e-5 and (train.images.std() - 1).abs() < 1e-5

def test_seed_decides():
    a, b, c = load('digits', seed=1), load('digits', seed=1), load('digits', seed=2)
    assert torch.equal(a.valid.images, b.valid.images) and not torch.equal(a.valid.images, c.valid.images)


# MNIST

def write_mnist(folder: Path, n_train=30, n_test=10):
    "A tiny data set in MNIST's file format."
    raw = folder/'MNIST'/'raw'; raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, n in (('train', n_train), ('t10k', n_test)):
        pixels, labels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10
        for kind, values in (('images-idx3', pixels), ('labels-idx1', labels)):
            head = bytes([0, 0, 8, values.ndim]) + b''.join(s.to_bytes(4, 'big') for s in values.shape)
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

def test_mnist_normalisation_and_test_order(tmp_path):
    test = load('mnist', data_dir=write_mnist(tmp_path), sizes=(20, 10, 10)).test
    stored = np.frombuffer((tmp_path/'MNIST/raw/t10k-images-idx3-ubyte').read_bytes()[16:], np.uint8).reshape(10, 784)/255
    assert torch.allclose(test.images, torch.from_numpy((stored - .1307)/.3081).float(), atol=1e-5)
    assert torch.allclose(test.to_pixels(test.images), torch.from_numpy(stored).float(), atol=1e-6)
    assert test.labels.tolist() == list(range(10))

def test_absent_mnist_names_the_ways_out(tmp_path, offline):
    with pytest.raises(FileNotFoundError, match='data_dir.*DEEP_SPARSE_DATA.*network.*digits') as error: load('mnist', data_dir=tmp_path)
    assert str(tmp_path.resolve()) in str(error.value)

def test_mnist_sizes(tmp_path):
    write_mnist(tmp_path)
    for sizes in ((25, 10, 10), (20, 10, 11)):
        with pytest.raises(ValueError, match='sizes'): load('mnist', data_dir=tmp_path, sizes=sizes)

def test_real_mnist():
    if not FOLDER or not Path(FOLDER, 'MNIST', 'raw').is_dir(): pytest.skip('set DEEP_SPARSE_DATA to a folder with MNIST/raw')
    dataset = load('mnist')
    assert [len(s) for s in (dataset.train, dataset.valid, dataset.test)] == [55_000, 5_000, 10_000]
    whole = torch.cat([dataset.train.images, dataset.valid.images])
    assert whole.mean().abs() < 1e-3 and (whole.std() - 1).abs() < 1e-3
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    error = dataset.test.to_pixels(add_noise(dataset.test.images, 1.)) - dataset.test.to_pixels(dataset.test.images)
    assert round(-10*error.square().mean(1).log10().mean().item(), 1) == 10.2       # Table 1


# Local contrast normalisation

@settings(deadline=None, max_examples=30)
@given(h=st.integers(1, 20), w=st.integers(1, 20), half=st.integers(0, 4), sigma=st.floats(.5, 8), seed=seeds)
def test_blur_is_convolution(h, w, half, sigma, seed):
    width = 2*half + 1
    x = torch.rand(2, h + width - 1, w + width - 1, generator=generator(seed))
    g = torch.exp(-(torch.arange(width) - half)**2 / (2*sigma**2)); g /= g.sum()
    assert torch.allclose(blur(x, width, sigma), F.conv2d(x[:, None], torch.outer(g, g)[None, None])[:, 0], atol=1e-5)

@settings(deadline=None, max_examples=30)
@given(low=st.integers(0, 255), span=st.integers(0, 255), floor=st.floats(0, 2), seed=seeds)
def test_contrast_normalisation_is_undone_exactly(low, span, floor, seed):
    crops = (low + torch.randint(span + 1, (3, 52, 52), generator=generator(seed))).clamp(max=255)
    patches = normalise_contrast(crops, floor)
    assert patches.images.isfinite().all() and patches.images.shape == (3, 784)
    assert torch.allclose(patches.to_pixels(patches.images), crops[:, 12:40, 12:40].flatten(1)/255, atol=1e-5)

def test_patch_depends_on_its_own_crop_alone():
    crops = textured(20)
    together = normalise_contrast(crops, .25).images
    assert torch.allclose(torch.cat([normalise_contrast(c[None], .25).images for c in crops]), together, atol=1e-5)

def test_brightness_and_contrast_are_gone():
    x = textured(4).float()
    plain = normalise_contrast(x, 0.).images
    assert torch.allclose(normalise_contrast(x + 40, 0.).images, plain, atol=1e-3)
    assert torch.allclose(normalise_contrast(x/2, 0.).images, plain, atol=1e-3)

def test_floor_bounds_the_divisor():
    flat, busy = torch.full((1, 52, 52), 90.), textured(1)
    _, _, s = local_contrast(grey(busy))
    assert torch.allclose(normalise_contrast(flat, .25).scale, torch.tensor(.259*.25))
    assert torch.allclose(normalise_contrast(flat, 0.).scale, torch.tensor(.259*1e-4))
    assert s.min() > .25 and torch.allclose(normalise_contrast(busy, .25).scale, .259*s.flatten(1))

def test_cropping_and_normalising_commute():
    picture = torch.randint(256, (90, 100), generator=generator(0))
    c, m, s = local_contrast(grey(picture[None]))
    parts = local_contrast(grey(picture[None, 13:65, 31:83]))
    for whole, part in zip((c, m, s), parts): assert torch.allclose(whole[0, 13:41, 31:59], part[0], atol=1e-5)

def test_random_crops_reach_every_corner():
    picture = torch.arange(53*54).reshape(53, 54)
    corners = random_crops(picture, 500, generator(0))[:, 0, 0].unique()
    assert torch.equal(corners, torch.tensor([0, 1, 2, 54, 55, 56]))


# Patches

def test_natural_patches():
    dataset = load('natural', sizes=(300, 120, 110))
    assert [len(s) for s in (dataset.train, dataset.valid, dataset.test)] == [300, 120, 110]
    assert dataset.train.scale is None and dataset.train.shift is None and dataset.test.scale.shape == (110, 784)
    for split in (dataset.train, dataset.valid, dataset.test):
        assert split.images.dtype == torch.float32 and split.labels is None and lively(split.images).all()
    pixels = dataset.test.to_pixels(dataset.test.images)
    assert torch.allclose(pixels*255, (pixels*255).round(), atol=1e-2)              # grey levels of 8-bit pictures
    again, other = load('natural', sizes=(300, 120, 110)), load('natural', sizes=(300, 120, 110), seed=1)
    assert torch.equal(again.train.images, dataset.train.images) and not torch.equal(other.train.images, dataset.train.images)

def test_every_picture_contributes():
    "A small split still draws on all its pictures: match test patches to the picture they were cut from."
    test, found = load('natural', sizes=(10, 10, 40)).test, []
    pixels = (test.to_pixels(test.images)*255).round()
    for path in photographs('test'):
        windows = read_picture(path).unfold(0, 28, 1).unfold(1, 28, 1)
        starts = windows[:, :, 0, 0], windows[:, :, 27, 27], windows[:, :, 13, 5]
        hits = [((starts[0] == p[0]) & (starts[1] == p[783]) & (starts[2] == p[13*28 + 5])).nonzero() for p in pixels]
        found.append([any(torch.equal(windows[i, j].flatten().float(), p) for i, j in hit) for p, hit in zip(pixels, hits)])
    found = torch.tensor(found)
    assert found.any(0).all() and (found.sum(1) > 5).all()

@pytest.mark.parametrize('layout', ['flat', 'classes'])
def test_folder_of_pictures(pictures, layout):
    if layout == 'classes':
        for i, path in enumerate(sorted(pictures.glob('*.png'))):
            (pictures/f'class{i % 2}').mkdir(exist_ok=True); path.rename(pictures/f'class{i % 2}'/path.name)
    dataset = load('patches', images=pictures, sizes=(200, 20, 20))
    assert len(dataset.train) == 200 and dataset.name == 'patches' and lively(dataset.train.images).all()

@given(n=st.integers(3, 40), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_no_picture_feeds_two_splits(tmp_path_factory, n, seed):
    folder = tmp_path_factory.mktemp('pictures')
    for i in range(n): (folder/f'{i}.png').touch()
    train, valid, test = deal(folder, (10, 1, 1), seed)
    assert min(map(len, (train, valid, test))) >= 1 and len({*train, *valid, *test}) == len(train) + len(valid) + len(test) == n

def test_floor_is_the_mean_local_deviation():
    paths = photographs('train')
    crops = torch.cat([random_crops(read_picture(p), 300, generator(5)) for p in paths])
    expected = local_contrast(grey(crops))[2].mean()
    assert abs(contrast_floor(paths, generator(0))/expected - 1) < .05

def test_real_pictures():
    if not FOLDER or not Path(FOLDER, 'imagenet-sample').is_dir():
        pytest.skip('set DEEP_SPARSE_DATA to a folder with imagenet-sample, a folder of ImageNet pictures')
    dataset = load('patches', images=Path(FOLDER, 'imagenet-sample'), sizes=(5000, 500, 500))
    assert lively(dataset.train.images).all() and dataset.train.images.mean().abs() < .02
    pixels = dataset.test.to_pixels(dataset.test.images)
    assert -1e-5 < pixels.min() and pixels.max() < 1 + 1e-5

def test_photographs_are_disjoint_and_installed():
    paths = [p for s in ('train', 'valid', 'test') for p in photographs(s)]
    assert len(set(paths)) == 8 and all(min(read_picture(p).shape) == 256 for p in paths)


# Errors

@pytest.mark.parametrize('arguments, words', [
    (dict(name='minst'), 'minst.*mnist, patches, natural, digits'),
    (dict(name='digits', sizes=(1, 2)), 'sizes'), (dict(name='digits', sizes=(0, 2, 2)), 'sizes'),
    (dict(name='digits', sizes=(1700, 90, 90)), 'digits has 1,797'),
    (dict(name='natural', images='.'), "images is for 'patches'"), (dict(name='patches'), 'images is None')])
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words): load(**arguments)

def test_folder_errors(tmp_path, pictures):
    with pytest.raises(FileNotFoundError, match='images is .*not a folder'): load('patches', images=tmp_path/'nowhere')
    for path in list(pictures.glob('*.png'))[2:]: path.unlink()
    with pytest.raises(FileNotFoundError, match='holds 2 picture'): load('patches', images=pictures)

def test_unreadable_picture_is_named(pictures):
    (pictures/'3.png').write_bytes(b'not a picture')
    with pytest.raises(ValueError, match='images: .*3.png cannot be read'): load('patches', images=pictures, sizes=(200, 20, 20))

def test_deep_picture_is_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((60, 60), 4000, np.uint16)).save(tmp_path/'deep.png')
    with pytest.raises(ValueError, match='more than 8 bits'): read_picture(tmp_path/'deep.png')

def test_blank_pictures_are_refused(tmp_path):
    for i in range(3): Image.new('L', (60, 60), 100).save(tmp_path/f'{i}.png')
    with pytest.raises(ValueError, match='blank'): load('patches', images=tmp_path, sizes=(10, 1, 1))


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
