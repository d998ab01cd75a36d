"What figures contain: pixels where they belong, means and spreads, one style per model."
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from deep_sparse_nb.plots import (_COLOURS, error_curves, history_curves, model_style,
                                  over_seeds, regret_curves, show_images, show_pairs,
                                  show_table)

@pytest.fixture(autouse=True)
def close():
    with plt.style.context('deep_sparse_nb.house'): yield
    plt.close('all')

def sheet(ax): return ax.images[0].get_array()

@given(n=st.integers(1, 9), ncols=st.integers(1, 5), h=st.integers(1, 4), w=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_sheet_holds_every_image_in_its_place(n, ncols, h, w):
    images = 1 + torch.arange(n*h*w).reshape(n, -1).float()
    shown = sheet(show_images(images, (h, w), ncols, limits=(0, 1000)))
    plt.close('all')
    for i, image in enumerate(images):
        row, column = divmod(i, min(ncols, n))
        tile = shown[row*(h + 1):row*(h + 1) + h, column*(w + 1):column*(w + 1) + w]
        assert np.array_equal(tile, image.reshape(h, w).numpy())
    assert np.ma.count(np.ma.masked_invalid(shown)) == n*h*w

def test_atoms_are_scaled_each_about_zero_and_pixels_together():
    images = torch.tensor([[-2., 1.], [.1, .2], [0., 0.]])
    ax = show_images(images, (1, 2), ncols=1)
    assert ax.images[0].get_clim() == (-1, 1)
    assert np.allclose(sheet(ax)[::2], [[-1, .5], [.5, 1], [0, 0]])
    ax = show_images(images, (1, 2), ncols=1, limits=(0, 1))
    assert ax.images[0].get_clim() == (0, 1) and np.allclose(sheet(ax)[::2], images)

def test_pairs_put_inputs_above_reconstructions():
    inputs, outputs = torch.zeros(3, 4), torch.ones(3, 4)
    fig = show_pairs({'clean': (inputs, outputs), 'noisy': (outputs, inputs)}, (2, 2))
    assert [ax.get_ylabel() for ax in fig.axes] == ['clean', 'noisy']
    left, right = (sheet(ax) for ax in fig.axes[:2])
    assert (left[0, 0], left[3, 0]) == (0, 1) == (right[3, 0], right[0, 0])
    with pytest.raises(ValueError, match='clean: inputs have shape'):
        show_pairs({'clean': (inputs, outputs[:2])}, (2, 2))

def test_every_model_has_its_own_face():
    models = [m + nl for m in _COLOURS for nl in ('', '-NL')] + ['raw', 'LISTA']
    faces = [tuple(sorted(model_style(m).items())) for m in models]
    assert len(set(faces)) == len(models)
    for m in _COLOURS:
        assert (model_style(m)['linestyle'], model_style(m + '-NL')['linestyle']) == ('--', '-')
        assert model_style(m)['color'] == model_style(m + '-NL')['color']
    with pytest.raises(ValueError, match="'PCA'.*VDL"): model_style('PCA')

def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame([dict(model=m, lam=lam, seed=s, sparsity=1 - lam + .1*rng.random(),
                              psnr=20 + rng.random()) for m in ('SDL', 'VDL-NL')
                         for lam in (.1, .3) for s in range(3)])

def test_over_seeds():
    t = table()
    means = over_seeds(t, ['model', 'lam'], ['psnr'])
    group = t[(t.model == 'VDL-NL') & (t.lam == .3)].psnr.to_numpy()
    row = means[(means.model == 'VDL-NL') & (means.lam == .3)].iloc[0]
    assert len(means) == 4 and np.isclose(row.psnr, group.mean())
    assert np.isclose(row.psnr_sd, group.std(ddof=1))
    assert over_seeds(t[t.seed == 0], ['model', 'lam'], ['psnr']).psnr_sd.isna().all()

def test_over_seeds_refuses():
    with pytest.raises(ValueError, match='no column top1'):
        over_seeds(table(), ['model'], ['top1'])
    with pytest.raises(ValueError, match='several rows'): over_seeds(table(), ['model'], ['psnr'])

def test_regret_curves_draw_the_table_in_order_of_sparsity():
    t = table()
    published = pd.DataFrame([dict(model='SDL', sparsity=.8, psnr=21.)])
    ax = regret_curves(t, published)
    lines = {line.get_label(): line for line in ax.get_lines()}
    means = over_seeds(t, ['model', 'lam'], ['sparsity', 'psnr'])
    for model in ('SDL', 'VDL-NL'):
        expected = means[means.model == model].sort_values('sparsity')
        assert np.allclose(lines[model].get_xdata(), 100*expected.sparsity)
        assert np.allclose(lines[model].get_ydata(), expected.psnr)
        assert (np.diff(lines[model].get_xdata()) > 0).all()
    marks = [line for line in ax.get_lines() if line.get_marker() == 'D' and len(line.get_xdata())]
    assert [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks] == [(80., 21.)]
    assert 'paper' in lines

def test_history_curves():
    t = pd.DataFrame([dict(model='SDL', lam=lam, seed=s, epoch=e, error=lam + s + e,
                           valid_psnr=20.) for lam in (.1, .2) for s in (0, 2)
                      for e in range(3)])
    with pytest.raises(ValueError, match='several rows'): history_curves(t, ['error'])
    fig = history_curves(t[t.lam == .1], ['error', 'valid_psnr'])
    assert [ax.get_title(loc='left') for ax in fig.axes] == ['mean squared error',
                                                             'validation PSNR (dB)']
    assert np.allclose(fig.axes[0].get_lines()[0].get_ydata(), [1.1, 2.1, 3.1])
    assert len(history_curves(t, ['error'], by='lam').axes[0].get_lines()) == 2

@pytest.mark.parametrize('title', ['', 'atoms'])
@pytest.mark.parametrize('n, ncols, h, w',
                         [(128, 16, 28, 28), (3, 16, 28, 28), (40, 20, 8, 8),
                          (2, 2, 300, 200)])
def test_pixels_are_drawn_whole(n, ncols, h, w, title):
    "Each pixel of a checkerboard covers the same number of dots, up and down and across."
    board = (torch.arange(h)[:, None] + torch.arange(w)) % 2.
    ax = show_images(board.flatten().expand(n, -1), (h, w), ncols, limits=(0, 1), title=title)
    ax.figure.canvas.draw()
    drawn = np.asarray(ax.figure.canvas.buffer_rgba())[..., 0]
    box = ax.get_window_extent()
    wide, high = sheet(ax).shape[::-1]
    assert box.width/wide == pytest.approx(round(box.width/wide))
    assert box.height/high == pytest.approx(round(box.width/wide))
    row = drawn[-1 - round(box.width/wide)//2].astype(int)[:round(w*box.width/wide)]
    runs = np.diff(np.flatnonzero(np.diff(row)))
    assert set(runs) == {round(box.width/wide)}

def test_error_curves():
    t = pd.DataFrame([dict(model='raw', per_class=k, seed=s, top1=.5/k + .1*s) for k in (10, 1)
                      for s in (0, 1)])
    ax = error_curves(t)
    assert np.allclose(ax.get_lines()[0].get_xydata(), [[1, 55], [10, 10]])
    assert ax.get_xscale() == 'log'

# Tables

def test_table_has_heads_units_marks_and_spreads():
    t = pd.DataFrame(dict(model=['SDL', 'VDL'], psnr=[21.123, 17.5], psnr_sd=[.21, np.nan],
                          sparsity=[.63, .918], ok=[True, None], epochs=[200, np.nan],
                          what=[dict(a=1.5), [1, 2]]))
    shown = show_table(t, labels=dict(ok='holds'), decimals=dict(psnr=2))
    assert shown.head == ['model', 'PSNR (dB)', 'sparsity (%)', 'holds', 'epochs', 'what']
    assert shown.rows == [['SDL', '21.12 ± 0.21', '63.0', '✓', '200', 'a 1.5'],
                          ['VDL', '17.50', '91.8', '–', '–', '1, 2']]
    assert shown.align == ['left', 'right', 'right', 'center', 'right', 'left']

def test_table_keeps_small_numbers_apart():
    assert [r[0]
            for r in show_table(pd.DataFrame(dict(lam=[1e-5, .02,
                                                       -np.inf]))).rows] == ['1 · 10⁻⁵',
                                                                             '0.02', '−∞']
    assert [r[0]
            for r in show_table(pd.DataFrame(dict(x=[12345.6, .1]))).rows] == ['1.23 · 10⁴',
                                                                               '0.1']

def test_table_shows_a_named_index_and_hides_a_counting_one():
    t = pd.DataFrame(dict(model=['SDL'], psnr=[20.]))
    assert show_table(t).head == show_table(t.set_index('model')).head == ['model', 'PSNR (dB)']
    assert show_table(t.set_index('model').psnr).rows == [['SDL', '20']]

def test_text_of_a_table_is_aligned_and_its_html_is_escaped():
    shown = show_table(pd.DataFrame({'a<b': ['<script>', 'x'], 'n': [1, 1000]}))
    lines = repr(shown).splitlines()
    assert {len(line) for line in lines} == {len(lines[0])} and lines[2].endswith('1,000')
    html = shown._repr_html_()
    assert '<script>' not in html and '&lt;script&gt;' in html and 'a&lt;b' in html
    assert 'overflow-x: auto' in html

def test_table_refuses_unknown_columns():
    for arguments in (dict(labels=dict(x='X')), dict(decimals=dict(x=1))):
        with pytest.raises(ValueError, match='names x; the table has psnr'):
            show_table(pd.DataFrame(dict(psnr=[1])), **arguments)
