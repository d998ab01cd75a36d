"""Learn the packaged models of photographs, and measure what cleans and fills photographs.

`python tools/results/cleaning.py learn FOLDER` learns deep_sparse_nb/models/photographs and
photographs-colour from the pictures under a folder. `python tools/results/cleaning.py [SECONDS]`
adds rows to results/cleaning.csv. Kill it at will, or give it so many seconds, and call it again:
what has a row is not measured twice. BM3D is measured where the package bm3d is installed.
"""
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage
import sklearn
import torch
from PIL import Image
from scipy.fft import dctn, idctn
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic
from sklearn.decomposition import MiniBatchDictionaryLearning

from deep_sparse_nb.cleaning import _COLOURS, _cosines, _learn_atoms
from deep_sparse_nb.data.patches import open_picture, read_picture, split_files
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.inference import lipschitz
from deep_sparse_nb.kernels.pursuit import centred, overlapped, pursue
from deep_sparse_nb.metrics import dead, explained_variance, sparsity
from deep_sparse_nb.paper.results import append, provenance, read_table
from deep_sparse_nb.paper.weights import _compact
from deep_sparse_nb.pictures import denoise, inpaint
from deep_sparse_nb.pretrained import _read_folder, _write_folder

try: from bm3d import bm3d
except ImportError: bm3d = None

ROOT = Path(__file__).resolve().parents[2]
TABLE, MODELS = ROOT/'results'/'cleaning.csv', ROOT/'deep_sparse_nb'/'models'
FOLDERS = [Path(skimage.__file__).parent/'data', Path(sklearn.__file__).parent/'datasets'/'images']
# Never learned from or tuned on; constants and rivals were tuned on the three others.
TEST = ('astronaut.png', 'camera.png', 'chelsea.png', 'coffee.png', 'coins.png',
        'motorcycle_left.png')
VALID = 'china.jpg', 'flower.jpg', 'rocket.jpg'
SIGMAS = 25, 10, 50                             # of 255
TUNED = {'TV': (.5, .65, .8, 1., 1.2, 1.5), 'NLM': (.4, .5, .6, .7, .8, 1.), 'DCT': (2.4, 2.7, 3.),
         'scikit-learn': (1., 2., 4.)}           # its alpha, where the noise is 1; at 25 only
OURS = {'learned from it': None, 'photographs': 'photographs'}
KEY = ['split', 'picture', 'task', 'level', 'side', 'draw', 'method', 'setting']
SIZE, ATOMS, EACH = 8, 512, 160


# ---- models ----

def training_patches(folder):
    "Of nearly all pictures, resized as `read_picture` does: patches (N, 8, 8, 3), by picture."
    rng, found = np.random.default_rng(0), []
    paths = split_files(folder, (1., .01, .01), torch.Generator().manual_seed(0))[0]
    for path in paths:
        picture = open_picture(path, modes=('RGB',))
        size = [round(side*256/min(picture.size)) for side in picture.size]
        A = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)
        down, right = (rng.integers(side - SIZE + 1, size=EACH) for side in A.shape[:2])
        found += [A[i:i + SIZE, j:j + SIZE] for i, j in zip(down, right)]
    return np.stack(found)


def model(name, patches, start, about):
    "Atoms for patches (n, c, 8, 8) that leave an error of 8 grey levels, in a `SparseCoder`."
    rows = (patches - patches.mean((2, 3), keepdims=True)).reshape(len(patches), -1)
    train, held = rows[:-4000], rows[-4000:]
    D = _learn_atoms(train, start/np.linalg.norm(start, axis=0), 8.**2*rows.shape[1], passes=4)
    c = patches.shape[1]
    def last(A): return A.reshape(-1, c, SIZE, SIZE).transpose(0, 2, 3, 1).squeeze()
    coder = SparseCoder(ATOMS, alpha=.03, encoder=None, regularization='unit_norm', positive=False,
                        max_epochs=1, batch_size=1000, random_state=0, device='cpu')
    coder.fit(last(train[:20_000]))
    W = torch.from_numpy(last(np.ascontiguousarray(D.T)).reshape(ATOMS, -1).T.copy())
    decoder = coder.model_.decoder
    decoder.W.data = W[None].float()
    coder.step_ = 1/lipschitz(decoder, Energy(0.), 2, torch.ones(1, 250, ATOMS)).max().item()
    Z = coder.transform(last(held))
    back = coder.inverse_transform(Z).reshape(len(Z), -1)
    true = torch.from_numpy(last(held).reshape(len(Z), -1))
    coder.history_, Z = [], torch.from_numpy(Z)
    coder.metrics_ = dict(
        rows=len(held), held_out=True, sparsity=sparsity(Z).item(), dead=dead(Z).item(),
        explained_variance=explained_variance(true, torch.from_numpy(back)).item())
    with tempfile.TemporaryDirectory() as folder:
        coder.save_pretrained(folder)
        config, tensors = _read_folder(folder)
    scaling = {k: v for k, v in tensors.items() if k.startswith('scaling.')}
    shutil.rmtree(MODELS/name, ignore_errors=True)
    _write_folder(MODELS/name, config | dict(about=about, provenance=provenance()),
                 _compact(coder.model_, False) | scaling)
    print(name, coder.metrics_, flush=True)


def learn(folder):
    "Both models."
    patches = training_patches(folder).transpose(0, 3, 1, 2)
    origin = (f'{len(patches):,} patches of 8 x 8 pixels of {len(patches)//EACH} photographs of a '
              'sample of ImageNet, the shorter side resized to 256 pixels, grey levels 0 to 255. '
              'The atoms were learned by orthogonal matching pursuit to an error of 8 grey levels '
              'and in closed form. No picture of scikit-image or scikit-learn was used.')
    grey = np.tensordot(patches, [.299, .587, .114], (1, 0))[:, None].astype(np.float32)
    model('photographs', grey, _cosines(SIZE, ATOMS), 'Grey photographs: ' + origin)
    start = np.kron(_COLOURS.T, _cosines(SIZE, -(-ATOMS//3)))[:, :ATOMS]
    model('photographs-colour', patches, start, 'Colour photographs: ' + origin)


# ---- measurements ----

def picture(name, side):
    "The middle of a photograph, (side, side), grey levels 0 to 255."
    path = next(f/name for f in FOLDERS if (f/name).exists())
    if side <= 256: x = read_picture(path).numpy()
    else: x = np.asarray(open_picture(path, modes=('L',)))
    top, left = ((s - side)//2 for s in x.shape)
    return x[top:top + side, left:left + side].astype(float)


def decibels(x, y): return 10*np.log10(255**2/np.mean((x - y)**2))


def sliding_dct(y, threshold):
    "Each 8 x 8 patch without its DCT coefficients below the threshold; overlaps are averaged."
    rows, levels = centred(y[None], SIZE)
    waves = dctn(rows.reshape(-1, SIZE, SIZE), axes=(1, 2), norm='ortho')
    waves[np.abs(waves) <= threshold] = 0
    made = idctn(waves, axes=(1, 2), norm='ortho').reshape(len(rows), -1) + levels
    return overlapped(made, np.ones(len(rows)), (1, *y.shape), SIZE)[0]


def scikit_learn(y, sigma, alpha):
    "A dictionary that scikit-learn learns from the picture, and the pursuit of our first pass."
    rows, levels = centred(y[None]/sigma, SIZE)
    some = rows[np.random.default_rng(0).permutation(len(rows))[:20_000]]
    D = MiniBatchDictionaryLearning(256, alpha=alpha, max_iter=2, batch_size=256,
                                    random_state=0).fit(some).components_.T
    length = np.linalg.norm(D, axis=0)
    D = D[:, length > 1e-6]/length[length > 1e-6]
    code = pursue(rows, D, 1.05**2*SIZE**2, SIZE**2//2)
    made = code.dense(D.shape[1]) @ D.T + levels
    return sigma*overlapped(made.astype(np.float32), 1/(1. + code.used), (1, *y.shape), SIZE)[0]


def cleaned(method, y, sigma, setting):
    if method == 'noisy': return y
    if method in OURS:
        name = OURS[method]
        return denoise(name and SparseCoder.from_pretrained(name, device='cpu'), y, sigma)
    if method == 'BM3D': return bm3d(y, sigma)
    if method == 'DCT': return sliding_dct(y, setting*sigma)
    if method == 'scikit-learn': return scikit_learn(y, sigma, setting)
    s = sigma/255
    if method == 'TV': return 255*denoise_tv_chambolle(y/255, weight=setting*s)
    return 255*denoise_nl_means(y/255, patch_size=5, patch_distance=6, h=setting*s, sigma=s)


def filled(method, x, known):
    if method == 'biharmonic': return 255*inpaint_biharmonic(np.where(known, x, 0)/255, ~known)
    coder = SparseCoder.from_pretrained('photographs', device='cpu')
    return inpaint(coder, np.where(known, x, np.nan), known)


def measure(split, name, task, level, side, draw, method, setting=1.):
    "A row of the table, unless it has one."
    place = dict(split=split, picture=Path(name).stem, task=task, level=float(level), side=side,
                 draw=draw, method=method, setting=float(setting))
    there = read_table(TABLE)[KEY].values.tolist() if TABLE.is_file() else []
    if [*place.values()] in there: return
    if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
    x, rng = picture(name, side), np.random.default_rng(draw)
    begun = time.process_time()
    noise, torn = rng.standard_normal(x.shape), task == 'fill'
    if not torn: made = cleaned(method, x + level*noise, level, setting)
    else: made = filled(method, x, rng.random(x.shape) >= level)
    row = place | dict(psnr=decibels(x, made), seconds=time.process_time() - begun)
    append(TABLE, [row | provenance()], KEY, digits=5)
    print(' '.join(map(str, place.values())), f"{row['psnr']:.2f} dB, {row['seconds']:.1f} s",
          flush=True)


def best(sigma, method):
    "The setting with the highest mean on the validation photographs."
    rows = read_table(TABLE).query("split == 'valid' and level == @sigma and method == @method")
    return rows.groupby('setting').psnr.mean().idxmax()


def everything():
    "The strongest evidence first: holes, then three draws at 25, then the others."
    warm = np.random.default_rng(0).random((24, 24))
    denoise(None, warm, .1)                     # machine code is not what is timed
    inpaint(SparseCoder.from_pretrained('photographs', device='cpu'), warm, warm < .5)
    last = 'scikit-learn'
    methods = ['noisy', *OURS, *['BM3D']*(bm3d is not None), *TUNED]

    def tune(method, sigma):
        for name in VALID:
            for setting in TUNED[method]:
                measure('valid', name, 'clean', sigma, 128, 0, method, setting)

    def clean(names, sigma, side, draw, methods=methods):
        for method in methods:
            if method in TUNED and (method != last or sigma == 25): tune(method, sigma)
        for name in names:
            for method in methods:
                if method == last and sigma != 25: continue
                setting = best(sigma, method) if method in TUNED else 1.
                measure('test', name, 'clean', sigma, side, draw, method, setting)

    def fill(draw):
        for name in TEST:
            for method in ('photographs', 'biharmonic'):
                measure('test', name, 'fill', .5, 128, draw, method)

    fill(0)
    for draw in range(3): clean(TEST, 25, 256, draw, [m for m in methods if m != last])
    for draw in range(3): clean(TEST, 25, 256, draw, [last])
    for draw in (1, 2): fill(draw)
    clean(('astronaut.png', 'camera.png'), 25, 512, 0)
    for draw in range(3):
        for sigma in SIGMAS[1:]: clean(TEST, sigma, 256, draw)


if __name__ == '__main__':
    torch.set_num_threads(1)
    words = sys.argv[1:]
    if words[:1] == ['learn']: learn(words[1])
    else:
        SECONDS = time.monotonic() + float(words[0]) if words else None
        everything()
