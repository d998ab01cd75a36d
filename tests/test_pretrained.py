"""Models kept in folders, loaded by name, shared: what comes back, and what is refused."""
import importlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits
from torch import nn

from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.pretrained import models
from deep_sparse_nb.paper.weights import load_model

X = load_digits().data
ROOT = Path(__file__).parents[1]

def small(**changes):
    return SparseCoder(**dict(n_components=8, max_epochs=2, random_state=0) | changes)

@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp('kept')/'digits'
    coder = small().fit(X.reshape(-1, 8, 8))
    coder.save_pretrained(folder)
    return coder, folder

# ---- there and back ----

@pytest.mark.parametrize('changes', [
    dict(), dict(decoder='hidden', transform_algorithm='inference'), dict(encoder=None),
    dict(positive=False, scaling='features'), dict(scaling='none', alpha=.1),
    dict(regularization='unit_norm')], ids=str)
def test_what_was_kept_comes_back(changes, tmp_path):
    frame = pd.DataFrame(X, columns=[f'p{i}' for i in range(64)])
    coder = small(**changes).fit(frame)
    coder.save_pretrained(tmp_path)
    again = SparseCoder.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.transform(frame), coder.transform(frame))
    Z = coder.transform(frame)
    np.testing.assert_array_equal(again.inverse_transform(Z), coder.inverse_transform(Z))
    for name in ('metrics_', 'history_', 'n_iter_', 'alpha_', 'image_shape_', 'n_features_in_'):
        assert getattr(again, name) == getattr(coder, name), name
    assert (again.feature_names_in_ == frame.columns).all()
    again.partial_fit(frame)
    assert again.n_iter_ == coder.n_iter_ + 1

def test_the_folder_holds_three_files_and_no_pickle(kept):
    coder, folder = kept
    assert {f.name for f in folder.iterdir()} == {'config.json', 'model.safetensors', 'README.md'}
    config = json.loads((folder/'config.json').read_text())
    assert config['recipe']['unit_columns'] and config['scaling']['kind'] == 'standard'
    assert config['metrics'] == coder.metrics_
    assert {'deep_sparse_nb', 'torch', 'python'} <= set(config['versions'])
    with safe_open(folder/'model.safetensors', 'pt') as file:
        assert {'decoder.W', 'scaling.mean'} <= set(file.keys())
    card = (folder/'README.md').read_text()
    assert card.startswith('---\nlibrary_name: deep_sparse_nb\n') and '# digits' in card
    assert f"| sparsity | {coder.metrics_['sparsity']} |" in card
    used = re.search(r'```python\n(.*?)```', card, re.S)[1].replace("'digits'", repr(str(folder)))
    exec(used, here := dict(X=X))
    assert here['back'].shape == (len(X), 8, 8)

def test_a_number_that_json_lacks_is_left_out(tmp_path):
    coder = small().fit(X)
    coder.metrics_['explained_variance'] = -np.inf
    coder.save_pretrained(tmp_path)
    assert SparseCoder.from_pretrained(tmp_path).metrics_['explained_variance'] is None

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 64))
    def forward(self, Z): return self.layers(Z)

def test_a_decoder_of_ones_own_has_to_be_given(tmp_path):
    coder = small(decoder=Net, encoder=None).fit(X[:300])
    coder.save_pretrained(tmp_path)
    for given in (Net, Net()):
        again = SparseCoder.from_pretrained(tmp_path, decoder=given)
        np.testing.assert_array_equal(again.transform(X[:9]), coder.transform(X[:9]))
    with pytest.raises(ValueError, match='decoder is missing: .* a Net'):
        SparseCoder.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match='decoder, encoder: weights do not fit'):
        SparseCoder.from_pretrained(tmp_path, decoder=lambda: Net(17))

# ---- what is refused ----

def edit(change):
    def spoil(folder):
        config = json.loads((folder/'config.json').read_text())
        (folder/'config.json').write_text(json.dumps(change(config)))
    return spoil

SPOILT = {
    'no weights': (lambda f: (f/'model.safetensors').unlink(), 'has no model.safetensors'),
    'no config': (lambda f: (f/'config.json').unlink(), 'a folder without config.json'),
    'no JSON': (lambda f: (f/'config.json').write_text('{'), 'config.json is not JSON'),
    'deep JSON': (lambda f: (f/'config.json').write_text('['*10**5), 'config.json is not JSON'),
    'a list': (edit(lambda c: [c]), 'another origin'),
    'foreign': (edit(lambda c: dict(architectures=['BertModel'])), 'another origin'),
    'newer': (edit(lambda c: c | dict(version=99)), 'version 99; .* newer deep_sparse_nb'),
    'no version': (edit(lambda c: c | dict(version=None)), 'version None'),
    'other weights': (lambda f: (f/'model.safetensors').write_bytes(b'pickle'), 'is not the file'),
}

@pytest.mark.parametrize('spoil, message', SPOILT.values(), ids=SPOILT)
def test_spoilt_folders_are_refused(spoil, message, kept, tmp_path):
    for file in kept[1].iterdir(): (tmp_path/file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message): SparseCoder.from_pretrained(tmp_path)

# ---- a disk that fills up, a process that is killed ----

@pytest.fixture
def two_models(tmp_path):
    "A folder with one model, another to be saved there, and the codes of both."
    one, other = small().fit(X[:300]), small(random_state=1, alpha=.02).fit(X[:300])
    one.save_pretrained(tmp_path/'model')
    return tmp_path/'model', other, [coder.transform(X[:9]) for coder in (one, other)]

def which(folder, codes):
    "Which of the models the folder holds, whole: its codes, and what it says of itself."
    found = SparseCoder.from_pretrained(folder)
    (number,) = [i for i, Z in enumerate(codes) if np.array_equal(found.transform(X[:9]), Z)]
    assert found.alpha == (None, .02)[number]
    return number

@pytest.mark.parametrize('n', range(3))
def test_a_disk_that_fills_up_keeps_the_old_model(n, two_models, monkeypatch):
    (folder, other, codes), written, flush = two_models, [], os.fsync
    def full(file):
        written.append(file)
        if len(written) > n: raise OSError(28, 'No space left on device')
        flush(file)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='is as it was before: .*No space left'):
            other.save_pretrained(folder)
    assert which(folder, codes) == 0 and len(list(folder.iterdir())) == 3
    other.save_pretrained(folder)
    assert which(folder, codes) == 1 and len(list(folder.iterdir())) == 3

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs a process to be killed')
@pytest.mark.parametrize('n', range(4))
def test_a_process_killed_between_two_files_leaves_one_model(n, two_models, monkeypatch):
    (folder, other, codes), named, rename = two_models, [], os.replace
    def killed(fresh, path):
        if len(named) == n: os._exit(9)
        named.append(path)
        rename(fresh, path)
    if not (child := os.fork()):
        os.replace = killed
        other.save_pretrained(folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if n < 3 else 0)
    assert which(folder, codes) == (n > 0)
    for left in folder.glob('*.new'): os.utime(left, (0, 0))
    other.save_pretrained(folder)
    assert which(folder, codes) == 1 and len(list(folder.iterdir())) == 3

def test_a_name_that_cannot_be_given_loses_no_model(two_models, monkeypatch):
    (folder, other, codes), rename = two_models, os.replace
    def refused(fresh, path):
        if path.name == 'config.json': raise PermissionError(13, 'Permission denied')
        rename(fresh, path)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', refused)
        with pytest.raises(OSError, match='could not be renamed to config.json, as model.safe'):
            other.save_pretrained(folder)
    assert which(folder, codes) == 1

@pytest.mark.parametrize('name', ['../models/digits', 'digits/../digits', '/etc', '..', '', 'mnist',
                                  'DIGITS', './digits', '../../etc/passwd', 'digits\0'])
def test_names_lead_nowhere_else(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises((ValueError, ImportError)) as error: SparseCoder.from_pretrained(name)
    assert 'name' in str(error.value) or 'huggingface_hub' in str(error.value) or '\0' in name

# ---- models that come with the library ----

def test_a_few_models_come_with_the_library_in_a_few_megabytes():
    assert {'digits', 'mnist-sdl', 'mnist-vdl', 'mnist-vdl-nl', 'patches-vdl', 'photographs',
            'photographs-colour'} == set(models())
    files = [f for f in (ROOT/'deep_sparse_nb'/'models').rglob('*') if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 3_500_000
    assert max(f.stat().st_size for f in files) < 1_100_000
    assert {f.name for f in files} == {'config.json', 'model.safetensors', 'README.md'}

@pytest.mark.parametrize('name', models())
def test_a_model_by_its_name_does_what_its_card_says(name):
    coder = SparseCoder.from_pretrained(name)
    assert f'# {name}\n' in (ROOT/'deep_sparse_nb'/'models'/name/'README.md').read_text()
    assert coder.components_.shape == (coder.n_components, coder.n_features_in_)
    if name == 'digits':
        assert abs(coder.score(X) - coder.metrics_['explained_variance']) < .05
        assert abs((coder.transform(X) == 0).mean() - .8) < .02
    elif name.startswith('mnist'):      # digits in the middle of 28 x 28 pixels
        small = torch.from_numpy(X.reshape(-1, 1, 8, 8)/16)
        large = nn.functional.interpolate(small, size=(20, 20))
        images = nn.functional.pad(large, (4, 4, 4, 4))[:300, 0].float()
        kind, lam = coder.model_.shared.model, coder.model_.shared.lam
        stored = load_model('mnist', kind, lam, results=ROOT/'results')
        expected = stored.encode((images.flatten(1) - .1307)/.3081)[0].numpy()
        codes = coder.transform(images.numpy())
        assert ((codes - expected)**2).mean() < .01*(expected**2).mean()
        assert coder.inverse_transform(codes).shape == images.shape and coder.score(images) > 0

# ---- the hub ----

def test_push_to_hub_uploads_the_folder(kept, monkeypatch):
    pytest.importorskip('huggingface_hub')
    seen = {}
    class Api:
        def __init__(self, **options): pass
        def create_repo(self, repo_id, **options):
            return type('Made', (), dict(repo_id=repo_id))
        def upload_folder(self, repo_id, folder_path, **options):
            seen[repo_id] = {f.name: f.read_bytes() for f in Path(folder_path).iterdir()}
            return 'done'
    mixin = importlib.import_module('huggingface_hub.hub_mixin')
    monkeypatch.setattr(mixin, 'HfApi', Api)
    assert kept[0].push_to_hub('me/digits', private=True) == 'done'
    files = seen['me/digits']
    assert {'config.json', 'model.safetensors', 'README.md'} == set(files)
    assert json.loads(files['config.json'])['format'] == 'deep_sparse_nb.SparseCoder'

def test_a_name_with_an_owner_is_asked_of_the_hub(kept, monkeypatch):
    hub = pytest.importorskip('huggingface_hub')
    monkeypatch.setattr(hub, 'snapshot_download', lambda name, allow_patterns: str(kept[1]))
    assert SparseCoder.from_pretrained('me/digits').n_features_in_ == 64
    def offline(name, allow_patterns): raise OSError('no network')
    monkeypatch.setattr(hub, 'snapshot_download', offline)
    with pytest.raises(ValueError, match="name is 'me/digits'.*no network"):
        SparseCoder.from_pretrained('me/digits')

def test_without_the_hub_the_message_says_how_to_get_it(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    for call in (lambda: kept[0].push_to_hub('me/digits'),
                 lambda: SparseCoder.from_pretrained('me/digits')):
        with pytest.raises(ImportError, match=r"pip install 'deep_sparse_nb\[hub\]'"): call()

@pytest.mark.parametrize('changes', [dict(), dict(encoder='lista', scaling='features'),
                                     dict(decoder='hidden')], ids=str)
def test_what_is_exported_runs_elsewhere(changes, tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    coder = small(**changes).fit(X)
    files = coder.export('onnx', tmp_path)
    assert {f.stem for f in files} == {'decoder'} | ({'encoder'} if coder.model_.encoder else set())
    Z = coder.transform(X).astype('float32')
    given = dict(encoder=X.astype('float32'), decoder=Z)
    expected = dict(encoder=Z, decoder=coder.inverse_transform(Z))
    for file in files:
        (made,) = runtime.InferenceSession(file).run(None, {'given': given[file.stem]})
        np.testing.assert_allclose(made, expected[file.stem], atol=1e-3)
    with pytest.raises(ValueError, match="kind is 'pickle'"): coder.export('pickle', tmp_path)
