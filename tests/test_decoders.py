"Decoders: each formula of their own is autograd's, for one model and for a stack."
import pytest
import torch
from deep_sparse_nb.decoders import Decoder, HiddenDecoder, LinearDecoder, atoms
from deep_sparse_nb.energy import Energy
from deep_sparse_nb.inference import fista
from deep_sparse_nb.stacks import _OwnDecoder, _OwnDictionary, _OwnHidden, stack
from torch import nn

class Own(Decoder):
    "A decoder of one's own, with everything by default."
    def __init__(self, l, d, seed=0):
        super().__init__()
        self.layer = nn.Linear(l, d).double()
    def forward(self, Z): return self.layer(Z).tanh()

def example(kind, n=6, l=5, d=7, seed=0):
    "A decoder in double precision whose weights are not small, codes and images."
    rng = torch.Generator().manual_seed(seed)
    decoder = dict(linear=lambda: LinearDecoder(l, d), hidden=lambda: HiddenDecoder(l, 9, d),
                   own=lambda: Own(l, d))[kind]().double()
    for p in decoder.parameters(): p.data = torch.randn(p.shape, generator=rng, dtype=torch.double)
    Z, Y = (torch.randn(n, k, generator=rng, dtype=torch.double) for k in (l, d))
    return decoder, Z.abs(), Y

@pytest.mark.parametrize('kind', ['linear', 'hidden', 'own'])
def test_gradient_of_the_loss_is_autograds(kind):
    decoder, Z, Y = example(kind)
    expected = (decoder(Z) - Y).square().mean()
    gradients = torch.autograd.grad(expected, list(decoder.parameters()))
    value, ours = decoder.loss(Z, Y)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    assert all(p.grad is None for p in decoder.parameters())
    for own, auto in zip(ours, gradients):
        torch.testing.assert_close(own, auto, rtol=1e-10, atol=1e-12)

@pytest.mark.parametrize('kind', ['linear', 'hidden', 'own'])
def test_gradient_of_codes_is_autograds(kind):
    decoder, Z, Y = example(kind, seed=1)
    free = Z.clone().requires_grad_()
    expected, = torch.autograd.grad((decoder(free) - Y).square().mean(-1).sum(), free)
    gradient = decoder.reconstruction_gradient(Y)
    torch.testing.assert_close(gradient.full(Z), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient.incremental(Z), expected, rtol=1e-10, atol=1e-12)

@pytest.mark.parametrize('kind', ['linear', 'hidden'])
def test_a_stack_is_its_members(kind):
    members = [example(kind, seed=s)[0] for s in range(3)]
    _, Z, Y = example(kind, seed=4)
    together = stack(members)
    torch.testing.assert_close(together(Z), torch.stack([m(Z) for m in members]))
    values, gradients = together.loss(Z.expand(3, *Z.shape), Y)
    for i, m in enumerate(members):
        value, alone = m.loss(Z, Y)
        torch.testing.assert_close(values[i], value)
        for whole, part in zip(gradients, alone): torch.testing.assert_close(whole[i], part)

@pytest.mark.parametrize('kind, layers', [('linear', ['W']), ('hidden', ['W1', 'W2'])])
def test_columns_get_unit_length_and_keep_their_direction(kind, layers):
    decoder = example(kind)[0]
    before = {name: getattr(decoder, name).detach().clone() for name in layers}
    before[layers[0]][:, 2] = getattr(decoder, layers[0]).data[:, 2] = 0
    decoder.normalize_()
    for name, W in before.items():
        now = getattr(decoder, name).detach()
        torch.testing.assert_close(now*W.norm(dim=0), W)
        assert torch.allclose(now.norm(dim=0), (W.norm(dim=0) > 0).double())

def test_atoms_are_what_a_component_adds():
    decoder = example('hidden')[0]
    shown = atoms(decoder)
    for j in range(5):
        e = torch.zeros(1, 5, dtype=torch.double)
        nothing, e[0, j] = decoder(e), 1
        torch.testing.assert_close(shown[j], (decoder(e) - nothing)[0])
    assert decoder(torch.zeros(1, 5, dtype=torch.double)).abs().max() > .1     # what is subtracted

# ---- modules of PyTorch ----

def layers(bias): return nn.Sequential(nn.Linear(5, 9, bias), nn.ReLU(), nn.Linear(9, 7, bias))

OWN = dict(linear=(lambda: nn.Linear(5, 7, bias=False), _OwnDictionary),
           hidden=(lambda: layers(True), _OwnHidden), bare=(lambda: layers(False), _OwnHidden),
           affine=(lambda: nn.Linear(5, 7), _OwnDecoder),
           deeper=(lambda: nn.Sequential(*layers(True), nn.Tanh()), _OwnDecoder))

@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('members', [1, 3])
@pytest.mark.parametrize('kind', OWN)
def test_known_layers_have_the_gradient_of_any(kind, members, dtype):
    torch.manual_seed(0)
    make, expected = OWN[kind]
    own = _OwnDecoder.of([make() for _ in range(members)], 5)
    assert type(own) is expected and own.linear == (kind == 'linear')
    Y, Z = torch.randn(6, 7, dtype=dtype), torch.rand(members, 6, 5, dtype=dtype)
    by_rule = Decoder.reconstruction_gradient(own, Y).full(Z)
    torch.testing.assert_close(own.reconstruction_gradient(Y).full(Z), by_rule,
                               rtol=1e-4, atol=1e-6)

def test_a_layer_that_is_watched_is_any_module():
    watched = layers(True)
    watched[1].register_forward_hook(lambda module, given, made: 2*made)
    assert type(_OwnDecoder.of([watched], 5)) is _OwnDecoder

class Mixing(nn.Module):
    "Images that depend on the whole batch."
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 7)
    def forward(self, Z): return self.layer(Z - Z.mean(-2, keepdim=True))

class Counting(nn.Module):
    "Counts the codes that it is given."
    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(5, 7), [0]
    def forward(self, Z):
        self.seen[0] += Z.shape[-2]
        return self.layer(Z).tanh()

@pytest.mark.parametrize('make, apart', [(Counting, True), (Mixing, False)])
def test_samples_are_left_out_where_they_are_alone(make, apart):
    torch.manual_seed(0)
    module = make()
    own, Y, Z = _OwnDecoder([module], 5), torch.randn(8, 7), torch.rand(1, 8, 5)
    gradient = own.reconstruction_gradient(Y)
    whole = gradient.full(Z)
    wanted = torch.tensor([[True, False]*4])
    gradient.restrict_to(wanted)
    torch.testing.assert_close(gradient.full(Z)[wanted], whole[wanted])
    assert gradient.apart is apart
    if not apart: return
    own.stacked.seen[0] = 0
    gradient.full(Z)
    assert own.stacked.seen == [4]

def test_a_step_that_is_known_is_hardly_searched_for():
    torch.manual_seed(0)
    own, Y = _OwnDecoder([Counting()], 5), torch.randn(8, 7)
    own.stacked.seen[0] = 0
    fista(Y, own, Energy(1e-3), start=torch.full((8, 5), .01), step='backtracking', max_iter=50,
          tol=1e-30)
    assert 50 <= own.stacked.seen[0]/8 < 80          # of which 50 are for gradients
