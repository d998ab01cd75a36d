"""What must hold whatever the shapes, types, scales and modes: random problems, and odd ones.

Scales from 1e-6 to 1e6, constant and repeated images, one or two of them, more components than
pixels, columns of zeros, tensors that are expanded or not contiguous.
"""
import re
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.inference import Diverged, fista, lipschitz

few = settings(max_examples=25, deadline=None, derandomize=True,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
HALF = torch.bfloat16, torch.float16

class Own(nn.Module):
    "A smooth decoder of one's own, whose gradient autograd finds."
    def __init__(self, l, d, seed):
        super().__init__()
        self.linear = LinearDecoder(l, d, seed)

    def forward(self, Z): return torch.tanh(self.linear(Z))

def decoder_of(kind, l, d, seed, odd):
    if kind == 'hidden': made = HiddenDecoder(l, 5, d, seed)
    else: made = (LinearDecoder if kind == 'linear' else Own)(l, d, seed)
    if odd == 'zero columns':
        for W in made.parameters():
            if W.dim() == 2: W.data[:, ::2] = 0
    return made

def images(n, d, seed, odd, scale, dtype):
    Y = scale*torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    Y = Y.to(dtype)
    if odd == 'constant': Y = torch.full_like(Y, scale)
    if odd == 'zero': Y = torch.zeros_like(Y)
    if odd == 'repeated': Y = Y[:1].repeat(n, 1)
    if odd == 'expanded': Y = Y[:1].expand(n, -1)
    if odd == 'not contiguous': Y = Y.mT.contiguous().mT
    if odd == 'strided': Y = torch.stack([Y, Y], -1)[..., 0]
    return Y

ODD = ('plain', 'zero columns', 'constant', 'zero', 'repeated', 'expanded', 'not contiguous',
       'strided')

@st.composite
def problems(draw, kinds=('linear', 'hidden', 'own'), dtypes=(torch.float32, torch.float64),
             hinges=(0., 3.)):
    "Images, a decoder in their precision (halves have one in float32), an energy of their scale."
    n, l, d = draw(st.sampled_from([1, 2, 3, 9])), draw(st.integers(1, 12)), draw(st.integers(1, 9))
    odd, dtype, seed = draw(st.sampled_from(ODD)), draw(st.sampled_from(dtypes)), draw(
        st.integers(0, 999))
    scale = 10.**draw(st.integers(-2, 2) if dtype in HALF else st.integers(-6, 6))
    beta = draw(st.sampled_from(hinges)) if n > 1 else 0.
    decoder = decoder_of(draw(st.sampled_from(kinds)), l, d, seed, odd)
    decoder = decoder.to(torch.float32 if dtype in HALF else dtype)
    Y = images(n, d, seed, odd, scale, dtype)
    return Y, decoder, Energy(.05*scale, beta=beta, T=scale), scale, l

def beginning(Y, decoder, scale, l):
    "Codes to start from, where the decoder is curved; those of a dictionary begin at zero."
    return None if isinstance(decoder, LinearDecoder) else Y.new_full((len(Y), l), .1*scale)

def values(Y, decoder, energy, seen):
    decoder, Y = decoder.double(), Y.double()
    return [energy.value(Z.double(), Y, decoder(Z.double())).item() for Z in seen]

@few
@given(problems(), st.booleans())
def test_the_energy_never_rises_under_ista(problem, positive):
    "With 1/L for a dictionary, with a searched step for all else."
    Y, decoder, energy, scale, l = problem
    seen, start = [], beginning(Y, decoder, scale, l)
    step = 'auto' if start is None else 'backtracking'
    fista(Y, decoder, energy, start=start, step=step, positive=positive, momentum=False,
          max_iter=40, watch=lambda k, Z: seen.append(Z))
    begun = torch.zeros_like(seen[0]) if start is None else start
    found = values(Y, decoder, energy, [begun, *seen])
    slack = (1e-4 if Y.dtype == torch.float32 else 2e-6)*found[0] + 1e-300
    assert all(b <= a + slack for a, b in pairwise(found))

@few
@given(problems(dtypes=(torch.float32, torch.float64, *HALF)), st.booleans())
def test_codes_are_finite_and_as_their_images(problem, positive):
    Y, decoder, energy, scale, l = problem
    start = beginning(Y, decoder, scale, l)
    found = fista(Y, decoder, energy, start=start, positive=positive, certify=True,
                  step='auto' if start is None else 'backtracking')
    assert found.codes.shape == (len(Y), l) and found.codes.dtype == Y.dtype
    assert found.codes.isfinite().all() and (not positive or (found.codes >= 0).all())
    assert found.iterations.min() >= 1 and found.iterations.max() <= 200
    certified = found.gap if found.residual is None else found.residual
    assert certified.isfinite().all() and (certified >= 0).all()

@few
@given(problems(kinds=('linear',), dtypes=(torch.float64,), hinges=(0.,)), st.booleans())
def test_certificates_bound_what_could_be_saved(problem, positive):
    Y, decoder, energy, _, _ = problem
    rough, best = (fista(Y, decoder, energy, step='auto', positive=positive, restart=True,
                         tol=1e-12, max_iter=k, certify=True) for k in (3, 3000))
    each = lambda Z: torch.stack([energy.value(z[None], y[None], decoder(z[None]))
                                  for z, y in zip(Z, Y)])
    before, after = each(rough.codes), each(best.codes)
    assert (rough.gap*before >= before - after - 1e-9*before).all()
    assert (best.gap < 1e-5).all()

@few
@given(problems(kinds=('linear', 'hidden'), dtypes=(torch.float64,)), st.booleans(), st.booleans())
def test_a_kernel_is_the_plain_step(problem, positive, restart):
    Y, decoder, energy, scale, l = problem
    # where all rows are one, their deviation is rounding, and the hinge blows that up
    assume(not energy.beta or bool((Y != Y[:1]).any()))
    options = dict(start=beginning(Y, decoder, scale, l), positive=positive, restart=restart,
                   step=.05, tol=1e-14, max_iter=25)
    fast, plain = (fista(Y, decoder, energy, kernel=kernel, **options).codes
                   for kernel in ('auto', 'plain'))
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-9*scale)

@few
@given(st.sampled_from(['linear', 'hidden', 'own']),
       st.sampled_from([torch.float32, torch.float64, *HALF]),
       st.sampled_from([torch.float32, torch.float64, *HALF]),
       st.sampled_from(['start', 'encoded']))
def test_types_that_meet_are_computed_in_that_of_the_images(kind, ours, theirs, name):
    "Or in single precision where theirs is a half; never as other numbers, nor other memory."
    decoder, Y = decoder_of(kind, 6, 8, 0, 'plain'), images(9, 8, 0, 'plain', 1., ours)
    guess = torch.rand(9, 6, generator=torch.Generator().manual_seed(1)).to(theirs)
    energy = Energy(.05, gamma=1. if name == 'encoded' else 0.)
    wide = torch.float32 if ours in HALF else ours
    mixed = fista(Y, decoder, energy, step=.1, max_iter=20, tol=1e-9, **{name: guess}).codes
    alike = fista(Y.to(wide), decoder.to(wide), energy, step=.1, max_iter=20, tol=1e-9,
                  **{name: guess.to(wide)}).codes
    assert mixed.dtype == ours
    apart = 1e-2 if ours in HALF else 1e-4
    torch.testing.assert_close(mixed.to(wide), alike, rtol=apart, atol=apart)

# ---- modes that PyTorch can be in ----

@contextmanager
def default_double():
    torch.set_default_dtype(torch.double)
    try: yield
    finally: torch.set_default_dtype(torch.float)

@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try: yield
    finally: torch.use_deterministic_algorithms(False)

MODES = {'inference_mode': torch.inference_mode, 'no_grad': torch.no_grad,
         'enable_grad': torch.enable_grad, 'autocast': lambda: torch.autocast('cpu'),
         'default double': default_double, 'deterministic': deterministic,
         'anomaly': torch.autograd.detect_anomaly}

@pytest.mark.filterwarnings('ignore:Anomaly Detection')
@pytest.mark.parametrize('kind', ['linear', 'hidden', 'own'])
@pytest.mark.parametrize('name', MODES)
def test_a_mode_changes_nothing(kind, name):
    decoder, Y = decoder_of(kind, 6, 8, 0, 'plain'), images(9, 8, 0, 'plain', 1., torch.float32)
    def codes(mode):
        with mode():
            return fista(Y, decoder, Energy(.05, beta=1.), start=torch.full((9, 6), .1), step=.1,
                         certify=True)
    plain, found = codes(nullcontext), codes(MODES[name])
    assert found.codes.dtype == torch.float32
    torch.testing.assert_close(found.codes + 0, plain.codes, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.residual + 0, plain.residual, rtol=1e-3, atol=1e-5)

# ---- steps that are too long ----

@few
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 999), st.floats(2.5, 100.))
def test_a_step_beyond_the_stable_limit_is_named(l, d, seed, times):
    "With signed codes and hardly any shrinkage it always leads to infinity."
    decoder, Y = LinearDecoder(l, d, seed).double(), images(9, d, seed, 'plain', 1., torch.double)
    step = times/lipschitz(decoder, Energy(0.), 9).item()
    with pytest.raises(Diverged, match=re.escape(f'step {step}; 1/L is {step/times:.3g}')):
        fista(Y, decoder, Energy(1e-9), step=step, positive=False, max_iter=10_000)
