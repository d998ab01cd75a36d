"""Deliberate mistakes in the library, one at a time: do the tests notice?

`python tools/mutants.py` tries all, `python tools/mutants.py energy encoders` those of two modules.
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

ROOT = Path(__file__).resolve().parents[1]
LIB = 'deep_sparse_nb'


class Mutant(NamedTuple):
    module: str     # below the library
    old: str        # stands once in the module
    new: str
    tests: str      # the file in tests/, perhaps with -k and a choice, that has to fail


MUTANTS = [Mutant(*m) for m in [
    ('encoders', 'for _ in range(self.L):', 'for _ in range(self.L - 1):', 'test_encoders.py'),
    ('encoders', '.mul_(2/size), []', '.mul_(1/size), []', 'test_encoders.py'),
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
            print(f'{word:8} {seconds:5.0f} s  {m.module}: {m.old} -> {m.new}', flush=True)
    print(f'{len(chosen) - len(survived)} of {len(chosen)} mutants caught')
    return bool(survived)


if __name__ == '__main__': sys.exit(main())
