"""Deliberate mistakes in the library, one at a time: do the tests notice?

`python tools/quality/mutants.py` tries all; with names of modules, those of these modules alone.
"""
import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIB = 'deep_sparse_nb'


class Mutant(NamedTuple):
    module: str     # below the library
    old: str        # stands once in the module
    new: str
    tests: str      # the file in tests/, perhaps with -k and a choice, that has to fail


MUTANTS = [Mutant(*m) for m in [
    ('energy', 'square().sum(-2) / (n - 1)', 'square().sum(-2) / n', 'test_energy.py'),
    ('energy', 'statistics(Z)[2]).clamp(min=0).square()',
     'statistics(Z)[2]).square()', 'test_energy.py'),
    ('energy', '-2/(n - 1) * (T - s)', '2/(n - 1) * (T - s)', 'test_energy.py'),
    ('energy', '(4*torch.finfo(Z.dtype).eps*mean[..., 0, :]).square()', '0', 'test_energy.py'),
    ('energy', 'if n < 2:', 'if n < 1:', 'test_energy.py'),
    ('energy', 'gamma*(2/Z.shape[-1]) * (Z', 'gamma*(2/Z.shape[-2]) * (Z', 'test_energy.py'),
    ('energy', 'beta=beta*2/d, T=T', 'beta=beta/d, T=T', 'test_energy.py'),
    ('energy', 'gamma=gamma*2*l/d)', 'gamma=gamma*2/d)', 'test_energy.py'),
    ('energy', 'hinge=beta*hinge(', 'hinge=hinge(', 'test_energy.py'),

    # the one loop
    ('inference', '_STABLE = 4/3 ', '_STABLE = 2 ', 'test_training.py -k told_once'),
    ('training', "columns['revived'] = columns['dead']", 'pass', 'test_training.py -k died'),
    ('training', 'run.weight.turn(zeros,', 'run.weight.turn(0*zeros,',
     'test_training.py -k own_target'),
    ('training', 'if not run.weight.fixed: model.lam.copy_(run.weight.lam)', 'pass',
     'test_training.py -k own_target'),
    ('training', 'known[new] = run.epoch + 1', 'known[new] = run.epoch + 2',
     'test_training.py -k told_once'),

    ('iteration', '(1 + 4*t**2).sqrt()', '(1 + 2*t**2).sqrt()', 'test_kernels.py'),
    ('iteration', '(t - 1)/following', 't/following', 'test_kernels.py'),
    ('iteration', '*moved).sum(-1) > 0', '*moved).sum(-1) < 0', 'test_kernels.py'),
    ('iteration', '< tol*norm(Z)',
     '< 2*tol*norm(Z)', 'test_kernels.py'),
    ('iteration', 'self.eta*self.lam, self', 'self.lam, self', 'test_inference.py'),
    ('iteration', '(self.iterations == 0) & _hardly_moved(',
     '_hardly_moved(', 'test_kernels.py'),
    ('iteration', 'range(1, max_iter + 1)', 'range(1, max_iter)', 'test_kernels.py'),
    ('iteration', '(self.iterations > 0) & self.freeze', 'self.iterations > 0', 'test_kernels.py'),
    ('iteration', '(V - alpha).clamp(min=0) if', '(V - alpha) if', 'test_inference.py'),

    ('inference', 'L > 0, 1/L, 1.', 'L > 0, 2/L, 1.', 'test_inference.py'),
    ('decoders', 'v.norm(dim=-1)*2/Yhat', 'v.norm(dim=-1)/Yhat', 'test_inference.py'),
    ('inference', "beta*2/max(n - 1, 1)",
     "beta/max(n - 1, 1)", 'test_inference.py'),
    ('inference', 'total(step**2)/(2*self.eta)', 'total(step**2)/self.eta', 'test_inference.py'),
    ('inference', 'state.codes, state.Z)', 'state.Z, state.Z)', 'test_inference.py'),
    ('inference', 'c*ar - c**2*r2/2', 'c*ar', 'test_inference.py'),

    ('decoders', 'self.W, self.scale, self.B = W, 2/d,',
     'self.W, self.scale, self.B = W, 1/d,', 'test_decoders.py'),
    ('decoders', 'W1*(2/W2.shape[-2])', 'W1*(1/W2.shape[-2])', 'test_decoders.py'),
    ('decoders', '_summed(error, Z).mul_(2/size)', '_summed(error, Z).mul_(1/size)',
     'test_decoders.py'),
    ('decoders', 'W.square().sum(-2, keepdim=True)',
     'W.square().sum(-1, keepdim=True)', 'test_decoders.py'),
    ('decoders', 'decoder(e) - decoder(torch.zeros_like(e[:1]))', 'decoder(e)', 'test_decoders.py'),

    ('distributed', 'squares - total*total/n', 'squares - total*total', 'test_distributed.py'),
    ('distributed', '(spread/(n - 1)).sqrt()', '(spread/n).sqrt()', 'test_distributed.py'),
    ('distributed', 'self._reduced(A, dist.ReduceOp.MAX)', 'A', 'test_distributed.py'),
    ('distributed', 'total, squares, n = sums', 'total, squares, _ = sums; n = number',
     'test_distributed.py'),
    ('iteration', 'if not self.remaining(running)', 'if not running', 'test_distributed.py'),

    ('encoders', 'for _ in range(L): Z.append((Z', 'for _ in range(1): Z.append((Z',
     'test_encoders.py'),
    ('encoders', 'error.mul_(2/size)', 'error.mul_(1/size)', 'test_encoders.py'),
    ('encoders', '(Z[-1] @ S.mT)', '(Z[-1] @ S)', 'test_encoders.py'),
    ('encoders', 'Z = [u.relu()]', 'Z = [u]', 'test_encoders.py'),

    ('data.datasets', 'pixels[rows[0]].mean()', 'pixels.mean()', 'test_data.py'),
    ('data.datasets', 'scale=std, shift=mean', 'scale=std, shift=-mean', 'test_data.py'),

    ('data.patches', 's.clamp(min=max(floor, 1e-4))', 's.clamp(min=1e-4)', 'test_patches.py'),
    ('data.patches', '_GREY_MEAN + _GREY_STD*m\n', '_GREY_STD*m\n', 'test_patches.py'),

    ('data.arrays', 'delta.square()*self.count*share', 'delta.square()*share',
     'test_arrays.py'),

    ('metrics', '20*math.log10(peak)', '10*math.log10(peak)', 'test_metrics.py'),
    ('metrics', 'square().mean(-1).log10()', 'square().sum(-1).log10()', 'test_metrics.py'),
    ('metrics', 'maximize=True', 'maximize=False', 'test_metrics.py'),
    ('metrics', '(Z == 0).all(-2)', '(Z == 0).any(-2)', 'test_metrics.py'),
    ('metrics', '1 - error/spread', 'error/spread', 'test_metrics.py'),
    ('metrics', 'Z.abs().sum(-1).mean(-1)', 'Z.sum(-1).mean(-1)', 'test_metrics.py'),

    ('training', 'energy < run.best_energy if', 'energy > run.best_energy if', 'test_training.py'),
    ('training', 'optimizer.step()\n    if model.shared.unit_columns:',
     'optimizer.step()\n    if False:', 'test_training.py'),
    ('training', 's*100_003 + epoch', 's*100_003', 'test_training.py'),
    ('training', '(Z != 0).any(-2)', '(Z == 0).any(-2)', 'test_training.py'),
    ('training', 'clamp(max=step)', 'clamp(min=step)', 'test_training.py'),
    ('training', "(r.wd_b1, r.wd_decoder)", "(r.wd_decoder, r.wd_decoder)", 'test_training.py'),
    ('training', '.5**(run.epoch//', '.5**((run.epoch + 1)//', 'test_training.py'),

    ('inference', 'return self.decoder(Z)*self.mask', 'return self.decoder(Z)',
     'test_pictures.py -k masked'),
    ('pictures', 'torch.where(known, rows, _levels', 'torch.where(~known, rows, _levels',
     'test_pictures.py'),
    ('pictures', '2*math.log(max(l, 2))', 'math.log(max(l, 2))', 'test_pictures.py'),
    ('pictures', 'Energy(0.), start=Z', 'energy, start=Z', 'test_pictures.py'),
    ('pictures', '.item()/2/.6745', '.item()/.6745', 'test_pictures.py'),
    ('pictures', 'theirs/own if own', 'own/theirs if own', 'test_pictures.py'),
    ('pictures', '.max().item()) if (share < 1).any() else 0.', '.max().item()*2) if True else 0.',
     'test_pictures.py -k holes'),
    ('cleaning', 'known |= fresh', 'known |= True', 'test_pictures.py -k holes'),
    ('cleaning', 'found = _three_passes(given/sigma', 'found = _three_passes(given',
     'test_pictures.py -k unit'),
    ('kernels.pursuit', 'a[k]*a[k]\n            k += 1', 'a[k]\n            k += 1',
     'test_pursuit.py'),
    ('kernels.pursuit', 'f*f*(n - 1) + 1', 'f*f*(n - 1)', 'test_pursuit.py'),
    ('kernels.pursuit', 'mean + f*(x[q] - mean)', 'f*(x[q] - mean)', 'test_pursuit.py'),
    ('kernels.pursuit', 'G[i, i]) + noise/', 'G[i, i]) - noise/', 'test_pursuit.py'),

    ('data.arrays', '(squares/count).sqrt()', 'squares/count', 'test_arrays.py'),
    ('data.arrays', 'Y.double()*scale + shift', 'Y.double()*scale - shift', 'test_arrays.py'),

    ('files', "path.with_name(f'{path.name}.{os.getpid()}.new')", 'path',
     'test_training.py -k atomic'),
    ('checkpoints', 'elif step is not None: model.step = step', 'elif step is not None: pass',
     'test_training.py -k reloaded'),
    ('checkpoints', 'if theirs and members(theirs) != members(', 'if False and members(',
     'test_model.py'),
    ('checkpoints', "dict(state=kept)", "dict(state={})", 'test_resumable.py'),
    ('checkpoints', "_digest(held) != about['tensors']", 'False', 'test_checkpoints.py'),

    ('estimator', 'return 1 - error/spread', 'return error/spread',
     'test_estimator.py -k score'),
    ('estimator', 'self.scaling_.undo(self._decoded(codes), maps)',
     'self._decoded(codes)',
     'test_estimator.py -k back'),
    ('estimator', 'added*self.scaling_.maps(added)[0].float()', 'added',
     'test_estimator.py -k components'),
    ('online', 'memory[\'step\'].item()**-.6', 'memory[\'step\'].item()**0', 'test_online.py'),
    ('online', ' + own[i, i]*block[i]', ' - own[i, i]*block[i]', 'test_online.py'),
    ('training', '2*(asked - inferred)', '2*(inferred - asked)', 'test_estimator.py -k weight'),
    ('training', 'left = 1 - run.epoch/run.epochs', 'left = 1 - (run.epoch + 1)/run.epochs',
     'test_training.py -k fall'),
    ('inference', 'Z[..., :few, :]) > _STABLE', 'Z[..., :few, :]) > 2*_STABLE', 'test_training.py'),
    ('training', "where(self.target > 0, turned, self.lam)", 'turned.clone()',
     'test_estimator.py -k weight'),
    ('estimator', 'name + \'.lock\'', 'stem + \'.lock\'', 'test_resumable.py'),

    ('kernels.folded', 'k += not a[i] > radius*reach[i]', 'k += not a[i] > 0',
     'test_kernels.py -k fold'),
    ('kernels.folded', 'fits = fits and below <= above', 'pass', 'test_kernels.py -k fold'),
    ('kernels.folded', 'for p in range(k): a[p] = -a[p]', 'pass', 'test_kernels.py -k fold'),
    ('kernels.folded', 'self.samples = self.rows.flatten().numpy()',
     'self.rows.flatten()', 'test_kernels.py -k fold'),
    ('kernels.active_set', '    s = own\n', '    s = 2*own\n', 'test_exact.py'),
    ('kernels.active_set', 'slack): block.done[row] = 2',
     'slack): block.done[row] = 1', 'test_exact.py'),
    ('kernels.active_set', 'd*gamma/self.l)', 'gamma/self.l)', 'test_exact.py'),
]]


def workplace(folder):
    "A copy of the project that shares everything with this one but the library."
    for f in ROOT.iterdir():
        if f.name != LIB and not f.name.startswith('.'): (folder/f.name).symlink_to(f)
    shutil.copytree(ROOT/LIB, folder/LIB)


def verdict(folder, tests):
    "What pytest says of the library in `folder`: 'passed', 'failed', or what else went wrong."
    tests = shlex.split(f'tests/{tests}')
    args = [sys.executable, '-m', 'pytest', '-xqp', 'no:cacheprovider', *tests]
    env = os.environ | dict(PYTHONPATH=str(folder))
    try: done = subprocess.run(args, cwd=folder, env=env, capture_output=True, timeout=600)
    except subprocess.TimeoutExpired: return 'failed'       # it does not come to an end
    if done.returncode in (0, 1): return ('passed', 'failed')[done.returncode]
    return (done.stdout[-1500:] + done.stderr[-1500:]).decode()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('modules', nargs='*', help='of these modules only')
    args = p.parse_args()
    chosen = [m for m in MUTANTS if not args.modules or m.module in args.modules]
    if not chosen: sys.exit(f'no mutants of {args.modules}: see {__file__}')
    survived = []
    with tempfile.TemporaryDirectory(prefix='mutants') as folder:
        folder = Path(folder)
        workplace(folder)
        for tests in sorted({m.tests for m in chosen}):
            if (said := verdict(folder, tests)) != 'passed':
                sys.exit(f'without a mutant, {tests} has to pass:\n{said}')
        for m in chosen:
            path = (folder/LIB/m.module.replace('.', '/')).with_suffix('.py')
            text = path.read_text(encoding='utf-8')
            if (k := text.count(m.old)) != 1: sys.exit(f'{m.module} has {k} times: {m.old}')
            begun = time.monotonic()
            path.write_text(text.replace(m.old, m.new), encoding='utf-8')
            shutil.rmtree(path.parent/'__pycache__', ignore_errors=True)
            said = verdict(folder, m.tests)
            path.write_text(text, encoding='utf-8')
            if said == 'passed': survived.append(m)
            elif said != 'failed': sys.exit(f'{m}: the tests do not run:\n{said}')
            word, seconds = 'SURVIVED' if said == 'passed' else 'caught', time.monotonic() - begun
            print(f'{word:8} {seconds:5.0f} s  {m.module}: {m.old!r} -> {m.new!r}', flush=True)
    print(f'{len(chosen) - len(survived)} of {len(chosen)} mutants caught')
    return bool(survived)


if __name__ == '__main__': sys.exit(main())
