"The open model: any decoder, any encoder, any images, and what is said where they do not fit."
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.checkpoints import restore, save
from deep_sparse_nb.convolution import ConvDecoder
from deep_sparse_nb.data.datasets import Dataset, Split, own_data
from deep_sparse_nb.decoders import _AnyDecoder, LinearDecoder, atoms
from deep_sparse_nb.encoders import LISTA
from deep_sparse_nb.energy import planted
from deep_sparse_nb.inference import Diverged, lipschitz
from deep_sparse_nb.paper.recipes import Recipe, recipe
from deep_sparse_nb.stacks import _OwnDecoder, stack, _unstack
from deep_sparse_nb.training import Run, evaluate, train

QUICK = Recipe(l=16, batch=20, epochs=2, lr_decoder=1e-2, lr_encoder=3e-3)

class Deep(nn.Module):
    "Two hidden layers."
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(),
                                 nn.Linear(12, 64))
    def forward(self, Z): return self.net(Z)

class Residual(nn.Module):
    "A residual connection; its images are pictures."
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 64), nn.Linear(64, 64)
    def forward(self, Z):
        a = self.first(Z)
        return (a + self.second(a.tanh())).unflatten(-1, (1, 8, 8))

def pixel_encoder(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 16))

@pytest.fixture(scope='module')
def bars():
    Y = planted(100, noise=.05)[0]
    return own_data(Y[:60], Y[60:80], Y[80:])

CASES = {
    'deep': (Deep, None, {}),
    'deep, signed, two': (Deep, None, dict(positive=False)),
    'residual': (Residual, pixel_encoder, dict(positive=False)),
    'linear': (lambda: LinearDecoder(16, 64), lambda: LISTA(64, 16), {}),
    'linear, signed': (lambda: LinearDecoder(16, 64), lambda: LISTA(64, 16, positive=False),
                       dict(positive=False)),
    'convolution': (lambda: ConvDecoder((1, 8, 8), 4, kernel=4, stride=4), None, {}),
    'two layers': (lambda: ConvDecoder((1, 8, 8), (4, 3), kernel=(1, 4), stride=(1, 4)), None, {}),
}

@pytest.mark.parametrize('name', CASES)
def test_any_model_learns_and_comes_back(name, bars, tmp_path):
    decoder, encoder, changes = CASES[name]
    seeds = (0, 3) if 'two' in name else 0
    model = Autoencoder(decoder, encoder, replace(QUICK, **changes), seeds)
    run = train(Run(model), bars, progress=False)
    members = len(model.seeds)
    assert [row['epoch'] for row in run.history] == sorted([1, 2]*members)
    first, last = run.history[members - 1], run.history[-1]       # of one member
    assert last['loss_decoder'] < first['loss_decoder']
    assert model.step == 'auto'
    Y = bars.test.images
    codes = model.encode(Y)
    assert codes.shape == (members, 20, model.shared.l) and codes.isfinite().all()
    assert (codes >= 0).all() if model.shared.positive else (codes < 0).any()
    save(run, tmp_path/'c.safetensors')
    own = {k: v for k, v in (('decoder', decoder), ('encoder', encoder))
           if v in (Deep, Residual, pixel_encoder)}
    for missing in own:
        with pytest.raises(ValueError, match=f'{missing} is missing.*of your own'):
            restore(tmp_path, **{k: v for k, v in own.items() if k != missing})
    again = restore(tmp_path, **own)
    assert again.model.recipes == model.recipes and again.history == run.history
    assert torch.equal(again.model.encode(Y), codes)

def test_a_member_is_what_it_is_alone(bars):
    stacked = Autoencoder(Deep, pixel_encoder, [replace(QUICK, lam=v) for v in (.01, .03)], (0, 1))
    alone = Autoencoder(Deep, pixel_encoder, replace(QUICK, lam=.03), 1)
    for run in (Run(stacked), Run(alone)): train(run, bars, epochs=1, progress=False)
    for a, b in zip(alone.state_dict().values(), stacked.member(1).state_dict().values()):
        assert (a - b).norm() <= 1e-4*a.norm()
    assert isinstance(_unstack(stacked.decoder.module, 0), Deep)

def test_images_of_any_shape_are_rows_inside():
    model = Autoencoder(Residual, pixel_encoder, replace(QUICK, positive=False))
    rows = torch.randn(5, 64)
    assert model.image_shape == (1, 8, 8) and model.d == 64
    for Y in (rows, rows.double().numpy(), rows.reshape(5, 1, 8, 8), rows[None]):
        torch.testing.assert_close(model.encode(Y), model.encode(rows))
    pictures = rows.reshape(5, 1, 8, 8).repeat(8, 1, 1, 1)
    data = Dataset('pictures', Split(pictures, scale=2., shift=1.), None, shape=(8, 8))
    run = train(Run(model), data, epochs=1, progress=False)
    assert run.best_epoch.tolist() == [1] and 'valid_energy' not in run.history[0]
    assert torch.equal(run.best_model().encode(rows), model.encode(rows))
    found = evaluate(model, data.train)
    assert found['psnr'].shape == found['dead'].shape == (1,)
    assert 'psnr' not in evaluate(model, Split(rows))

def test_codes_do_not_depend_on_their_neighbours():
    model = Autoencoder(Deep, recipes=QUICK)
    Y = planted(6)[0]
    torch.testing.assert_close(model.encode(Y)[:, 2:3], model.encode(Y[2:3]), rtol=1e-4, atol=1e-5)

# ---- the step ----

def test_auto_is_1_over_L_of_a_dictionary(bars, monkeypatch):
    steps = []
    model = Autoencoder(LinearDecoder(16, 64), recipes=replace(QUICK, beta=0.))
    before = Autoencoder.infer
    def infer(self, Y, *args, **options):
        L = lipschitz(self.decoder, self.energy, Y.shape[-2])
        if torch.is_tensor(self.step): steps.append((self.step*L).item())
        return before(self, Y, *args, **options)
    monkeypatch.setattr(Autoencoder, 'infer', infer)
    train(Run(model), bars, epochs=3, progress=False)
    assert len(steps) >= 6 and all(.7 < s < 1.3 for s in steps)   # follows the decoder as it learns

@pytest.mark.parametrize('scale', [1e-2, 1., 30.])
@pytest.mark.parametrize('decoder', [Deep, lambda: LinearDecoder(16, 64)])
def test_auto_is_safe_whatever_the_weights(scale, decoder, bars):
    model = Autoencoder(decoder, recipes=replace(QUICK, lam=1e-3, epochs=1))
    for p in model.decoder.parameters(): p.data *= scale
    run = train(Run(model), bars, progress=False)
    assert torch.tensor(run.history[-1]['loss_decoder']).isfinite()

@pytest.mark.parametrize('factor, words', [(1.5, 'inference of members .0. climbs: step'),
                                           (9., 'codes of models .0. are not finite')])
def test_a_step_that_is_too_long_is_named_in_the_first_batches(factor, words, bars):
    model = Autoencoder(LinearDecoder(16, 64, 1), recipes=replace(QUICK, beta=0.))
    step = 1/lipschitz(model.decoder, model.energy, 20).item()
    def of(factor):
        r = replace(QUICK, beta=0., step=factor*step, positive=False)
        return Run(Autoencoder(LinearDecoder(16, 64, 1), recipes=r))
    with pytest.raises(Diverged, match=f'epoch 1, batch [1-3]: {words}.*1/L is {step:.3g}'):
        train(of(factor), bars, progress=False)
    train(of(.5), bars, epochs=1, progress=False)

# ---- data of one's own ----

@pytest.mark.parametrize('n', [1, 2, 21, 40, 41])
def test_a_last_batch_of_one_is_evaluated(n, bars):
    model = Autoencoder(LinearDecoder(16, 64), LISTA(64, 16), QUICK)
    split = Split(planted(n, seed=1)[0], scale=1., shift=0.)
    found = evaluate(model, split, batch=20)
    codes = model.encode(split.images)
    assert found['sparsity'].item() == pytest.approx((codes == 0).float().mean().item())
    assert found['energy'].isfinite().all()
    run = train(Run(model), replace(bars, valid=split), epochs=1, progress=False)
    assert run.history[0]['valid_energy'] > 0

@pytest.mark.parametrize('seed', [-1, 2**47, 1_790_000_000_000_000_000, 2**63, 2**64 - 1])
def test_seeds_of_64_bits(seed, bars, tmp_path):
    run = Run(Autoencoder.from_recipes(replace(recipe('mnist', 'VDL', .01), l=8), seed, d=64))
    train(run, bars, epochs=1, progress=False)
    save(run, tmp_path/'c')
    assert restore(tmp_path/'c').model.seeds == (seed,)

# ---- checkpoints ----

def test_a_finished_run_is_not_overwritten(bars, tmp_path):
    def fresh(lam=.01):
        return Run(Autoencoder(LinearDecoder(16, 64), recipes=replace(QUICK, lam=lam)))
    path = tmp_path/'c.safetensors'
    def keep(run): save(run, path)
    train(fresh(), bars, after_epoch=keep, progress=False)
    before = path.read_bytes()
    for run, words in ((fresh(.02), 'another run, of 2 epochs'), (fresh(), 'at epoch 0: restore')):
        with pytest.raises(ValueError, match=words):
            train(run, bars, after_epoch=keep, progress=False)
    with pytest.raises(ValueError, match='a folder'): save(fresh(), tmp_path)
    (tmp_path/'other').write_text('a letter')
    with pytest.raises(ValueError, match='not a checkpoint'): save(fresh(), tmp_path/'other')
    assert path.read_bytes() == before and (tmp_path/'other').read_text() == 'a letter'
    train(restore(path), bars, epochs=3, after_epoch=keep, progress=False)
    assert restore(path).epoch == 3

def test_a_folder_with_one_checkpoint_is_enough(tmp_path):
    run = Run(Autoencoder(LinearDecoder(16, 64), recipes=QUICK))
    with pytest.raises(FileNotFoundError, match='no checkpoint'): restore(tmp_path)
    save(run, tmp_path/'a.safetensors')
    assert restore(tmp_path).epoch == 0
    save(run, tmp_path/'b.safetensors')
    with pytest.raises(FileNotFoundError, match='a.safetensors, b.safetensors'): restore(tmp_path)

@pytest.mark.skipif(os.name == 'nt', reason='Windows has no umask')
def test_files_have_the_mode_that_the_umask_gives(tmp_path):
    old = os.umask(0o027)
    try: save(Run(Autoencoder(LinearDecoder(16, 64), recipes=QUICK)), tmp_path/'c')
    finally: os.umask(old)
    assert (tmp_path/'c').stat().st_mode & 0o777 == 0o640

def test_other_modules_than_the_checkpoints_are_named(tmp_path):
    save(Run(Autoencoder(Deep, recipes=QUICK)), tmp_path/'c')
    with pytest.raises(ValueError, match=r'it lacks model\.decoder\.module\.bias'):
        restore(tmp_path/'c', decoder=lambda: nn.Linear(16, 64))

def test_a_run_introduces_itself_and_a_finished_one_is_silent(bars, capsys):
    run = train(Run(Autoencoder(LinearDecoder(16, 64), recipes=QUICK)), bars, progress=False)
    assert repr(run) == 'Run(own lam=0.01 seed=0; 2 of 2 epochs)'
    train(run, bars)
    assert capsys.readouterr().err == ''

# ---- convolutions and stacks ----

@pytest.mark.parametrize('channels, strides', [(4, 2), ((4, 5), (1, 2)), ((4, 5, 3), (1, 1, 1))])
def test_gradients_of_convolutions_are_autograds(channels, strides):
    rng = torch.Generator().manual_seed(0)
    made = [ConvDecoder((2, 9, 9), channels, 3, strides, seed).double() for seed in (0, 1)]
    for decoder in made:
        for b in decoder.b: b.data = torch.randn(b.shape, generator=rng, dtype=torch.double)/4
    Y = torch.randn(6, 162, generator=rng, dtype=torch.double)
    Z = torch.rand(2, 6, made[0].code_shape[-1], generator=rng, dtype=torch.double)
    together = stack(made)
    free = Z.clone().requires_grad_()
    error = (together(free) - Y).square().mean(-1).sum()
    expected, *weights = torch.autograd.grad(error, [free, *together.parameters()])
    gradient = together.reconstruction_gradient(Y)
    torch.testing.assert_close(gradient.full(Z), expected, rtol=1e-10, atol=1e-12)
    gradient.restrict_to(torch.arange(6).expand(2, 6) > 2)
    torch.testing.assert_close(gradient.full(Z)[:, 3:], expected[:, 3:], rtol=1e-10, atol=1e-12)
    for i, one in enumerate(made):
        torch.testing.assert_close(together(Z)[i], one(Z[i]))
        torch.testing.assert_close(one.reconstruction_gradient(Y).full(Z[i]), expected[i])
    for ours, g in zip(together.loss(Z, Y)[1], weights): torch.testing.assert_close(ours, g/6)

def test_an_atom_of_a_convolution_is_its_filter_somewhere():
    decoder = ConvDecoder((1, 6, 6), 2, kernel=3, stride=1, seed=3)
    decoder.normalize_()
    shown = atoms(decoder).detach().reshape(2, 4, 4, 6, 6)
    assert torch.allclose(shown[1, 2, 1, 2:5, 1:4], decoder.W[0][1, 0])
    assert torch.allclose(shown.flatten(3).norm(dim=-1), torch.ones(2, 4, 4))

def test_stacks_keep_ties_buffers_and_frozen_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.a.bias.requires_grad_(False)
            self.register_buffer('scale', torch.rand(4))
        def forward(self, Z): return self.b(self.a(Z).tanh())*self.scale
    members, Z = [Tied(), Tied(), Tied()], torch.rand(3, 5, 4)
    own = _OwnDecoder(members, l=4)
    assert own.module.a.weight is own.module.b.weight and not own.module.a.bias.requires_grad
    for i, m in enumerate(members):
        torch.testing.assert_close(own(Z)[i], m(Z[i]))
        alone = _unstack(own.module, i)
        assert alone.a.weight is alone.b.weight and torch.equal(alone.scale, m.scale)
    gradient = _AnyDecoder(own).reconstruction_gradient(torch.rand(5, 4)).full(Z)
    assert gradient.shape == Z.shape and gradient.isfinite().all()
