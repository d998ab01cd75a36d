"Training: recipes, checkpoints, stacks, and what happens when it goes wrong."
from dataclasses import asdict, replace
import pytest
import torch
from deep_sparse_nb import training
from deep_sparse_nb.data.datasets import Dataset, Split, load
from deep_sparse_nb.energy import planted
from deep_sparse_nb.inference import Diverged
from deep_sparse_nb.paper.recipes import _LAMBDAS, MODELS, recipe
from deep_sparse_nb.training import Autoencoder, Run, evaluate, _rates_left, train
from deep_sparse_nb.checkpoints import restore, save

@pytest.fixture(scope='module')
def bars():
    Y = planted(1300, noise=.05)[0]
    splits = [Split(y, scale=1., shift=0.) for y in Y.split([800, 250, 250])]
    return Dataset('bars', *splits, shape=(8, 8))

def fit(run, data, epochs=None, **options):
    return train(run, data, epochs, progress=False, **options)

def keep(folder): return lambda run: save(run, folder/'c')


def run_of(recipes, seeds=0): return Run(Autoencoder.from_recipes(recipes, seeds, d=64))

def small(model='VDL', lam=.01, **changes):
    r = recipe('mnist', model, lam)
    return replace(r, l=16, gamma=r.gamma*16/128, m=24 if 'NL' in model else 0, epochs=3, **changes)

@pytest.mark.parametrize('model', MODELS)
def test_every_model_learns(model, bars):
    run = fit(run_of([small(model, lr_decoder=3e-3, lr_encoder=3e-3)], [0]), bars, epochs=1)
    before = evaluate(run.model, bars.valid)['psnr']
    fit(run, bars, epochs=4)
    after = evaluate(run.model, bars.valid)
    assert after['psnr'] > before and 0 <= after['sparsity'] <= 1
    norms = [W.detach().norm(dim=-2) for W in run.model.decoder.parameters() if W.dim() > 2]
    unit = all(torch.allclose(n, torch.ones_like(n), atol=1e-5) for n in norms)
    assert unit == model.startswith(('SDL', 'DO'))

@pytest.mark.parametrize('change', [dict(halve_every=1), dict(step_rule='safe', step=5.),
                                    dict(step_rule='1/L', step=.1)])
def test_a_resumed_run_continues_bit_for_bit(change, bars, tmp_path):
    recipes = [small('VDL-NL', lam, **change) for lam in (.01, .02)]
    straight = fit(run_of(recipes, [0, 3]), bars)
    fit(run_of(recipes, [0, 3]), bars, epochs=1, after_epoch=keep(tmp_path))
    resumed = fit(restore(tmp_path/'c'), bars)
    there = resumed.model.state_dict()
    for name, value in straight.model.state_dict().items(): assert torch.equal(value, there[name])
    for name, value in straight.best.items(): assert torch.equal(value, resumed.best[name]), name
    drop = lambda rows: [{k: v for k, v in r.items() if k != 'seconds'} for r in rows]
    assert drop(straight.history) == drop(resumed.history)

@pytest.mark.parametrize('rule, step', [('safe', 5.), ('1/L', .3)])
def test_a_reloaded_model_infers_with_the_step_that_was_measured(rule, step, bars, tmp_path):
    "Without an encoder, codes depend on it."
    recipes = [small('DO-NL', lam, step=step, step_rule=rule) for lam in (.01, .02)]
    run = fit(run_of(recipes), bars, epochs=1, after_epoch=keep(tmp_path))
    there, Y = restore(tmp_path/'c'), bars.valid.images
    assert torch.equal(there.model.step, run.model.step)
    assert rule == 'safe' or (run.model.step > step).all()
    assert torch.equal(there.best_model().encode(Y), run.best_model().encode(Y))
    alone = run.best_model().member(1)
    assert torch.equal(alone.step, run.model.step[1:])
    assert (alone.encode(Y)[0] - run.best_model().encode(Y)[1]).norm() < 1e-3*alone.encode(Y).norm()

# A product of many rounds otherwise than one alone: by 1e-7 in float32. Rounded to bfloat16, with
# its 8 bits, two neighbours may become numbers 4e-3 apart, in changes of gradients only.
@pytest.mark.parametrize('model, precision, apart', [
    ('SDL', 'float32', 1e-5), ('VDL', 'float32', 1e-5), ('DO', 'float32', 1e-5),
    ('VDL-NL', 'float32', 1e-5), ('VDL-NL', 'bfloat16', 1e-3)])
def test_a_member_gets_what_it_gets_alone(model, precision, apart, bars):
    members = [(small(model, lam, precision=precision), seed)
               for lam, seed in ((.005, 0), (.02, 0), (.01, 7))]
    together = fit(run_of(*zip(*members)), bars, epochs=2)
    for i, (r, seed) in enumerate(members):
        alone = fit(run_of([r], [seed]), bars, epochs=2)
        there = together.model.state_dict()
        for name, value in alone.model.state_dict().items():
            assert (value[0] - there[name][i]).norm() <= apart*value.norm(), name
        assert alone.best_epoch[0] == together.best_epoch[i]

def test_best_weights_are_those_of_the_best_epoch(bars):
    run, energies = run_of([small(), small(lam=.02)], [0, 1]), []
    for epoch in (1, 2, 3):
        fit(run, bars, epochs=epoch)
        energies.append(evaluate(run.model, bars.valid)['energy'])
    energies = torch.stack(energies)
    assert (run.best_epoch == energies.argmin(0) + 1).all()
    assert torch.allclose(evaluate(run.best_model(), bars.valid)['energy'], energies.amin(0))

@pytest.mark.parametrize('model', ['VDL', 'VDL-NL'])
def test_exploding_weights_are_reported(model, bars, tmp_path):
    run = run_of([small(model), small(model, .02)], [0, 1])
    next(run.model.decoder.parameters()).data[1] *= 1e6
    with pytest.raises(Diverged, match=r'epoch 1, batch 1.*\[1\]'):
        fit(run, bars, after_epoch=keep(tmp_path))
    assert restore(tmp_path/'c').epoch == 0

def test_a_safe_step_follows_the_curvature(bars):
    recipe = small('VDL', step=100., step_rule='safe')
    run = fit(run_of([recipe], [0]), bars, epochs=2)
    assert run.model.step < 5
    with pytest.raises(Diverged):
        fit(run_of([replace(recipe, step_rule='recipe')], [0]), bars, epochs=2)
    short = fit(run_of([replace(recipe, step=.01)], [0]), bars, epochs=1)
    assert short.model.step == .01

@pytest.mark.parametrize('model', ['SDL', 'SDL-NL'])
def test_a_step_of_1_over_L_is_longer_than_a_short_recipe_and_takes_no_more_iterations(model, bars):
    recipe = small(model, step=.05)
    slow, fast = (fit(run_of([replace(recipe, step_rule=rule)], [0]), bars)
                  for rule in ('recipe', '1/L'))
    assert (fast.model.step > .05).all()
    fewer, more = (run.history[-1]['iterations'] for run in (fast, slow))
    if model == 'SDL': assert fewer < more
    else: assert fewer == more == 200        # with a hidden layer both reach the limit
    assert fast.history[-1]['valid_energy'] < 1.02*slow.history[-1]['valid_energy']
    with pytest.raises(ValueError, match='step_rule is .fastest.'):
        run_of([replace(recipe, step_rule='fastest')], [0])

def test_column_norms_are_watched(bars):
    run = run_of([small(step=1e-9)], [0])
    run.model.decoder.W.data *= 1e5
    with pytest.raises(Diverged, match='columns of norm'): fit(run, bars)

def test_training_takes_slow_tiny_numbers_as_zero(bars, monkeypatch):
    tiny, seen = torch.tensor([1e-39]), []
    step = training.training_step
    def stepped(*args):
        seen.append((tiny*1).count_nonzero().item())
        return step(*args)
    monkeypatch.setattr(training, 'training_step', stepped)
    run = run_of([small('WDL')], [0])
    try: fit(run, bars, epochs=1)
    finally: after = (tiny*1).count_nonzero().item()
    assert {*seen} == {0} and after == 1


def test_learning_rates_halve_and_fall():
    run = Run(Autoencoder.from_recipes(recipe('mnist', 'VDL-NL', .01)))
    run.epoch = 29; assert _rates_left(run)['decoder'] == 1
    run.epoch = 60; assert _rates_left(run) == dict(decoder=1/4, encoder=1)
    run.model.recipes = replace(run.model.shared, halve_encoder=True),
    assert _rates_left(run) == dict(decoder=1/4, encoder=1/4)
    run = Run(Autoencoder.from_recipes(replace(recipe('mnist', 'VDL', .01), epochs=10, falling=.5)))
    for run.epoch, left in ((4, 1), (5, 1), (6, .8), (9, .2)):
        assert _rates_left(run) == pytest.approx(dict(decoder=left, encoder=left))

def test_saving_is_atomic(bars, tmp_path, monkeypatch):
    run = fit(run_of([small()], [0]), bars, epochs=1, after_epoch=keep(tmp_path))
    whole = (tmp_path/'c').read_bytes()
    def full(*args): raise OSError('disk full')
    monkeypatch.setattr('deep_sparse_nb.files.os.replace', full)
    with pytest.raises(OSError, match='disk full'): save(run, tmp_path/'c')
    assert (tmp_path/'c').read_bytes() == whole

def test_fewer_images_than_a_batch_are_one_batch(bars):
    few = replace(bars, train=bars.train[:100])
    run = fit(run_of(small()), few, epochs=2)
    assert len(run.history) == 2 and run.history[1]['valid_energy'] < run.history[0]['valid_energy']

def test_recipes_of_the_paper():
    sdl = asdict(recipe('mnist', 'SDL', .005))
    assert sdl == sdl | dict(epochs=200, gamma=1, step=1, lr_decoder=1e-3, lr_encoder=3e-4)
    assert recipe('patches', 'VDL-NL', .005).gamma == 20
    assert recipe('patches', 'VDL-NL', .02).gamma == 40
    assert recipe('mnist', 'WDL-NL', .01).wd_decoder == 5e-4
    assert not recipe('mnist', 'WDL', .01).unit_columns
    assert not recipe('mnist', 'DO', .01).encoder and recipe('mnist', 'DO', .01).gamma == 0
    assert recipe('mnist', 'Free', .01).beta == 0
    assert recipe('digits', 'VDL', .01) == recipe('mnist', 'VDL', .01)
    assert sum(map(len, _LAMBDAS.values())) == 49

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu():
    recipes = [recipe('digits', 'VDL', lam) for lam in (.005, .02)]
    run = Run(Autoencoder.from_recipes(recipes), 'cuda')
    fit(run, load('digits', device='cuda'), epochs=2)
    assert run.history[-1]['valid_psnr'] > run.history[1]['valid_psnr']

def test_order_of_images_is_new_in_each_epoch_and_for_each_seed():
    from deep_sparse_nb.training import data_order
    orders = {(s, e): data_order([s], e, 200)[0].tolist() for s in (0, 1) for e in (0, 1)}
    assert all(sorted(order) == list(range(200)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[1, 1] == data_order([0, 1], 1, 200)[1].tolist()

def test_evaluation_is_of_the_whole_split_and_leaves_the_encoders_term_out(bars):
    from deep_sparse_nb.energy import hinge
    model = run_of([small()], [0]).model
    with torch.no_grad(): model.encoder.b[:, :3] = -100     # three components that never fire
    Z = model.encode(bars.valid.images)
    Yhat = model.decoder(Z)
    scores = evaluate(model, bars.valid, batch=250)
    assert scores['dead'].tolist() == (Z == 0).all(-2).sum(-1).tolist() and 3 <= scores['dead'] < 16
    r = model.shared
    expected = ((bars.valid.images - Yhat).square().sum()/64 + r.beta*hinge(Z, r.T).sum()
                + r.lam*Z.abs().sum())/250
    torch.testing.assert_close(scores['energy'].float(), expected[None], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores['sparsity'].float(), (Z == 0).float().mean()[None])

def test_adam_has_each_parameters_rate_and_decay():
    rates = dict(lr_decoder=.1, lr_encoder=.2, wd_decoder=.3, wd_b1=.4, wd_b=.5)
    run = run_of([small('WDL-NL', **rates)], [0])
    names = {p: name for name, p in run.model.named_parameters()}
    found = {names[p]: (g['lr'], g['weight_decay'])
             for g in run.optimizer.param_groups for p in g['params']}
    assert found == {'decoder.W1': (.1, .3), 'decoder.W2': (.1, .3), 'decoder.b1': (.1, .4),
                     'encoder.U': (.2, 0), 'encoder.S': (.2, 0), 'encoder.b': (.2, .5)}

# ---- a share of zeros, revival, and steps that become too long: for stacks as for one ----

def test_each_member_of_a_stack_meets_its_own_target(bars):
    recipes = [small('VDL', .02, lr_decoder=3e-3, lr_encoder=3e-3, target_sparsity=share)
               for share in (.6, .9)]
    both = fit(run_of(recipes, [0, 0]), bars, epochs=25)
    alone = fit(run_of(recipes[1:], [0]), bars, epochs=25)
    first, second = both.history[-2:]
    assert first['alpha'] < second['alpha'] and second['alpha'] == pytest.approx(
        alone.history[-1]['alpha'], rel=.02)
    zeros = evaluate(both.model, bars.valid)['sparsity']
    assert abs(zeros[0] - .6) < .05 and abs(zeros[1] - .9) < .05

def test_components_that_died_begin_anew_in_a_stack(bars):
    def history(**changes):
        recipes = [small('DO', .06, lr_decoder=3e-3, **changes)]*2
        return fit(run_of(recipes, [0, 1]), bars, epochs=2).history
    lost, revived = history(), history(revive=True)
    assert all(row['dead'] and not row['revived'] for row in lost)
    assert all(row['revived'] == row['dead'] for row in revived) and revived[0]['dead']

@pytest.mark.parametrize('rule, reach, first', [
    ('recipe', 1.25, None), ('recipe', 1.4, 1), ('safe', 1.4, None)])
def test_a_step_beyond_the_limit_is_told_once_and_kept(rule, reach, first, bars, recwarn):
    "With unit columns and no encoder L hardly moves, so the limit 4/3L is known beforehand."
    slow = small('DO', .02, step_rule=rule, lr_decoder=1e-5)
    L = run_of([slow]).model.decoder.largest_curvature().item()
    run = fit(run_of([replace(slow, step=reach/L)]), bars, epochs=2)
    assert sum('4/3L' in str(warning.message) for warning in recwarn) == (first is not None)
    assert [row['unstable_from'] for row in run.history] == [first]*2
