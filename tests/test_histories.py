"""Stored histories: no figure shows a solver at its limit without saying so."""
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from deep_sparse_nb.paper.results import _TABLE_VERSION, read_table

TOP = Path(__file__).parents[1]
LIMIT, SHARE, WORDS = 200, .1, 'limit of 200'

# trainings of which a tenth of the epochs or more end at the limit: figures that show them
AT_THE_LIMIT = {
    ('collapse', 'Free', .005): ['06_collapse fig-fixed'],
    ('collapse', 'Free-NL', .005): ['06_collapse fig-hidden'],
    ('knobs', 'VDL', .01): ['06_collapse fig-knobs-mnist'],                   # with gamma = 0
    ('growth-encoder', 'VDL-NL', .03): [],                                    # in words only
    ('mnist-linear', 'DO', 0.): ['04_quality fig-regret'],
    ('mnist-linear', 'DO', .0001): ['04_quality fig-regret'],
    ('mnist-linear', 'DO', .0005): ['04_quality fig-regret'],
    ('mnist-linear', 'DO', .001): ['04_quality fig-regret'],
    ('mnist-linear', 'DO', .003): ['04_quality fig-regret'],
    ('mnist-linear', 'DO', .005): ['04_quality fig-regret'],
    ('mnist-nl', 'VDL-NL', .01): ['04_quality fig-regret'],
    ('mnist-nl', 'VDL-NL', .02): ['04_quality fig-step', '04_quality fig-regret'],
    ('short-step', 'VDL-NL', .02): ['04_quality fig-step'],
    ('steps', 'DO-NL', .003): ['04_quality fig-rules']}

def stuck(folder):
    "(table, model, lambda) of each training that is at the limit too often."
    found = set()
    for path in sorted(Path(folder).glob('*.csv')):
        table = read_table(path)
        if 'iterations' not in table: continue
        alike = [c for c in table if c not in ('epoch', 'version') and table.columns.get_loc(c)
                 < table.columns.get_loc('epoch')]
        for _, run in table.groupby(alike):
            if (run.iterations >= LIMIT).mean() >= SHARE:
                found.add((path.stem, run.model.iloc[0], float(run.lam.iloc[0])))
    return found

def caption(page, label):
    for cell in json.loads((TOP/'nbs'/page).read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if re.search(rf'^#\| label: {label}$', source, re.MULTILINE):
            return re.search(r'^#\| fig-cap: (.*)$', source, re.MULTILINE)[1]
    raise AssertionError(f'{page} has no figure {label}')

def test_every_training_at_the_limit_is_known():
    assert stuck(TOP/'results'/'histories') == {*AT_THE_LIMIT}

def test_it_would_be_seen(tmp_path):
    rows = pd.DataFrame(dict(model='VDL', lam=.01, epoch=range(1, 21), iterations=30.,
                            version=_TABLE_VERSION))
    for many, seen in ((1, set()), (2, {('made-up', 'VDL', .01)})):
        rows.loc[rows.epoch > 20 - many, 'iterations'] = 200.
        rows.to_csv(tmp_path/'made-up.csv', index=False)
        assert stuck(tmp_path) == seen

@pytest.mark.parametrize('figure', sorted({f for shown in AT_THE_LIMIT.values() for f in shown}))
def test_captions_say_so(figure):
    page, label = figure.split()
    assert WORDS in caption(f'experiments/{page}.ipynb', label)

def test_the_front_page_shows_none_of_them():
    "Its figure is drawn from trainings that are not in the list."
    source = (TOP/'nbs'/'index.ipynb').read_text(encoding='utf-8')
    tables = re.search(r"histories/\{name\}\.csv' for name in \((.*?)\)", source)[1]
    models = re.search(r"history\.model\.isin\(\[(.*?)\]\)", source)[1]
    shown = {(t, m, .005) for t in re.findall(r"'([\w-]+)'", tables)
             for m in re.findall(r"'([\w-]+)'", models)}
    assert ('safe-free', 'Free', .005) in shown and not shown & {*AT_THE_LIMIT}
