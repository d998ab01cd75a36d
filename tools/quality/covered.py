"""How much of the library do pages and tests run? Lines and branches together, in one number."""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIB = 'deep_sparse_nb'
DEFAULT = re.compile(r'^#\|\s*default_exp\s+([\w.]+)', re.M)
EXPORTED = re.compile(r'^#\|\s*export[is]?\b', re.M)
PAGES = """
import sys, coverage
cov = coverage.Coverage(config_file=sys.argv[1], data_file=sys.argv[2], data_suffix=True)
cov.start()
from pathlib import Path
from nbdev.test import test_nb
failed = [page for page in sys.argv[3:] if not test_nb(Path(page))[0]]
cov.stop(); cov.save()
sys.exit(f'these pages failed: {failed}' if failed else 0)
"""


def with_the_module(nb):
    "A page that runs the module it exports, in place of its own copies of the code."
    module = next((m[1] for c in nb['cells'] if (m := DEFAULT.search(''.join(c['source'])))), None)
    for cell in nb['cells']:
        if module and cell['cell_type'] == 'code' and EXPORTED.search(''.join(cell['source'])):
            cell['source'] = [f'import {LIB}.{module} as _module\n',
                              'globals().update({k: v for k, v in vars(_module).items()\n',
                              '                  if not k.startswith("__")})']
    return nb


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--tests', nargs='*', default=[], help='pytest arguments in place of all tests')
    p.add_argument('--pages', nargs='*', help='pages in place of all, relative to nbs/')
    args = p.parse_args()
    # nbdev silently skips whatever lies below a folder whose name starts with a dot
    with tempfile.TemporaryDirectory(prefix='coverage') as folder:
        copy, data, config = Path(folder)/'copy', Path(folder)/'data', ROOT/'pyproject.toml'
        shutil.copytree(ROOT, copy, symlinks=True,
                        ignore=shutil.ignore_patterns('.*', 'runs', '_docs', '_proc', LIB))
        (copy/LIB).symlink_to(ROOT/LIB)
        pages = sorted((copy/'nbs').rglob('*.ipynb'))
        if args.pages is not None: pages = [copy/'nbs'/f for f in args.pages]
        for page in pages:
            nb = with_the_module(json.loads(page.read_text(encoding='utf-8')))
            page.write_text(json.dumps(nb), encoding='utf-8')
        env = os.environ | dict(COVERAGE_FILE=str(data), PYTHONPATH=str(ROOT), MPLBACKEND='agg')
        def call(*a, cwd=ROOT):
            return subprocess.run([sys.executable, *map(str, a)], cwd=cwd, env=env).returncode
        failed = call('-c', PAGES, config, data, *pages, cwd=copy)
        # not those of full disks and of memory, which being measured takes as well
        tests = args.tests or ['--ignore', 'tests/test_project.py',
                               '-m', 'not slow', '-k', 'not full_disk']
        failed |= call('-m', 'coverage', 'run', '--parallel-mode',
                       '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *tests)
        call('-m', 'coverage', 'combine', '-q', folder)
        call('-m', 'coverage', 'report', '--skip-covered', '--show-missing')
        print('lines and branches, in percent: ', end='', flush=True)
        call('-m', 'coverage', 'report', '--format=total', '--precision=1')
    return failed


if __name__ == '__main__': sys.exit(main())
