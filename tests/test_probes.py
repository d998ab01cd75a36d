"""Probes: classifiers as the authors test them, and what patches of a picture have in common."""
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deep_sparse_nb.paper.contrast import (by_picture, _mean_over_pictures, _patches_by_picture,
    _shrink_picture)
from deep_sparse_nb.data.datasets import load
from deep_sparse_nb.stacks import stack
from deep_sparse_nb.paper.recipes import recipe
from deep_sparse_nb.data.patches import photographs, read_picture
from deep_sparse_nb.paper.probes import _Classifier, few_labels, _fit, _stored
from deep_sparse_nb.paper.results import read_table
from deep_sparse_nb.paper.weights import load_model
from deep_sparse_nb.paper.sweeps import sweep
from deep_sparse_nb.training import Autoencoder, Run, data_order, train

QUICK = dict(models=['VDL'], lams=[.005], seeds=1, epochs=1, sizes=(500, 250, 250), device='cpu',
             progress=False)

@pytest.fixture
def home(tmp_path): return dict(results=tmp_path/'results', runs=tmp_path/'runs')

@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path/'photographs'
    folder.mkdir()
    for split in ('train', 'valid', 'test'):
        for path in photographs(split): (folder/path.name).symlink_to(path)
    return folder

def test_last_keeps_the_weights_of_the_last_epoch():
    g = torch.Generator().manual_seed(0)
    X, labels = torch.randn(1, 60, 20, generator=g), torch.randint(3, (60,), generator=g)
    V, v = torch.randn(1, 40, 20, generator=g), torch.randint(3, (40,), generator=g)
    made, alone = stack([_Classifier(20, 3)]), _Classifier(20, 3)
    rate = torch.tensor([.05])
    when, loss = _fit(made, X, labels, (V, v), torch.tensor([0]), [0], rate, 30, 25, last=True)
    adam = torch.optim.Adam(alone.parameters(), lr=.05)
    losses = []
    for epoch in range(1, 31):
        for rows in data_order([0], epoch, 60)[0].split(25):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(alone(X[0][rows]), labels[rows]).backward()
            adam.step()
        losses.append(torch.nn.functional.cross_entropy(alone(V[0]), v).item())
    assert when.tolist() == [30] and loss[0].item() == pytest.approx(losses[-1], rel=1e-3)
    assert min(losses) < losses[-1] - .01                # so that the best epoch is another one
    assert torch.allclose(made.W[0], alone.W, atol=1e-3)

def test_few_labels_with_last_weights_go_on_from_stored_ones(home):
    sweep('digits', **QUICK, **home)
    options = dict(grids=['digits'], per_class=(1, 5), epochs=5, device='cpu', last=True)
    (kind, places), = _stored(home['results'], ['digits']).items()
    assert places == {0: None} and dict(kind)['train_images'] == 500
    assert few_labels(**options, **home) == 0
    table = read_table(home['results']/'labels-last.csv')
    assert table.groupby('model').size().to_dict() == dict(raw=6, LISTA=6, VDL=6)
    assert (table.best_epoch == 5).all() and table.groupby('lr').size().tolist() == [6, 6, 6]
    before = (home['results']/'labels-last.csv').read_bytes()
    assert few_labels(**options, **home) == 0
    assert (home['results']/'labels-last.csv').read_bytes() == before
    with pytest.raises(FileNotFoundError, match='no weights'):
        few_labels(['mnist-linear'], last=True, **home)

def test_few_labels_need_no_checkpoint_where_weights_are_stored(home, tmp_path):
    "Stored weights serve in its place; with neither there is an error, whatever the grid."
    sweep('digits', **QUICK, **home)
    where = dict(results=home['results'], runs=tmp_path)
    options = dict(per_class=(1,), epochs=2, device='cpu', seeds=1)
    assert few_labels(['digits'], **options, **where) == 0
    table = read_table(home['results']/'labels.csv')
    assert table.groupby('model').seed.unique().map(list).to_dict() == dict(raw=[0], LISTA=[0],
                                                                           VDL=[0])
    with pytest.raises(FileNotFoundError, match='no finished .* of none'):
        few_labels(['none'], **where)

def test_mean_over_pictures_ignores_how_many_patches_a_picture_lends():
    values = torch.tensor([1., 2., 4., 7.])
    mean, error = _mean_over_pictures(values, torch.tensor([3, 5, 6, 9]))
    assert mean == 3.5 and error == pytest.approx(values.std().item()/2)
    copied = _mean_over_pictures(values.repeat_interleave(9), torch.arange(4).repeat_interleave(9))
    assert copied == pytest.approx((mean, error))
    rng = torch.Generator().manual_seed(0)                # against the deviation of many draws
    pictures = torch.randn(4000, 20, 1, generator=rng)
    noise = torch.randn(4000, 20, 5, generator=rng)
    draws, which = (pictures + noise).flatten(1), torch.arange(20).repeat_interleave(5)
    errors = [_mean_over_pictures(draw, which)[1] for draw in draws[:400]]
    assert torch.tensor(errors).mean().item() == pytest.approx(draws.mean(1).std().item(), rel=.05)

def test_patches_come_from_every_picture_and_readings_differ():
    paths = [path for split in ('train', 'test') for path in photographs(split)]
    plain, picture = _patches_by_picture(paths, 'plain', 40)
    raw, fewer = _patches_by_picture(paths, 'raw', 40)
    shrunk, _ = _patches_by_picture(paths, 'shrunk', 40)
    assert set(picture.tolist()) == set(range(len(paths))) and len(plain) == len(picture)
    assert len(raw) < len(plain) and set(fewer.tolist()) <= set(picture.tolist())
    assert (plain.images.std(1) >= .5).all() and (shrunk.images.std(1) >= .5).all()
    assert shrunk.scale.mean() > plain.scale.mean()        # what is shrunk has more contrast
    picture = read_picture(paths[0])
    assert min(_shrink_picture(picture, 1.46).shape) == round(256/1.46)
    half = _shrink_picture(picture, 2).float().mean()
    assert half.item() == pytest.approx(picture.float().mean().item(), rel=.01)

def test_by_picture_scores_stored_models(home, pictures):
    sweep('patches-linear', **QUICK, **home, images=pictures)
    by_picture(images=pictures, each=30, results=home['results'])
    table = read_table(home['results']/'by-picture.csv')
    assert len(table) == 3*2*3 and set(table.group) == {'seen', 'unseen', 'all'}
    whole = table.query("reading == 'plain' and sigma == 1").set_index('group')
    assert whole.pictures['seen'] + whole.pictures['unseen'] == whole.pictures['all'] == 8
    weights = whole.patches[['seen', 'unseen']]/whole.patches['all']
    for column in ('psnr', 'psnr_input', 'sparsity'):
        mixed = (weights*whole[column][['seen', 'unseen']]).sum()
        assert whole[column]['all'] == pytest.approx(mixed, rel=1e-5)
    model = load_model('patches', 'VDL', .005, results=home['results'])
    paths = sorted(pictures.iterdir(), key=lambda p: p.name)
    patches, _ = _patches_by_picture([Path(p) for p in paths], 'plain', 30)
    here = (model.encode(patches.images)[0] == 0).float().mean().item()
    assert whole.sparsity['all'] == pytest.approx(here, abs=.05)       # other crops of the same
    with pytest.raises(ValueError, match='learned from photographs'):
        by_picture(images=pictures.parent, results=home['results'])

def test_columns_are_never_longer_than_the_longest():
    changes = dict(longest=.9, epochs=3)
    r = replace(recipe('digits', 'VDL-NL', .02), m=32, lr_decoder=1e-2, **changes)
    data = load('digits', sizes=(500, 50, 50))
    run = train(Run(Autoencoder.from_recipes(r)), data, progress=False)
    norms = [W.norm(dim=-2) for W in (run.model.decoder.W1, run.model.decoder.W2)]
    assert all((n <= .9 + 1e-6).all() for n in norms) and any((n < .8).any() for n in norms)
    assert any((n > .9 - 1e-6).any() for n in norms)
