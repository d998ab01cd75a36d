"""What a reader writes: five lines for each kind of data, of model and of use."""
import numpy as np
import pytest
from PIL import Image

RNG = np.random.default_rng(0)
X = 100*(RNG.random((400, 8))*(RNG.random((400, 8)) < .3)) @ RNG.random((8, 16))

EXAMPLES = dict(
    array='''
coder = SparseCoder(12, target_sparsity=.6, max_epochs=3).fit(X)
Z = coder.transform(X)
back = coder.inverse_transform(Z)
assert Z.shape == (400, 12) and back.shape == X.shape
''',
    table='''
table = pd.DataFrame(X, columns=[f'channel {i}' for i in range(16)])
coder = SparseCoder(12, max_epochs=3).fit(table).set_output(transform='pandas')
assert list(coder.transform(table))[0] == 'sparsecoder0'
''',
    file='''
np.save('X.npy', X)
mapped = np.load('X.npy', mmap_mode='r')
coder = SparseCoder(12, max_epochs=3).fit(mapped)
assert coder.transform(mapped).shape == (400, 12)
''',
    loader='''
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=64)
coder = SparseCoder(12, max_epochs=3).fit(loader)
assert coder.transform(loader).shape == (400, 12)
''',
    pictures='''
from deep_sparse_nb.data.patches import cut, read_picture
pictures = [read_picture(f)/255 for f in sorted(Path('pictures').glob('*.png'))]
patches = torch.cat([cut(picture, 8, stride=8) for picture in pictures]).reshape(-1, 8, 8)
coder = SparseCoder(12, max_epochs=1).fit(patches)
assert coder.inverse_transform(coder.transform(patches)).shape == patches.shape
''',
    module='''
from torch import nn
def decoder(): return nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 16))
coder = SparseCoder(12, decoder=decoder, max_epochs=3).fit(X)
assert coder.components_.shape == (12, 16)
''',
    search='''
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
pipeline = make_pipeline(SparseCoder(max_epochs=2), LogisticRegression())
grid = dict(sparsecoder__n_components=[8, 12])
search = GridSearchCV(pipeline, grid, cv=2, error_score='raise').fit(X, X[:, 0] > 50)
assert search.best_params_['sparsecoder__n_components'] in (8, 12)
''',
    named='''
from sklearn.datasets import load_digits
coder = SparseCoder.from_pretrained('digits')
assert coder.score(load_digits().data) > .5
''',
    kept='''
SparseCoder(12, max_epochs=3).fit(X).save_pretrained('model')
coder = SparseCoder.from_pretrained('model')
assert coder.transform(X).shape == (400, 12)
''')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save('X.npy', X)
    (tmp_path/'pictures').mkdir()
    for name in 'ab':
        Image.fromarray(RNG.integers(0, 255, (64, 80), 'uint8')).save(f'pictures/{name}.png')
    return tmp_path


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
@pytest.mark.parametrize('example', EXAMPLES.values(), ids=EXAMPLES)
def test_five_lines_do(example, folder):
    names: dict = dict(X=X)
    exec('import numpy as np, pandas as pd, torch\nfrom pathlib import Path\n'
         'from deep_sparse_nb import SparseCoder\n' + example, names)
    assert len([*filter(str.strip, example.splitlines())]) <= 7
