"A dictionary learned atom by atom: each atom the best there is, memory that fades, and its limits."
import numpy as np
import pytest
import torch

from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.decoders import unit_columns_
from deep_sparse_nb.energy import planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.inference import Diverged
from deep_sparse_nb.kernels import jit
from deep_sparse_nb.kernels.active_set import exact_codes
from deep_sparse_nb.metrics import match
from deep_sparse_nb.online import AtomByAtom, _closed_form, dictionary_step, _renew_atoms_
from deep_sparse_nb.paper.recipes import Recipe

ALONE = dict(beta=0., gamma=0., unit_columns=True, encoder=False, step='auto')
needs_compiler = pytest.mark.skipif(not jit.available(), reason='exact codes take long')

def statistics(seed=0, n=200, d=9, l=12):
    rng = torch.Generator().manual_seed(seed)
    Z = torch.rand(n, l, generator=rng).double()*(torch.rand(n, l, generator=rng) < .3)
    Y = torch.randn(n, d, generator=rng).double()
    W = unit_columns_(torch.randn(d, l, generator=rng).double())
    return W, Y, Z, Z.T @ Z/n, Y.T @ Z/n

def error(W, Y, Z): return (Y - Z @ W.T).square().sum(1).mean().item()

def test_an_atom_is_the_best_of_unit_length_beside_the_others():
    "Against ten thousand random ones, and a dictionary of which only that atom may move."
    W, Y, Z, A, B = statistics()
    renewed = W.clone()
    _renew_atoms_(renewed, A, B)
    best = W.clone()
    best[:, 0] = renewed[:, 0]                      # the first, when the others were still old
    rng = torch.Generator().manual_seed(1)
    for u in unit_columns_(torch.randn(9, 10_000, generator=rng).double()).T:
        W[:, 0] = u
        assert error(W, Y, Z) >= error(best, Y, Z)
    torch.testing.assert_close(renewed.norm(dim=0), torch.ones(12).double())

def test_turns_never_raise_the_error():
    W, Y, Z, A, B = statistics()
    last = error(W, Y, Z)
    for _ in range(20):
        _renew_atoms_(W, A, B)
        assert error(W, Y, Z) <= last + 1e-12
        last = error(W, Y, Z)

def test_atoms_that_nobody_uses_stay():
    W, _, _, A, B = statistics()
    A[3], A[:, 3], B[:, 3] = 0, 0, 0
    B[:, 5] = W @ A[5] - A[5, 5]*W[:, 5]            # what is left for it is nothing
    before = W.clone()
    _renew_atoms_(W, A, B)
    assert torch.equal(W[:, 3], before[:, 3]) and W.isfinite().all()

def test_old_batches_fade():
    "Batch t weighs t**-.6, at least half of 1/b; the rest is shared by those before it as it was."
    memory, shares = AtomByAtom(torch.nn.Parameter(torch.eye(6)[None])), np.zeros(6)
    for t in range(6):
        memory.begin_epoch(1 if t == 4 else None)
        weight = .5 if t == 4 else (t + 1)**-.6
        shares *= 1 - weight
        shares[t] = weight
        A = torch.zeros(6, 6)
        A[t, t] = 1
        memory.renew(A, torch.zeros(6, 6))
    (state,) = memory.state.values()
    np.testing.assert_allclose(state['A'][0].diagonal(), shares, rtol=1e-5)
    assert state['A'].sum() == pytest.approx(1, abs=1e-6)

@needs_compiler
@pytest.mark.parametrize('positive', [True, False])
def test_bars_are_found(positive):
    Y, D, _ = planted(4000, noise=.05)
    model = Autoencoder.from_recipes(Recipe('SDL', .005, l=16, positive=positive, **ALONE), 1, 64)
    assert _closed_form(model)
    memory, losses = AtomByAtom(model.decoder.W), []
    for batch in Y.repeat(6, 1).split(200):
        loss, found = dictionary_step(model, memory, batch[None])
        assert loss.shape == (2, 1) and found.codes.shape == (1, 200, 16)
        assert (found.codes >= 0).all() == positive
        losses.append(loss[0].item())
    assert losses[-1] < losses[0]/10
    W = model.decoder.W[0].detach()
    torch.testing.assert_close(W.norm(dim=0), torch.ones(16))
    if positive: assert match(W.T, D.T)[0].min() > .99      # signed codes fit other bases as well

@needs_compiler
def test_codes_and_loss_are_those_of_the_dictionary_before_it_moved():
    Y, D, _ = planted(100, noise=.05)
    model = Autoencoder.from_recipes(Recipe('SDL', .02, l=16, **ALONE), 0, 64)
    before = model.decoder.W[0].detach().clone()
    loss, found = dictionary_step(model, AtomByAtom(model.decoder.W), Y[None])
    expected = exact_codes(Y, before, .02, tol=1e-6).codes.float()
    assert (found.codes[0] - expected).norm() < 1e-2*expected.norm()
    assert loss[0].item() == pytest.approx(error(before, Y, found.codes[0])/64, rel=1e-4)
    assert not torch.equal(model.decoder.W[0], before)

@needs_compiler
@pytest.mark.parametrize('positive', [True, False])
@pytest.mark.parametrize('alpha', [0., 1e-8])
@pytest.mark.parametrize('kind', ['rank 1', 'rank 2', 'rank 2, positive', 'duplicates', 'three'])
def test_it_learns_where_data_leave_directions_open(kind, alpha, positive):
    g = np.random.default_rng(0)
    X = {'rank 1': lambda: g.normal(size=(300, 1)) @ g.normal(size=(1, 20)),
         'rank 2': lambda: g.normal(size=(300, 2)) @ g.normal(size=(2, 20)),
         'rank 2, positive': lambda: g.random((300, 2)) @ g.random((2, 20)),
         'duplicates': lambda: g.normal(size=(3, 20)).repeat(50, 0),
         'three': lambda: g.normal(size=(3, 20))}[kind]()
    coder = SparseCoder(32, regularization='unit_norm', encoder=None, max_epochs=10, batch_size=50,
                        random_state=0, alpha=alpha, positive=positive).fit(X)
    assert coder.score(X) > .999 and abs(coder.transform(X)).max() < 100

def test_what_is_too_large_is_told():
    model = Autoencoder.from_recipes(Recipe('SDL', .02, l=16, **ALONE), 0, 64)
    with pytest.raises(Diverged, match='images are not finite'):
        dictionary_step(model, AtomByAtom(model.decoder.W), torch.full((1, 10, 64), torch.inf))

@needs_compiler
@pytest.mark.parametrize('changes, members', [
    (dict(beta=1.), 1), (dict(unit_columns=False), 1), (dict(encoder=True), 1), (dict(m=8), 1),
    ({}, 2)], ids=str)
def test_all_else_is_left_to_adam(changes, members):
    recipe = Recipe('SDL', .02, **dict(l=16) | ALONE | changes)
    assert not _closed_form(Autoencoder.from_recipes([recipe]*members, [*range(members)], 64))

@needs_compiler
def test_the_estimator_learns_so_and_goes_on_from_a_file(tmp_path):
    Y = planted(1000, noise=.05)[0].numpy()
    class Stopped(Exception): pass
    def stop(history):
        if len(history) == 2: raise Stopped
    def coder(**options):
        return SparseCoder(16, target_sparsity=.8, regularization='unit_norm', encoder=None,
                           max_epochs=5, batch_size=100, random_state=0, **options)
    with pytest.raises(Stopped): coder(checkpoint=tmp_path/'c', callbacks=[stop]).fit(Y)
    resumed, straight = coder(checkpoint=tmp_path/'c').fit(Y), coder().fit(Y)
    assert isinstance(straight._run.optimizer, AtomByAtom)
    assert np.array_equal(resumed.components_, straight.components_)
    assert straight.score(Y) > .85
    assert abs((straight.transform(Y) == 0).mean() - .8) < .015
    straight.partial_fit(Y)
    assert straight.n_iter_ == 6

def test_blocks_of_atoms_are_renewed_as_one_after_the_other():
    W, _, Z, A, B = statistics(n=1500, d=5, l=1100)
    A[7], A[:, 7], B[:, 7] = 0, 0, 0
    one, alone = W.clone(), W.clone()
    _renew_atoms_(one, A, B)
    for j in range(1100):
        u = B[:, j] - alone @ A[j] + A[j, j]*alone[:, j]
        if A[j, j] > 0: alone[:, j] = u/u.norm()
    torch.testing.assert_close(one, alone)
