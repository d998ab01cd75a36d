"""Learn patches of photographs; tune on two others, and measure on two more, beside scikit-image.

`python tools/results/photographs.py [SECONDS]` makes the models in results/photographs/ and the
table results/photographs.csv. Kill it at will, or give it so many seconds, and call it again: what
has a row is not measured twice.
"""
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.fft import dctn, idctn
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from deep_sparse_nb.decoders import HiddenDecoder
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.data.patches import photographs, read_picture
from deep_sparse_nb.pictures import denoise
from deep_sparse_nb.pretrained import _read_folder, _write_folder
from deep_sparse_nb.paper.results import append, provenance, read_table
from deep_sparse_nb.paper.weights import _compact

RESULTS = Path(__file__).resolve().parents[2]/'results'
TABLE, MODELS = RESULTS/'photographs.csv', RESULTS/'photographs'
SIDE, N = 8, 40_000
CODERS = {'SDL': dict(n_components=256, encoder='lista', regularization='unit_norm'),
          'VDL': dict(n_components=256, regularization='variance'),
          'VDL-NL': dict(n_components=128, decoder=HiddenDecoder(128, 256, SIDE**2))}
ABOUT = ('Patches of 8 x 8 pixels, without their mean, of four photographs that come with '
         'scikit-image and scikit-learn; grey levels 0 to 255.')
SIGMAS = 10, 25, 50                             # of 255
SETTINGS = {                                    # of strength; those of slow models are few
    'TV': (.5, .65, .8, 1., 1.2, 1.5), 'NLM': (.4, .5, .6, .7, .8, 1.), 'DCT': (2.7,),
    'SDL': (.55, .7, .85, 1., 1.2), 'VDL': (.7, .85, 1., 1.2, 1.5),
    'SDL, stride 1': (1.,), 'VDL, stride 1': (1.,), 'VDL-NL': (.85, 1., 1.2, 1.5)}
KEY = ['split', 'picture', 'level', 'method', 'setting']


def patches():
    "Of each training photograph as many, mirrored and turned at random, without their means."
    rng, found = torch.Generator().manual_seed(0), []
    for path in photographs('train'):
        windows = read_picture(path).float().unfold(0, SIDE, 1).unfold(1, SIDE, 1)
        i, j = (torch.rand(N//4, 2, generator=rng)*torch.tensor(windows.shape[:2])).long().T
        found.append(windows[i, j])
    X = torch.cat(found)
    for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT):
        X = torch.where(torch.rand(N, 1, 1, generator=rng) < .5, turn(X), X)
    return (X - X.mean((1, 2), keepdim=True))[torch.randperm(N, generator=rng)]


def coder(name):
    "A fitted `SparseCoder`, learned if it is not stored."
    own = CODERS[name].get('decoder')
    if not (MODELS/name).is_dir():
        options = dict(alpha=.02, max_epochs=3, random_state=0, device='cpu', verbose=True)
        fitted = SparseCoder(**options | CODERS[name]).fit(patches())
        fitted.save_pretrained(MODELS/name)
        config, tensors = _read_folder(MODELS/name)
        scaling = {k: v for k, v in tensors.items() if k.startswith('scaling.')}
        about = dict(about=ABOUT, provenance=provenance())
        _write_folder(MODELS/name, config | about, _compact(fitted.model_, False) | scaling)
    return SparseCoder.from_pretrained(MODELS/name, decoder=own, device='cpu')


def picture(path, side):
    "The middle of a photograph, (side, side), grey levels 0 to 255."
    x = read_picture(path).float()
    top, left = ((s - side)//2 for s in x.shape)
    return x[top:top + side, left:left + side]


def noisy(x, sigma):
    return x + sigma*torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def sliding_dct(y, threshold):
    "Each 8 x 8 patch without its DCT coefficients below the threshold; overlaps are averaged."
    windows = np.lib.stride_tricks.sliding_window_view(y, (SIDE, SIDE))
    waves = dctn(windows, axes=(-2, -1), norm='ortho')
    kept = np.abs(waves) > threshold
    kept[..., 0, 0] = True                      # the mean of a patch
    made = idctn(waves*kept, axes=(-2, -1), norm='ortho')
    total, times = np.zeros_like(y), np.zeros_like(y)
    h, w = made.shape[:2]
    for i in range(SIDE):
        for j in range(SIDE):
            total[i:i + h, j:j + w] += made[..., i, j]
            times[i:i + h, j:j + w] += 1
    return total/times


def mended(method, given, sigma, setting):
    "What a method makes of it, (h, w)."
    name, _, every = method.partition(', stride ')
    if name in CODERS:
        return denoise(coder(name), given, sigma, setting, stride=int(every or 2))
    y, s = given.numpy()/255, sigma/255
    if method == 'DCT': return torch.from_numpy(sliding_dct(given.numpy(), setting*sigma))
    if method == 'TV': return 255*torch.from_numpy(denoise_tv_chambolle(y, weight=setting*s))
    return 255*torch.from_numpy(denoise_nl_means(y, 5, 6, h=setting*s, sigma=s))


def decibels(x, y): return (10*torch.log10(255**2/(x - y).double().square().mean())).item()


def measure(split, path, sigma, method, setting):
    "A row of the table, unless it has one."
    place = dict(split=split, picture=path.stem, level=float(sigma), method=method,
                 setting=float(setting))
    there = read_table(TABLE)[KEY].values.tolist() if TABLE.is_file() else []
    if [*place.values()] in there: return
    if SECONDS and time.monotonic() > SECONDS: sys.exit('time is up; call again to go on')
    x = picture(path, 128 if split == 'valid' else 192)
    given, begun = noisy(x, sigma), time.process_time()
    made = mended(method, given, sigma, setting)
    row = place | dict(psnr=decibels(x, made), seconds=time.process_time() - begun,
                       psnr_input=decibels(x, given))
    append(TABLE, [row | provenance()], KEY, digits=5)
    print(' '.join(map(str, place.values())), f"{row['psnr']:.2f} dB, {row['seconds']:.1f} s",
          flush=True)


def best(sigma, method):
    "The setting with the highest mean on the validation photographs."
    rows = read_table(TABLE).query("split == 'valid' and level == @sigma and method == @method")
    return rows.groupby('setting').psnr.mean().idxmax()


def everything():
    "Rivals are tested with what is best for them; ours with the strength of 1, and that too."
    for method, settings in SETTINGS.items():
        for sigma in SIGMAS:
            for path in photographs('valid'):
                for setting in settings: measure('valid', path, sigma, method, setting)
            chosen = {best(sigma, method), *([] if method in ('TV', 'NLM', 'DCT') else [1.])}
            for path in photographs('test'):
                for setting in sorted(chosen): measure('test', path, sigma, method, setting)


if __name__ == '__main__':
    torch.set_num_threads(1)
    SECONDS = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else None
    for name in CODERS: coder(name)
    everything()
