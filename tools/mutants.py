"""Deliberate mistakes in the library, one at a time: do the tests notice?

`python tools/mutants.py` tries all, `python tools/mutants.py energy encoders` those of some modules.
"""
import argparse
import os
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
]]


def workplace(folder):
    "A copy of the project that shares everything with this one but the library."
    for f in ROOT.iterdir():
        if f.name != LIB and not f.name.startswith('.'): (folder/f.name).symlink_to(f)
    shutil.copytree(ROOT/LIB, folder/LIB)


def test(folder, tests, seconds=600):
    "What pytest says of the library in `folder`: 'passed', 'failed', or what else went wrong."
    env = os.environ | dict(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE='1')
    args = [sys.executable, '-m', 'pytest', '-x', '-q', '--no-header', '-p', 'no:cacheprovider', *tests.split()]
    args[-len(tests.split())] = f'tests/{tests.split()[0]}'
    try: done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired: return 'failed'       # it does not come to an end
    return {0: 'passed', 1: 'failed'}.get(done.returncode, done.stdout[-1500:] + done.stderr[-1500:])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('modules', nargs='*', help='of these modules only')
    args = p.parse_args()
    chosen = [m for m in MUTANTS if not args.modules or m.module in args.modules]
    survived = []
    with tempfile.TemporaryDirectory(prefix='mutants') as folder:
        folder = Path(folder)
        workplace(folder)
        for tests in sorted({m.tests for m in chosen}):
            if (said := test(folder, tests)) != 'passed': sys.exit(f'without a mutant, {tests} has to pass:\n{said}')
        for m in chosen:
            path = (folder/LIB/m.module.replace('.', '/')).with_suffix('.py')
            text = path.read_text(encoding='utf-8')
            if text.count(m.old) != 1: sys.exit(f'{m.module} has {text.count(m.old)} times: {m.old}')
            begun = time.monotonic()
            path.write_text(text.replace(m.old, m.new), encoding='utf-8')
            shutil.rmtree(path.parent/'__pycache__', ignore_errors=True)
            said = test(folder, m.tests)
            path.write_text(text, encoding='utf-8')
            if said == 'passed': survived.append(m)
            elif said != 'failed': sys.exit(f'{m}: the tests do not run:\n{said}')
            print(f"{'SURVIVED' if said == 'passed' else 'caught':8} {time.monotonic() - begun:5.0f} s  {m.module}: {m.old} -> {m.new}",
                  flush=True)
    print(f'{len(chosen) - len(survived)} of {len(chosen)} mutants caught')
    return bool(survived)


if __name__ == '__main__': sys.exit(main())
