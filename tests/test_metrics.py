"Metrics against other people's implementations, brute force and the symmetries they must have."
from itertools import permutations
import pytest
import torch
from hypothesis import given, settings, strategies as st
from deep_sparse_nb.energy import planted
from deep_sparse_nb.metrics import (_code_norms, _column_norms, dead, explained_variance, match,
                                    psnr, sparsity, stability)

seeds = st.integers(0, 2**31)
def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

@given(seed=seeds, scale=st.floats(1e-3, 2))
@settings(deadline=None, max_examples=30)
def test_psnr_agrees_with_skimage(seed, scale):
    from skimage.metrics import peak_signal_noise_ratio
    x, y = rand(4, 36, seed=seed), rand(4, 36, seed=seed) + scale*randn(4, 36, seed=seed + 1)
    expected = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(x, y)]
    assert torch.allclose(psnr(x, y), torch.tensor(expected, dtype=torch.float64))

def test_psnr_of_a_stack_and_of_equals():
    x, y = rand(4, 36), rand(2, 3, 4, 36, seed=1)
    assert psnr(x, y).shape == (2, 3, 4) and torch.allclose(psnr(x, y)[1, 2], psnr(x, y[1, 2]))
    assert psnr(x, x).isinf().all()
    with pytest.raises(ValueError, match='36.*35'): psnr(x, y[..., :35])

def test_psnr_does_not_clamp():
    white = torch.ones(1, 10)
    assert torch.allclose(psnr(white, 2*white), torch.zeros(1))

@given(seed=seeds, peak=st.floats(.1, 1e4))
@settings(deadline=None, max_examples=20)
def test_psnr_does_not_depend_on_the_unit(seed, peak):
    x, y = rand(4, 36, seed=seed), rand(4, 36, seed=seed + 1)
    assert torch.allclose(psnr(peak*x, peak*y, peak), psnr(x, y))
    for bad in (0, -1):
        with pytest.raises(ValueError, match=f'peak is {bad}'): psnr(x, y, bad)

@given(seed=seeds, factor=st.floats(.1, 1e3), offset=st.floats(-10, 10))
@settings(deadline=None, max_examples=20)
def test_explained_variance(seed, factor, offset):
    from sklearn.metrics import r2_score
    x, y = rand(9, 5, seed=seed), rand(9, 5, seed=seed + 1)
    found = explained_variance(x, y)
    theirs = r2_score(x, y, multioutput='variance_weighted')
    assert torch.isclose(found, torch.tensor(theirs, dtype=torch.double))
    assert torch.isclose(explained_variance(factor*x + offset, factor*y + offset), found)
    assert explained_variance(x, x) == 1
    assert explained_variance(x, x.mean(0).expand_as(x)).abs() < 1e-12

def test_explained_variance_of_stacks_and_of_data_that_do_not_vary():
    x, y = rand(9, 5), rand(2, 3, 9, 5, seed=1)
    assert torch.allclose(explained_variance(x, y)[1, 2], explained_variance(x, y[1, 2]))
    flat = torch.ones(4, 3)
    assert explained_variance(flat, flat) == 1 and explained_variance(flat, 2*flat) == -torch.inf
    with pytest.raises(ValueError, match='x has shape'): explained_variance(x, y[..., :8, :])

@given(seed=seeds, k=st.integers(1, 6))
def test_sparsity_and_dead_of_planted_codes(seed, k):
    Z = planted(20, side=4, k=k, seed=seed)[2]
    assert torch.isclose(sparsity(Z), torch.tensor(1 - k/8))
    assert dead(Z) == sum(not Z[:, j].any() for j in range(8))

def test_metrics_of_a_stack_are_those_of_its_members():
    Z, W = planted(20, side=4)[2]*rand(3, 2, 1, 8).round().float(), randn(3, 2, 5, 8)
    for metric, x in ((sparsity, Z), (dead, Z), (_code_norms, Z), (_column_norms, W)):
        assert torch.allclose(metric(x)[2, 1].double(), metric(x[2, 1]).double())

def test_norms():
    assert _code_norms(torch.tensor([[1., -2.], [3., 0.]])) == 3
    assert torch.allclose(_column_norms(torch.tensor([[3., 0.], [4., 2.]])), torch.tensor([5., 2.]))

@given(l=st.integers(1, 5), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_match_is_the_best_of_all_pairings(l, seed):
    A, B = randn(l, 6, seed=seed), randn(l, 6, seed=seed + 1)
    similarity, partner = match(A, B)
    cosine = torch.cosine_similarity(A[:, None], B[None], dim=-1)
    best = max(sum(cosine[i, p] for i, p in enumerate(order)) for order in permutations(range(l)))
    assert torch.isclose(similarity.sum(), best) and sorted(partner.tolist()) == list(range(l))
    assert torch.allclose(similarity, cosine[range(l), partner])

@given(l=st.integers(1, 20), seed=seeds)
@settings(deadline=None, max_examples=20)
def test_match_ignores_order_and_length_but_not_sign(l, seed):
    A, rng = randn(l, 30, seed=seed), torch.Generator().manual_seed(seed)
    order = torch.randperm(l, generator=rng)
    similarity, partner = match(A, A[order]*(.1 + rand(l, 1, seed=seed)))
    assert torch.allclose(similarity, torch.ones(l, dtype=torch.float64))
    assert torch.equal(order[partner], torch.arange(l))
    assert match(A[:1], -A[:1])[0].item() == pytest.approx(-1)

def test_match_of_stacks_broadcasts():
    A, B = randn(3, 1, 7, 9), randn(4, 7, 9, seed=1)
    similarity, partner = match(A, B)
    assert similarity.shape == partner.shape == (3, 4, 7)
    alone = match(A[2, 0], B[1])
    assert torch.allclose(similarity[2, 1], alone[0], atol=1e-12)
    assert torch.equal(partner[2, 1], alone[1])

@pytest.mark.parametrize('kind', [torch.bfloat16, torch.float16, torch.float64])
def test_match_in_any_precision(kind):
    A = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    similarity, partner = match(A.to(kind), A.flip(0))
    assert partner.tolist() == [5, 4, 3, 2, 1, 0] and (similarity > .99).all()

def test_match_of_a_zero_atom_is_zero():
    A = torch.eye(3); A[1] = 0
    assert match(A, torch.eye(3))[0].tolist() == [1, 0, 1]

def test_stability():
    A = randn(1, 7, 9).expand(3, -1, -1)
    assert torch.allclose(stability(A), torch.ones(3, dtype=torch.float64))
    B = randn(4, 7, 9, seed=2)
    assert stability(B).shape == (6,)
    assert torch.isclose(stability(B)[1], match(B[0], B[2])[0].mean())
    for bad in (B[:1], B[0]):
        with pytest.raises(ValueError, match='S at least 2'): stability(bad)
    alive = torch.rand(4, 7, generator=torch.Generator().manual_seed(3)) > .4
    fewer = lambda i, j: min(alive[i].sum(), alive[j].sum())
    by_hand = match(B[0]*alive[0][:, None], B[2]*alive[2][:, None])[0].sum()/fewer(0, 2)
    assert torch.isclose(stability(B, alive)[1], by_hand)
    assert torch.allclose(stability(B, alive | True), stability(B))
    assert (stability(B, alive & False) == 0).all()
    with pytest.raises(ValueError, match='alive has shape'): stability(B, alive[:2])
