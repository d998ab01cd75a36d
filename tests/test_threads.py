"Several threads read one model: its weights stay as they are, and each gets the right codes."
import sys
from concurrent.futures import ThreadPoolExecutor
import pytest
import torch
from torch import nn
from deep_sparse_nb.decoders import HiddenDecoder, LinearDecoder, _curvature
from deep_sparse_nb.energy import Energy, planted
from deep_sparse_nb.inference import fista
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.paper.recipes import Recipe

Y, _, Z = planted(40, side=4)
OWN = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.BatchNorm1d(16))


@pytest.fixture(autouse=True)
def turns_are_short():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def model(decoder=OWN, encoder=None):
    return Autoencoder(decoder, encoder, Recipe(lam=.01, l=8, gamma=0.), 0).eval()


READERS = dict(
    own=lambda: (OWN, lambda: fista(
        Y.double(), OWN, Energy(.01), start=Z.double(), max_iter=5).codes),
    hidden=lambda: (d := HiddenDecoder(8, 150, 16), lambda: fista(
        Y.double(), d, Energy(.01), step=.1, max_iter=20).codes),
    linear=lambda: (d := LinearDecoder(8, 16), lambda: fista(Y, d, Energy(.01, 1.)).codes),
    curvature=lambda: (OWN, lambda: _curvature(OWN, Z.double(), 5)),
    stack=lambda: (m := model(), lambda: m.decode(Z)),
    encoder=lambda: (m := model(LinearDecoder(8, 16), nn.Sequential(nn.Linear(16, 8), nn.ReLU())),
                     lambda: m(Y)))


@pytest.mark.parametrize('kind', READERS)
def test_readers_do_not_disturb_each_other(kind):
    OWN.eval()
    module, read = READERS[kind]()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = read()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: read(), range(40)):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name]), name


def test_autocast_in_one_thread_is_not_passed_on():
    decoder, seen = LinearDecoder(8, 16), []
    def infer(mixed):
        with torch.autocast('cpu', enabled=mixed):
            for _ in range(20): fista(Y, decoder, Energy(.01), max_iter=3)
            return torch.is_autocast_enabled('cpu') == mixed
    with ThreadPoolExecutor(4) as pool: seen = list(pool.map(infer, [True, False]*4))
    assert all(seen)
