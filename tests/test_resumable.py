"A fit goes on from its own file, and from no other."
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deep_sparse_nb.checkpoints import _read
from deep_sparse_nb.data.arrays import Scaling
from deep_sparse_nb.energy import planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.files import lock

X = planted(120, side=4, noise=.05)[0].numpy()

class Stopped(Exception): pass

def stop(history):
    if len(history) == 3: raise Stopped

def coder(**options):
    usual = dict(alpha=.02, max_epochs=4, batch_size=25, random_state=0, device='cpu')
    return SparseCoder(8, **usual | options)

@pytest.fixture
def file(tmp_path):
    "Of a fit that was stopped in its third epoch."
    with pytest.raises(Stopped): coder(checkpoint=tmp_path/'c', callbacks=[stop]).fit(X)
    return tmp_path/'c'

def test_epochs_that_were_kept_are_not_learned_again(file):
    seen = []
    fitted = coder(checkpoint=file, callbacks=[lambda h: seen.append(len(h))]).fit(X)
    assert seen == [3, 4] and fitted.n_iter_ == 4
    again = coder(checkpoint=file).fit(X)              # when all is done, too
    assert np.array_equal(again.components_, fitted.components_)

@pytest.mark.parametrize('other', [
    dict(alpha=.03), dict(random_state=1), dict(max_epochs=5), dict(batch_size=20),
    dict(decoder='hidden'), dict(scaling='mean'), dict(positive=False)], ids=str)
def test_other_parameters_are_refused(other, file):
    before, (name, value) = file.read_bytes(), *other.items()
    with pytest.raises(ValueError, match=f'of a fit with {name}=.*here it is {value}'):
        coder(checkpoint=file, **other).fit(X)
    assert file.read_bytes() == before

@pytest.mark.parametrize('X', [X[:100], 2*X, X[:, :9]], ids=['fewer', 'larger', 'narrower'])
def test_other_data_are_refused(X, file):
    before = file.read_bytes()
    with pytest.raises(ValueError, match='to other data than X'): coder(checkpoint=file).fit(X)
    assert file.read_bytes() == before

def test_a_seed_is_needed(tmp_path):
    with pytest.raises(ValueError, match='random_state is None; to go on from a checkpoint'):
        coder(checkpoint=tmp_path/'c', random_state=None).fit(X)

def test_one_process_at_a_time(tmp_path):
    with lock(tmp_path/'c.lock', wait=True), pytest.raises(ValueError, match='another process'):
        coder(checkpoint=tmp_path/'c').fit(X)


@pytest.mark.parametrize('content', [b'a cat', b''], ids=str)
def test_what_is_no_checkpoint_is_refused_and_left(content, file):
    file.write_bytes(content)
    with pytest.raises(ValueError, match='c is not a checkpoint'): coder(checkpoint=file).fit(X)
    assert file.read_bytes() == content

def test_a_fit_of_version_1_is_gone_on_with(file):
    "Written here as that version did: other names, no checksums, no recipe."
    about, held = _read(file)
    rows = json.loads(bytes(held['history'].numpy()))
    old = dict(version=1, settings={k: v for k, v in about['origin'].items() if k != 'data'},
               history=[row | dict(error=row['loss_decoder']) for row in rows],
               alpha=held['lam'].item(), gap=held['gap'].item(), **about['steps'])
    tensors = {k.replace('optimizer.', 'adam.'): v for k, v in held.items()
               if k.startswith(('model.', 'optimizer.', 'step'))}
    state = Scaling('standard').fit(X).state()
    tensors |= {'data.rows': torch.tensor([120.]).double(), 'data.mean': state['mean'],
                'data.squares': state['squares']}
    file.unlink()
    save_file(tensors, file, dict(fit=json.dumps(old)))
    fitted = coder(checkpoint=file).fit(X)
    assert fitted.n_iter_ == 4 and fitted._run.unstable_from.tolist() == [-1]
    np.testing.assert_array_equal(fitted.components_, coder().fit(X).components_)
