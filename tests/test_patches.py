"Pictures and patches: cutting and joining, contrast and its inverse, folders of odd files."
import os
from pathlib import Path
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from PIL import Image
from deep_sparse_nb.data import generator, load
from deep_sparse_nb.patches import (blur, contrast_floor, contrast_maps, cut, has_contrast, join, local_contrast, normalise_contrast,
                                    normalise_grey, photographs, random_crops, read_picture, split_files)

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
    images, scale, shift = normalise_contrast(crops, floor)
    assert images.isfinite().all() and images.shape == (3, 784)
    assert torch.allclose(scale*images + shift, crops[:, 12:40, 12:40].flatten(1)/255, atol=1e-5)

def test_patch_depends_on_its_own_crop_alone():
    crops = textured(20)
    together = normalise_contrast(crops, .25)[0]
    assert torch.allclose(torch.cat([normalise_contrast(c[None], .25)[0] for c in crops]), together, atol=1e-5)

def test_brightness_and_contrast_are_gone():
    x = textured(4).float()
    plain = normalise_contrast(x, 0.)[0]
    assert torch.allclose(normalise_contrast(x + 40, 0.)[0], plain, atol=1e-3)
    assert torch.allclose(normalise_contrast(x/2, 0.)[0], plain, atol=1e-3)

def test_floor_bounds_the_divisor():
    flat, busy = torch.full((1, 52, 52), 90.), textured(1)
    _, _, s = local_contrast(normalise_grey(busy))
    assert torch.allclose(normalise_contrast(flat, .25)[1], torch.tensor(.259*.25))
    assert torch.allclose(normalise_contrast(flat, 0.)[1], torch.tensor(.259*1e-4))
    assert s.min() > .25 and torch.allclose(normalise_contrast(busy, .25)[1], .259*s.flatten(1))

def test_cropping_and_normalising_commute():
    picture = torch.randint(256, (90, 100), generator=generator(0))
    c, m, s = local_contrast(normalise_grey(picture[None]))
    parts = local_contrast(normalise_grey(picture[None, 13:65, 31:83]))
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
        assert split.images.dtype == torch.float32 and split.labels is None and has_contrast(split.images).all()
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
    assert len(dataset.train) == 200 and dataset.name == 'patches' and has_contrast(dataset.train.images).all()

@given(n=st.integers(3, 40), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_no_picture_feeds_two_splits(tmp_path_factory, n, seed):
    folder = tmp_path_factory.mktemp('pictures')
    for i in range(n): (folder/f'{i}.png').touch()
    train, valid, test = split_files(folder, (10, 1, 1), generator(seed))
    assert min(map(len, (train, valid, test))) >= 1 and len({*train, *valid, *test}) == len(train) + len(valid) + len(test) == n

def test_floor_is_the_mean_local_deviation():
    paths = photographs('train')
    crops = torch.cat([random_crops(read_picture(p), 300, generator(5)) for p in paths])
    expected = local_contrast(normalise_grey(crops))[2].mean()
    assert abs(contrast_floor(paths, generator(0))/expected - 1) < .05

def test_real_pictures():
    if not FOLDER or not Path(FOLDER, 'imagenet-sample').is_dir():
        pytest.skip('set DEEP_SPARSE_DATA to a folder with imagenet-sample, a folder of ImageNet pictures')
    dataset = load('patches', images=Path(FOLDER, 'imagenet-sample'), sizes=(5000, 500, 500))
    assert has_contrast(dataset.train.images).all() and dataset.train.images.mean().abs() < .02
    pixels = dataset.test.to_pixels(dataset.test.images)
    assert -1e-5 < pixels.min() and pixels.max() < 1 + 1e-5

def test_photographs_are_disjoint_and_installed():
    paths = [p for s in ('train', 'valid', 'test') for p in photographs(s)]
    assert len(set(paths)) == 8 and all(min(read_picture(p).shape) == 256 for p in paths)


# Errors

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
