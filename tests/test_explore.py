"""One image and its code: what is drawn is what the model says."""
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from deep_sparse_nb.data.datasets import Dataset, Split, add_noise
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.explore import explore, _show_code, top_examples
from deep_sparse_nb.paper.recipes import recipe
from deep_sparse_nb.training import Autoencoder

matplotlib.use('agg')

@pytest.fixture(autouse=True)
def close():
    yield
    plt.close('all')

def little(seeds=(0, 1)):
    images = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    split = Split(images, scale=.1, shift=.5)
    recipes = [recipe('mnist', 'VDL', .01) for _ in seeds]
    data = Dataset('any', split, split, split, shape=(8, 8))
    return Autoencoder.from_recipes(recipes, seeds, d=64), data

@pytest.mark.parametrize('member, sigma', [(0, 0.), (1, .3)])
def test_bars_are_the_strongest_components(member, sigma):
    model, data = little()
    fig = _show_code(model, data.test, 2, sigma, top=6, shape=(8, 8), member=member)
    code = model.encode(add_noise(data.test.images[2:3], sigma, seed=2))[member, 0]
    bars = [patch.get_height() for ax in fig.axes for patch in ax.patches]
    assert bars == pytest.approx(code.sort(descending=True).values[:6].tolist())
    titles = ' '.join(ax.get_title(loc='left') + ax.get_title() for ax in fig.axes)
    assert f'{int((code > 0).sum())} of 128' in titles

def test_sliders_need_ipywidgets(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ipywidgets', None)
    with pytest.raises(ImportError, match='pip install ipywidgets'): explore(*little())

def test_sliders_draw(monkeypatch):
    pytest.importorskip('ipywidgets')
    seen = []
    monkeypatch.setattr('deep_sparse_nb.explore._show_code', lambda *given: seen.append(given[2:]))
    sliders = explore(*little(), member=1)
    image, noise, components = sliders.children[:3]
    assert image.max == 4
    image.value, noise.value, components.value = 3, .5, 4
    assert seen[-1] == (3, .5, 4, (8, 8), 1)

def test_top_examples_are_the_rows_with_the_largest_codes():
    coder = SparseCoder.from_dictionary(np.eye(3), alpha=.1)
    X = np.array([[1., 0, 0], [3, 2, 0], [2, 0, 0], [0, 1, 0]])
    rows, codes = top_examples(coder, X, 2)
    assert rows.tolist() == [[1, 2], [1, 3], [-1, -1]]
    assert (codes[:2] > 0).all() and (np.diff(codes) <= 0).all() and not codes[2].any()
    assert top_examples(coder, X, 9)[0].shape == (3, 4)
    with pytest.raises(ValueError, match='k is 0'): top_examples(coder, X, 0)
