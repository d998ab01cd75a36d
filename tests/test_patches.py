"Pictures and patches: cutting and joining, contrast and its inverse, folders of odd files."
import os
import struct
import zlib
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from PIL import Image
from deep_sparse_nb.data.datasets import load
from deep_sparse_nb.decoders import generator
from deep_sparse_nb.data.patches import (_blur, _contrast_maps, cut, has_contrast,
                                    join, local_contrast, normalize_contrast, normalize_grey,
                                    photographs, random_crops, read_picture, split_files)

FOLDER = os.environ.get('DEEP_SPARSE_DATA')
seeds = st.integers(0, 2**31)

def textured(n, seed=0): # crops of random grey levels, as uint8
    return torch.randint(256, (n, 52, 52), generator=generator(seed), dtype=torch.uint8)

@pytest.fixture
def pictures(tmp_path):
    "A flat folder of six small photographs."
    paths = photographs('train')[:2] + photographs('valid') + photographs('test')
    for i, path in enumerate(paths):
        Image.open(path).convert('L').resize((80, 64)).save(tmp_path/f'{i}.png')
    return tmp_path

# Cutting and joining

@settings(deadline=None, max_examples=60)
@given(h=st.integers(1, 20), w=st.integers(1, 20),
       size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
       stride=st.tuples(st.integers(1, 7), st.integers(1, 7)),
       channels=st.sampled_from([0, 1, 3]), seed=seeds)
def test_joining_undoes_cutting_exactly(h, w, size, stride, channels, seed):
    size = min(size[0], h), min(size[1], w)
    stride = min(stride[0], size[0]), min(stride[1], size[1])
    picture = torch.randn(*([channels] if channels else []), h, w, generator=generator(seed))
    patches = cut(picture, size, stride)
    assert patches.shape[1] == max(channels, 1)*size[0]*size[1]
    assert torch.equal(join(patches, picture.shape, size, stride), picture)

def test_every_pixel_is_in_a_patch_and_the_dtype_stays():
    picture = torch.arange(11*13, dtype=torch.uint8).reshape(11, 13)
    patches = cut(picture, (4, 5), 3)
    assert patches.dtype == torch.uint8 and len(patches.unique()) == 143
    assert torch.equal(patches[0].reshape(4, 5), picture[:4, :5])
    assert torch.equal(patches[-1].reshape(4, 5), picture[-4:, -5:])

def test_patches_of_many_models_are_joined():
    patches = torch.randn(2, 3, len(cut(torch.zeros(9, 8), 4, 2)), 16, generator=generator(0))
    whole = join(patches, (9, 8), 4, 2)
    assert whole.shape == (2, 3, 9, 8)
    assert torch.allclose(whole[1, 2], join(patches[1, 2], (9, 8), 4, 2))

def test_overlaps_are_averaged():
    patches = torch.tensor([[1., 1, 1], [4., 4, 4]])
    assert torch.equal(join(patches, (1, 5), (1, 3), (1, 2)), torch.tensor([[1., 1, 2.5, 4, 4]]))

@settings(deadline=None, max_examples=20)
@given(h=st.integers(1, 40), w=st.integers(1, 40), seed=seeds)
def test_contrast_of_whole_pictures_is_undone_and_agrees_inside(h, w, seed):
    x = torch.randn(2, h, w, generator=generator(seed), dtype=torch.double)
    s, m = _contrast_maps(x)
    v = s.clamp(min=.1)
    assert s.shape == m.shape == x.shape and torch.allclose(v*((x - m)/v) + m, x)
    constant = _contrast_maps(torch.full((h, w), 3., dtype=torch.double))
    assert constant[0].max() < 1e-12
    assert torch.allclose(constant[1], torch.full((h, w), 3., dtype=torch.double))
    if min(h, w) > 24:
        _, mean, deviation = local_contrast(x)
        assert torch.allclose(s[:, 12:-12, 12:-12], deviation, atol=1e-6)
        assert torch.allclose(m[:, 12:-12, 12:-12], mean, atol=1e-6)

# Local contrast normalization

@settings(deadline=None, max_examples=30)
@given(h=st.integers(1, 20), w=st.integers(1, 20), half=st.integers(0, 4),
       sigma=st.floats(.5, 8), seed=seeds)
def test_blur_is_convolution(h, w, half, sigma, seed):
    width = 2*half + 1
    x = torch.rand(2, h + width - 1, w + width - 1, generator=generator(seed))
    g = torch.exp(-(torch.arange(width) - half)**2 / (2*sigma**2)); g /= g.sum()
    assert torch.allclose(_blur(x, width, sigma),
                          F.conv2d(x[:, None], torch.outer(g, g)[None, None])[:, 0], atol=1e-5)

@settings(deadline=None, max_examples=30)
@given(low=st.integers(0, 255), span=st.integers(0, 255), floor=st.floats(0, 2), seed=seeds)
def test_contrast_normalization_is_undone_exactly(low, span, floor, seed):
    crops = (low + torch.randint(span + 1, (3, 52, 52), generator=generator(seed))).clamp(max=255)
    images, scale, shift = normalize_contrast(crops, floor)
    assert images.isfinite().all() and images.shape == (3, 784)
    assert torch.allclose(scale*images + shift, crops[:, 12:40, 12:40].flatten(1)/255, atol=1e-5)

def test_patch_depends_on_its_own_crop_alone():
    crops = textured(20)
    together = normalize_contrast(crops, .25)[0]
    assert torch.allclose(torch.cat([normalize_contrast(c[None], .25)[0] for c in crops]),
                          together, atol=1e-5)

def test_floor_bounds_the_divisor():
    flat, busy = torch.full((1, 52, 52), 90.), textured(1)
    _, _, s = local_contrast(normalize_grey(busy))
    assert torch.allclose(normalize_contrast(flat, .25)[1], torch.tensor(.259*.25))
    assert torch.allclose(normalize_contrast(flat, 0.)[1], torch.tensor(.259*1e-4))
    assert s.min() > .25 and torch.allclose(normalize_contrast(busy, .25)[1], .259*s.flatten(1))

def test_random_crops_reach_every_corner():
    picture = torch.arange(53*54).reshape(53, 54)
    corners = random_crops(picture, 500, generator(0))[:, 0, 0].unique()
    assert torch.equal(corners, torch.tensor([0, 1, 2, 54, 55, 56]))

# Patches

def test_natural_patches():
    dataset = load('natural', sizes=(300, 120, 110))
    assert [len(s) for s in (dataset.train, dataset.valid, dataset.test)] == [300, 120, 110]
    assert dataset.train.scale is None and dataset.train.shift is None
    assert dataset.test.scale.shape == (110, 784)
    for split in (dataset.train, dataset.valid, dataset.test):
        assert split.images.dtype == torch.float32 and split.labels is None
        assert has_contrast(split.images).all()
    pixels = dataset.test.to_pixels(dataset.test.images)
    # grey levels of 8-bit pictures
    assert torch.allclose(pixels*255, (pixels*255).round(), atol=1e-2)
    again, other = load('natural', sizes=(300, 120, 110)), load('natural',
                                                                sizes=(300, 120, 110), seed=1)
    assert torch.equal(again.train.images, dataset.train.images)
    assert not torch.equal(other.train.images, dataset.train.images)

VALID = [[24, 25, 27, 24, 80, 21, 97, 78, 112], [101, 108, 87, 115, 106, 88, 94, 93, 94],
         [69, 76, 61, 75, 63, 65, 67, 7, 90]]
TEST = [[130, 131, 120, 134, 145, 141, 141, 136, 152],
        [121, 77, 132, 91, 89, 119, 102, 125, 84], [96, 137, 155, 138, 154, 86, 143, 94, 138]]
TRAIN = [[0.383, -0.9436, -1.0054, 0.0117, 0.8249, -0.2628],
         [-1.5788, -1.7146, 0.3854, -1.3883, 0.6251, -1.3445],
         [-0.4435, -0.4986, 0.7021, -0.0179, 1.5566, -1.0101]]
SCALE = [0.060577, 0.060577, 0.060577]

def test_the_papers_patches_stay_what_they_are():
    "Stored results rest on them: grey levels, positions and contrast of a few, as first made."
    data = load('natural', sizes=(300, 120, 110))
    for split, expected in ((data.valid, VALID), (data.test, TEST)):
        levels = (split.to_pixels(split.images)*255).round().int()[::40, ::97]
        assert torch.equal(levels, torch.tensor(expected, dtype=torch.int))
    assert torch.allclose(data.train.images[::100, ::131], torch.tensor(TRAIN), atol=1e-3)
    assert torch.allclose(data.test.scale[::40, 400], torch.tensor(SCALE), atol=1e-5)

@pytest.mark.parametrize('layout', ['flat', 'classes'])
def test_folder_of_pictures(pictures, layout):
    if layout == 'classes':
        for i, path in enumerate(sorted(pictures.glob('*.png'))):
            (pictures/f'class{i % 2}').mkdir(exist_ok=True)
            path.rename(pictures/f'class{i % 2}'/path.name)
    dataset = load('patches', images=pictures, sizes=(200, 20, 20))
    assert len(dataset.train) == 200 and dataset.name == 'patches'
    assert has_contrast(dataset.train.images).all()

@given(n=st.integers(3, 40), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_no_picture_feeds_two_splits(tmp_path_factory, n, seed):
    folder = tmp_path_factory.mktemp('pictures')
    for i in range(n): (folder/f'{i}.png').touch()
    train, valid, test = split_files(folder, (10, 1, 1), generator(seed))
    assert min(map(len, (train, valid, test))) >= 1
    assert len({*train, *valid, *test}) == len(train) + len(valid) + len(test) == n

def test_photographs_are_disjoint_and_installed():
    paths = [p for s in ('train', 'valid', 'test') for p in photographs(s)]
    assert len(set(paths)) == 8 and all(min(read_picture(p).shape) == 256 for p in paths)

# Errors

def test_the_limit_on_pixels_is_ours_named_and_adjustable(tmp_path):
    Image.new('L', (2000, 1000), 90).save(tmp_path/'large.png')
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 100
    try:
        assert read_picture(tmp_path/'large.png').shape == (256, 512)
        assert Image.MAX_IMAGE_PIXELS == 100
    finally: Image.MAX_IMAGE_PIXELS = limit
    with pytest.raises(ValueError,
                       match='large.png has 2000 x 1000 pixels; max_pixels is 1,999,999'):
        read_picture(tmp_path/'large.png', max_pixels=1_999_999)

def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    number = lambda n: struct.pack('>I', n)
    chunk = lambda kind, data: number(len(data)) + kind + data + number(zlib.crc32(kind + data))
    head = struct.pack('>IIBBBBB', 200_000, 200_000, 8, 0, 0, 0, 0)
    (tmp_path/'bomb.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head)
                                      + chunk(b'IDAT', zlib.compress(bytes(1000)))
                                      + chunk(b'IEND', b''))
    with pytest.raises(ValueError, match='bomb.png has 200000 x 200000 pixels'):
        read_picture(tmp_path/'bomb.png')

def test_hidden_files_and_folders_named_like_pictures_are_left_out(pictures):
    (pictures/'._0.png').write_bytes(b'\0\5\26\7'); (pictures/'album.jpg').mkdir()
    assert sum(map(len, split_files(pictures, (1, 1, 1), generator(0)))) == 6

def test_pictures_can_be_split_in_another_proportion(pictures):
    assert [len(s) for s in split_files(pictures, (1, 1, 4), generator(0))] == [1, 1, 4]
    assert len(load('patches', images=pictures, sizes=(50, 10, 10),
                    picture_shares=(2, 1, 3)).test) == 10
    for shares in ((1, 1), (1, 0, 1), (1, 1, float('inf'))):
        with pytest.raises(ValueError, match='picture_shares is'):
            split_files(pictures, shares, generator(0))
    with pytest.raises(ValueError, match='leaves none'):
        split_files(pictures, (1, 50, 50), generator(0))

def test_blank_pictures_are_refused(tmp_path):
    for i in range(3): Image.new('L', (60, 60), 100).save(tmp_path/f'{i}.png')
    with pytest.raises(ValueError, match='blank'):
        load('patches', images=tmp_path, sizes=(10, 1, 1))
