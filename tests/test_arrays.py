"Batches from whatever holds numbers, and scaling learned, stored and undone."
import json
import subprocess
import sys
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from deep_sparse_nb.data.arrays import Scaling, as_rows, batches

seeds = st.integers(0, 2**31)
def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)

class Stream(IterableDataset):
    def __init__(self, rows): self.rows = rows
    def __iter__(self): return iter(self.rows)

class Samples(Dataset):
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, i): return self.rows[i], i

class Parts:
    "An object that can be gone through again."
    def __init__(self, *parts): self.parts = parts
    def __iter__(self): return iter(self.parts)

ROWS = rand(57, 6)

def on_disk(folder, rows, mode='r'):
    np.save(folder/'rows.npy', rows)
    return np.load(folder/'rows.npy', mmap_mode=mode)

# Batches

@pytest.mark.parametrize('make', [
    lambda X, tmp: X, lambda X, tmp: X.numpy(), lambda X, tmp: X.double().numpy(),
    lambda X, tmp: pd.DataFrame(X.numpy()),
    lambda X, tmp: X.tolist(), lambda X, tmp: X.numpy()[::-1][::-1], lambda X, tmp: Samples(X),
    lambda X, tmp: on_disk(tmp, X.numpy()), lambda X, tmp: on_disk(tmp, X.numpy(), 'c')[:],
    lambda X, tmp: TensorDataset(X, torch.zeros(len(X))),
    lambda X, tmp: Stream(list(X)), lambda X, tmp: DataLoader(TensorDataset(X), batch_size=13),
    lambda X, tmp: [X[:20], X[20:21].numpy(), X[21:]],
    lambda X, tmp: Parts((X[:50], None), (X[50:], None))])
@pytest.mark.parametrize('size', [1, 8, 19, 57, 250])
def test_every_source_gives_the_same_batches(make, size, tmp_path):
    found = list(batches(make(ROWS, tmp_path), size))
    assert [len(Y) for Y in found] == [size]*(57//size) + [57 % size]*(57 % size > 0)
    assert all(Y.dtype == torch.float32 for Y in found) and torch.equal(torch.cat(found), ROWS)

@pytest.mark.parametrize('make', [
    lambda X, tmp: X, lambda X, tmp: X.numpy(), lambda X, tmp: pd.DataFrame(X.numpy()),
    lambda X, tmp: on_disk(tmp, X.numpy()),
    lambda X, tmp: Samples(X)])
def test_shuffled_order_follows_from_seed_and_epoch(make, tmp_path):
    X = make(ROWS, tmp_path)
    whole = lambda seed, epoch: torch.cat(list(batches(X, 8, shuffle=True, seed=seed, epoch=epoch)))
    first = whole(2**63, 0)
    assert torch.equal(first, whole(2**63, 0))
    for other in (whole(2**63, 1), whole(1, 0)):
        assert not torch.equal(first, other)
        assert torch.equal(first[first[:, 0].argsort()], other[other[:, 0].argsort()])

def test_blocks_on_disk_are_shuffled_among_each_other(tmp_path):
    X = np.zeros((300, 2**14), np.float32)              # 16 rows a block, 19 blocks
    X[:, 0] = np.arange(300)
    order = torch.cat(list(batches(on_disk(tmp_path, X), 50, shuffle=True)))[:, 0].long()
    assert torch.equal(order.sort().values, torch.arange(300))
    assert ((order[1:] - order[:-1]) == 1).sum() < 30

def test_a_remainder_may_be_dropped_but_not_all():
    assert [len(Y) for Y in batches(ROWS, 8, drop_last=True)] == [8]*7
    assert [len(Y) for Y in batches(ROWS, 100, drop_last=True)] == [57]

@pytest.mark.parametrize('dtype',
                         ['uint8', 'int8', '>i4', 'uint16', 'int64', 'float16', 'float64', 'bool',
                          'longdouble'])
@pytest.mark.parametrize('shape', [(5, 4), (5, 3, 4), (5, 3, 2, 4)])
def test_numbers_of_any_kind_and_images_of_any_shape(dtype, shape):
    X = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    X.flags.writeable = False
    found = torch.cat(list(batches(X, 2)))
    assert found.shape == shape and np.array_equal(found.numpy(), X.astype('float32'))
    assert next(batches(X, 2, dtype=torch.float64)).dtype == torch.float64

def test_bfloat16_and_nullable_columns():
    assert torch.equal(as_rows(ROWS.bfloat16()), ROWS.bfloat16().float())
    frame = pd.DataFrame(dict(a=pd.array([1, 2], dtype='Int64'), b=[True, False]))
    assert as_rows(frame).tolist() == [[1, 1], [2, 0]]
    with pytest.raises(ValueError, match='X has nan in row 1'):
        as_rows(pd.DataFrame(dict(a=pd.array([1, None], dtype='Int64'))))

def test_wrong_shapes_and_generators_are_refused_before_the_first_batch():
    for X in (ROWS[0], (Y for Y in [ROWS]), None):
        with pytest.raises(ValueError, match='^X'): batches(X)
    for arguments in (dict(batch_size=0), dict(seed=-1), dict(epoch=-1)):
        with pytest.raises(ValueError, match=next(iter(arguments))): batches(ROWS, **arguments)

def test_a_sparse_matrix_is_told_the_way_out():
    from scipy.sparse import csr_matrix
    with pytest.raises(ValueError, match='toarray'): list(batches(csr_matrix(np.eye(3))))

def test_changes_of_a_private_mapping_survive_reading(tmp_path):
    X = on_disk(tmp_path, ROWS.numpy(), 'c')
    X[3] = 7
    for shuffle in (True, False):
        assert (torch.cat(list(batches(X, 8, shuffle=shuffle))) == 7).all(1).any()
    assert (X[3] == 7).all()

MEMORY = '''
import resource, sys
import numpy as np
from deep_sparse_nb.data.arrays import Scaling, batches
X = np.lib.format.open_memmap(sys.argv[1], 'w+', np.float32, (8_000_000, 128))     # 4.1 GB
X[::500_000] = 1
scaling = Scaling('standard').fit(X)
rows = sum(len(scaling.apply(Y)) for Y, _ in zip(batches(X, 1000, shuffle=True), range(400)))
rows += sum(len(Y) for Y, _ in zip(batches(X, 50_000), range(80)))
assert rows == 4_400_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''

@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='counts memory as Linux does')
def test_a_file_larger_than_memory_is_never_copied_whole(tmp_path):
    done = subprocess.run([sys.executable, '-c', MEMORY, tmp_path/'large.npy'], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_500_000     # KB

# Scaling

@given(seed=seeds, n=st.integers(2, 40), cuts=st.lists(st.integers(1, 39), max_size=4),
       offset=st.sampled_from([0., 1e6]))
@settings(deadline=None, max_examples=30)
def test_moments_do_not_depend_on_the_batches(seed, n, cuts, offset):
    X = rand(n, 5, seed=seed, dtype=torch.float64) + offset
    scaling = Scaling('features')
    for part in torch.tensor_split(X, sorted({c for c in cuts if c < n})): scaling.partial_fit(part)
    scale, shift = scaling.maps(X)
    assert torch.allclose(shift, X.mean(0), rtol=1e-12)
    assert torch.allclose(scale, X.std(0, correction=0), rtol=1e-5)

@pytest.mark.parametrize('kind', Scaling.KINDS)
@pytest.mark.parametrize('shape', [(30, 48), (30, 6, 8), (30, 3, 4, 4)])
def test_scaling_is_undone_and_stored(kind, shape):
    X = 20 + 3*rand(*shape)
    scaling = Scaling(kind, shape[1:] if len(shape) > 2 else (6, 8)).fit(X)
    Y = scaling.apply(X)
    assert Y.shape == X.shape and Y.dtype == X.dtype
    assert torch.allclose(scaling.undo(Y, scaling.maps(X)), X, rtol=1e-5)
    state = scaling.state()
    tensors = {k: v for k, v in state.items() if torch.is_tensor(v)}
    stored = json.loads(json.dumps({k: v for k, v in state.items() if k not in tensors}))
    again = Scaling.from_state(stored | tensors)
    assert torch.equal(again.apply(X), Y) and repr(again) == repr(scaling)

@pytest.mark.parametrize('kind', ['standard', 'features', 'contrast'])
def test_units_do_not_matter(kind):
    X = rand(30, 48)
    a, b = (Scaling(kind, (6, 8)).fit(factor*X) for factor in (1, 1000))
    assert torch.allclose(a.apply(X), b.apply(1000*X), atol=1e-4)
    Y = torch.randn(30, 48)
    assert torch.allclose(1000*a.undo(Y, a.maps(X)), b.undo(Y, b.maps(1000*X)), rtol=1e-4,
                          atol=1e-2)

def test_what_each_kind_centres_and_scales():
    X = rand(500, 4)*torch.tensor([1., 10, 100, 0]) + torch.tensor([5., 0, -5, 3])
    scaled = {kind: Scaling(kind).fit(X).apply(X)
              for kind in ('none', 'mean', 'standard', 'features')}
    assert torch.equal(scaled['none'], X)
    assert torch.allclose(scaled['mean'].mean(0), torch.zeros(4), atol=1e-4)
    assert torch.allclose(scaled['mean'].std(0), X.std(0))
    assert scaled['standard'].mean().abs() < 1e-5 and abs(scaled['standard'].std() - 1) < .01
    assert torch.allclose(scaled['features'].std(0), torch.tensor([1., 1, 1, 0]), atol=.01)

@pytest.mark.parametrize('kind', Scaling.KINDS)
@pytest.mark.parametrize('value', [0., .1, 1e6])
def test_constant_data_do_not_divide_by_zero(kind, value):
    X = torch.full((10, 48), value)
    scaling = Scaling(kind, (6, 8)).fit(X)
    Y = scaling.apply(X)
    assert Y.isfinite().all() and (kind == 'none' or Y.abs().max() <= 1e-6*max(1, value))
    assert torch.allclose(scaling.undo(Y, scaling.maps(X)), X)

def test_reconstructions_of_many_models_are_undone():
    X, scaling = rand(10, 12), Scaling('features').fit(rand(50, 12))
    Y = rand(2, 3, 10, 12)
    assert torch.allclose(scaling.undo(Y)[1, 2], scaling.undo(Y[1, 2]))
    assert scaling.apply(X.int()).dtype == torch.float32

def test_fit_looks_at_a_bounded_number_of_rows_from_everywhere():
    X = torch.arange(1000.)[:, None].expand(-1, 2)
    scaling = Scaling('standard').fit(X, batch_size=30, max_rows=200)
    assert scaling.state()['count'] == 200 and abs(scaling.maps(X)[1] - 499.5) < 60

def test_scaling_refuses():
    X = rand(10, 6)
    with pytest.raises(ValueError, match='kind is .*standard'): Scaling('z-score')
    for shape in (None, (4,)):
        with pytest.raises(ValueError, match='shape is'): Scaling('contrast', shape)
    with pytest.raises(ValueError, match='fitted before'): Scaling().apply(X)
    with pytest.raises(ValueError, match='mine has shape .*learned from'):
        Scaling().fit(X).apply(X[:, :5], 'mine')
    with pytest.raises(ValueError, match='mine has shape .*learned from'):
        Scaling().partial_fit(X).partial_fit(X[:, :5], 'mine')
    with pytest.raises(ValueError, match='mine has rows of shape'):
        Scaling('contrast', (2, 2)).fit(X, name='mine')
    with pytest.raises(ValueError, match='maps is None'): Scaling('contrast', (2, 3)).fit(X).undo(X)
    with pytest.raises(ValueError, match='mine has nan in row'):
        Scaling().fit(torch.where(X > .5, torch.nan, X), name='mine')
