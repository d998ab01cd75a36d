"""Checkpoints: whatever is damaged is refused by name, and what is read is what was written."""
import json
import os

import numpy as np
import pytest
import torch

from deep_sparse_nb.checkpoints import restore, save
from deep_sparse_nb.data.datasets import own_data
from deep_sparse_nb.energy import planted
from deep_sparse_nb.estimator import SparseCoder
from deep_sparse_nb.model import Autoencoder
from deep_sparse_nb.paper.recipes import Recipe
from deep_sparse_nb.training import Run, train

X = planted(60, side=4)[0]

@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A run's checkpoint and a fit's, by name, and what each is of."
    folder = tmp_path_factory.mktemp('checkpoints')
    recipe = Recipe(l=8, lam=.02, epochs=2, batch=20)
    run = Run(Autoencoder.from_recipes(recipe, 0, d=16))
    train(run, own_data(X), progress=False)
    save(run, folder/'run')
    SparseCoder(8, max_epochs=2, random_state=0, batch_size=20, checkpoint=folder/'fit').fit(X)
    return {name: (folder/name).read_bytes() for name in ('run', 'fit')}

def head(whole):
    size = int.from_bytes(whole[:8], 'little')
    return json.loads(whole[8:8 + size]), whole[8 + size:]

def joined(about, body):
    text = json.dumps(about).encode()
    text += b' '*(-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text + body

def damaged(whole, rng):
    "A file with one thing wrong: bits, length, a field of the header, or a tensor's name or size."
    way, about, body = rng.integers(5), *head(whole)
    if way == 0:
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        return bytes(broken)
    if way == 1: return whole[:rng.integers(len(whole))]
    told = about['__metadata__']
    kind = next(k for k in told if k in ('run', 'fit'))
    fields = json.loads(told[kind])
    name = list(fields)[rng.integers(len(fields))]
    if way == 2: del fields[name]
    if way == 3: fields[name] = [None, 'x', -1, 1e300, [], {}, 2**62][rng.integers(7)]
    if way < 4: return joined(about | dict(__metadata__=told | {kind: json.dumps(fields)}), body)
    name = [k for k in about if k != '__metadata__'][rng.integers(len(about) - 1)]
    held = about.pop(name)
    if rng.integers(2): about[name + 'x'] = held
    else: about[name] = held | dict(shape=[*held['shape'], 1])
    return joined(about, body)

def read(kind, path):
    "The weights of a run, or of a fit that goes on from a file."
    if kind == 'run': model = restore(path).model
    else: model = SparseCoder(8, max_epochs=2, random_state=0, batch_size=20,
                              checkpoint=path).fit(X).model_
    return torch.cat([p.detach().flatten() for p in model.parameters()])

TIMES = int(os.environ.get('FUZZ', '1'))   # `make fuzz` tries many more

@pytest.mark.parametrize('kind', ['run', 'fit'])
def test_what_is_damaged_is_refused_or_the_same(kind, files, tmp_path):
    rng, path, refused = np.random.default_rng(TIMES), tmp_path/kind, 0
    path.write_bytes(files[kind])
    whole = read(kind, path)
    for _ in range(n := TIMES*(120 if kind == 'run' else 40)):
        path.write_bytes(damaged(files[kind], rng))
        try: found, said = read(kind, path), ''
        except ValueError as error: found, said = None, str(error)
        assert torch.equal(found, whole) if found is not None else str(path) in said
        refused += found is None
    assert refused > n/2

def damaged_text(whole, rng):
    "The same of a configuration: bytes, length, or something within it, at any depth."
    way = rng.integers(4)
    if way == 0:
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        return bytes(broken)
    if way == 1: return whole[:rng.integers(len(whole))]
    inside = config = json.loads(whole)
    while True:
        name = list(inside)[rng.integers(len(inside))]
        if not isinstance(inside[name], dict) or not inside[name] or rng.integers(2): break
        inside = inside[name]
    if way == 2: inside[name + 'x'] = inside.pop(name)
    else: inside[name] = [None, 'x', -1, 1e300, [], {}, 2**62, True][rng.integers(8)]
    return json.dumps(config).encode()

def spliced(whole, rng):
    i, j = rng.integers(len(whole), size=2)
    return whole[:i] + bytes([rng.integers(256)]) + whole[j:]

@pytest.mark.parametrize('changes', [dict(), dict(encoder='lista'), dict(decoder='hidden')],
                         ids=str)
def test_a_model_that_is_damaged_is_refused_or_the_same(changes, tmp_path):
    rng, refused = np.random.default_rng(TIMES), 0
    coder = SparseCoder(8, max_epochs=1, random_state=0, batch_size=20, **changes).fit(X)
    coder.save_pretrained(tmp_path)
    whole, wholes = coder.transform(X), {}
    for name in ('config.json', 'model.safetensors'): wholes[name] = (tmp_path/name).read_bytes()
    for _ in range(n := 80*TIMES):
        name = ('config.json', 'model.safetensors')[rng.random() < .3]
        change = damaged_text if name == 'config.json' else spliced
        (tmp_path/name).write_bytes(change(wholes[name], rng))
        try: found, said = SparseCoder.from_pretrained(tmp_path).transform(X), ''
        except ValueError as error: found, said = None, str(error)
        assert np.array_equal(found, whole) if found is not None else str(tmp_path) in said
        refused += found is None
        (tmp_path/name).write_bytes(wholes[name])
    assert refused > n/2

@pytest.mark.parametrize('kind', ['run', 'fit'])
def test_a_flipped_bit_of_a_weight_is_seen(kind, files, tmp_path):
    about, body = head(files[kind])
    first = about['model.decoder.W']['data_offsets'][0]
    broken = bytearray(body)
    broken[first] ^= 1
    (tmp_path/'c').write_bytes(joined(about, bytes(broken)))
    with pytest.raises(ValueError, match='numbers are damaged'): read(kind, tmp_path/'c')
