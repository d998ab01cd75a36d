"Sparse autoencoders of other libraries: small files of each layout, read, encoded, written back."
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_matrix

from deep_sparse_nb import sae
from deep_sparse_nb.__main__ import main

D, L, K = 12, 30, 4
relu = torch.relu


def draw(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = draw(64, D, seed=9) + 1


def keep_top(p, k):
    return torch.where(p >= p.topk(k, dim=1).values[:, -1:], p, torch.zeros_like(p))


def saelens(folder, tensors, **settings):
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder/'sae_weights.safetensors')
    (folder/'cfg.json').write_text(json.dumps(dict(d_in=D, d_sae=L, dtype='float32') | settings))


def sparsify(folder, tensors, **settings):
    save_file(tensors, folder/'sae.safetensors')
    (folder/'cfg.json').write_text(json.dumps(dict(d_in=D, num_latents=L) | settings))


def dictionary_learning(folder, tensors, **trainer):
    torch.save(tensors, folder/'ae.pt')
    (folder/'config.json').write_text(json.dumps(dict(trainer=trainer, buffer={})))


PLAIN = dict(W_enc=draw(D, L), b_enc=.1*draw(L, seed=1), W_dec=draw(L, D, seed=2),
             b_dec=draw(D, seed=3))
GATED = {k: v for k, v in PLAIN.items() if k != 'b_enc'} | dict(
    b_gate=draw(L, seed=4), r_mag=.1*draw(L, seed=5), b_mag=draw(L, seed=6))
LINEAR = {'encoder.weight': draw(L, D), 'encoder.bias': draw(L, seed=1),
          'decoder.weight': draw(D, L, seed=2)}
W, B, V, C = PLAIN.values()
lengths = V.norm(dim=1)
w, b, v = LINEAR['encoder.weight'].T, LINEAR['encoder.bias'], LINEAR['decoder.weight'].T
unit = v.norm(dim=1)
threshold = draw(L, seed=7).abs()
jumped = lambda p, t: relu(p)*(p > t)
gate = lambda y, W, b, r, m: ((y @ W + b) > 0)*relu(y @ W*r.exp() + m)


def standardized(X):
    mean = X.mean(1, keepdim=True)
    deviation = (X - mean).std(1, keepdim=True)
    return (X - mean)/(deviation + 1e-5), mean, deviation


norm = X.norm(dim=1, keepdim=True)/D**.5
N, mean, deviation = standardized(X)

# name -> how it is stored, its own codes of X, what they decode to
CASES = {
    'saelens standard': (
        lambda f: saelens(f, PLAIN, architecture='standard'),
        z := relu((X - C) @ W + B), z @ V + C),
    'saelens standard, before 4': (
        lambda f: saelens(f, PLAIN, activation_fn_str='relu', apply_b_dec_to_input=False),
        z := relu(X @ W + B), z @ V + C),
    'saelens topk': (
        lambda f: saelens(f, PLAIN, architecture='topk', k=K),
        z := relu(keep_top((X - C) @ W + B, K)), z @ V + C),
    'saelens topk by lengths': (
        lambda f: saelens(f, PLAIN, architecture='topk', k=K, rescale_acts_by_decoder_norm=True),
        z := relu(keep_top(((X - C) @ W + B)*lengths, K)), (z/lengths) @ V + C),
    'saelens topk, before 4': (
        lambda f: saelens(f, PLAIN, activation_fn_str='topk', activation_fn_kwargs=dict(k=K)),
        z := relu(keep_top((X - C) @ W + B, K)), z @ V + C),
    'saelens jumprelu': (
        lambda f: saelens(f, PLAIN | dict(threshold=threshold), architecture='jumprelu'),
        z := jumped((X - C) @ W + B, threshold), z @ V + C),
    'saelens gated': (
        lambda f: saelens(f, GATED, architecture='gated'),
        z := gate(X - C, W, *(GATED[k] for k in ('b_gate', 'r_mag', 'b_mag'))), z @ V + C),
    'saelens, constant norm': (
        lambda f: saelens(f, PLAIN, architecture='standard',
                          normalize_activations='constant_norm_rescale'),
        z := relu((X/norm - C) @ W + B), (z @ V + C)*norm),
    'saelens, layer norm': (
        lambda f: saelens(f, PLAIN, architecture='standard', normalize_activations='layer_norm'),
        z := relu((N - C) @ W + B), (z @ V + C)*deviation + mean),
    'sparsify': (
        lambda f: sparsify(f, {'encoder.weight': W.T.contiguous(), 'encoder.bias': B, 'W_dec': V,
                               'b_dec': C}, k=K, activation='topk', expansion_factor=32),
        z := keep_top(relu((X - C) @ W + B), K), z @ V + C),
    'AutoEncoder': (
        lambda f: dictionary_learning(f, LINEAR | dict(bias=C), dict_class='AutoEncoder'),
        z := relu((X - C) @ w + b), z @ v + C),
    'AutoEncoderNew': (
        lambda f: dictionary_learning(f, LINEAR | {'decoder.bias': C}, dict_class='AutoEncoderNew'),
        z := relu(X @ w + b), z @ v + C),
    'AutoEncoderTopK': (
        lambda f: dictionary_learning(f, LINEAR | dict(
            b_dec=C, k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(-1.)),
            dict_class='AutoEncoderTopK', k=K),
        z := keep_top(relu((X - C) @ w + b), K), z @ v + C),
    'BatchTopKSAE': (
        lambda f: dictionary_learning(f, LINEAR | dict(
            b_dec=C, k=torch.tensor(K), threshold=torch.tensor(.7)),
            dict_class='BatchTopKSAE', k=K),
        z := jumped((X - C) @ w + b, .7), z @ v + C),
    'GatedAutoEncoder': (
        lambda f: dictionary_learning(f, {
            'encoder.weight': w.T.contiguous(), 'decoder.weight': v.T.contiguous(),
            'decoder_bias': C, 'r_mag': GATED['r_mag'], 'gate_bias': GATED['b_gate'],
            'mag_bias': GATED['b_mag']}, dict_class='GatedAutoEncoder'),
        z := gate(X - C, w, *(GATED[k] for k in ('b_gate', 'r_mag', 'b_mag')))*unit,
        (z/unit) @ v + C),
    'JumpReluAutoEncoder': (
        lambda f: dictionary_learning(f, PLAIN | dict(threshold=threshold),
                                      dict_class='JumpReluAutoEncoder'),
        z := jumped(X @ W + B, threshold)*lengths, (z/lengths) @ V + C)}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    store, codes, decoded = CASES[request.param]
    store(tmp_path)
    return tmp_path, codes, decoded


def test_it_encodes_and_decodes_as_its_library_does(case):
    folder, codes, decoded = case
    model = sae.load(folder)
    torch.testing.assert_close(model.encode(X), codes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.decode(codes, X), decoded, atol=1e-4, rtol=1e-4)
    assert 0 < (codes > 0).float().mean() < .9


def test_it_is_written_back_in_the_layout_that_it_came_in(case, tmp_path_factory):
    folder, codes, _ = case
    model, other = sae.load(folder), tmp_path_factory.mktemp('other')
    model.W_dec = 2*model.W_dec
    model.save(other)
    assert {f.name for f in other.iterdir()} == {f.name for f in folder.iterdir()}
    again = sae.load(other)
    assert torch.equal(again.W_dec, model.W_dec) and torch.equal(again.W_enc, model.W_enc)
    for name in ('ae.pt', 'sae.safetensors', 'sae_weights.safetensors'):
        if not (folder/name).exists(): continue
        read = (lambda f: torch.load(f, weights_only=True)) if name == 'ae.pt' else load_file
        before, after = read(folder/name), read(other/name)
        assert {k: (t.shape, t.dtype) for k, t in before.items()} == {
            k: (t.shape, t.dtype) for k, t in after.items()}
        assert sum(not torch.equal(before[k], after[k]) for k in before) == 1


def test_exact_codes_explain_what_they_say(case):
    model = sae.load(case[0])
    codes, gap = model.recode(X, n_nonzero=K, certify=True)
    assert abs((codes > 0).sum(1).float().mean().item() - K) < .5 and gap.max() <= 2e-6
    sparse = model.recode(X, n_nonzero=K, sparse=True)
    assert isinstance(sparse, csr_matrix) and np.allclose(sparse.toarray(), codes, atol=1e-5)
    shrunk = model.recode(X, n_nonzero=K, refit=False)
    seen = model._rows(X)[0] - model.b_dec
    error = lambda Z: (seen - Z @ model.atoms).square().sum(1)
    assert (error(codes) <= error(shrunk) + 1e-4).all()


def test_batchtopk_without_a_threshold_takes_the_largest_of_all_rows(tmp_path):
    dictionary_learning(tmp_path, LINEAR | dict(b_dec=C, k=torch.tensor(K),
                                                threshold=torch.tensor(-1.)),
                        dict_class='BatchTopKSAE', k=K)
    codes = sae.load(tmp_path).encode(X)
    p = relu((X - C) @ w + b)
    assert (codes > 0).sum() == K*len(X)
    assert codes[codes > 0].min() >= p[codes == 0].max()


def test_yaml_beside_the_weights_and_a_path_to_the_file(tmp_path):
    yaml = pytest.importorskip('yaml')
    CASES['saelens topk'][0](tmp_path)
    (tmp_path/'cfg.json').rename(tmp_path/'old')
    (tmp_path/'cfg.yaml').write_text(yaml.safe_dump(json.loads((tmp_path/'old').read_text())))
    model = sae.load(tmp_path/'sae_weights.safetensors')
    assert model.kind == 'topk' and model.k == K


def planted(n=400):
    g = torch.Generator().manual_seed(0)
    A = torch.nn.functional.normalize(draw(L, D, seed=2), dim=1)
    Z = torch.zeros(n, L).scatter_(1, torch.rand(n, L, generator=g).topk(2).indices,
                                   1 + torch.rand(n, 2, generator=g))
    return sae.SAE(A.T, torch.zeros(L), A, torch.zeros(D), kind='topk', k=2), Z, Z @ A


def test_an_audit_counts_what_is_there():
    model, Z, Y = planted()
    audit = model.audit(Y, truth=Z, batch_size=37)
    table = audit.table
    aside = np.unique(np.linspace(0, 399, 40).astype(int))
    scored = np.setdiff1d(np.arange(400), aside)
    own, rows = model.encode(Y[scored]), Y[scored].double()
    explained = 1 - (rows - model.decode(own)).square().sum()/(rows - rows.mean(0)).square().sum()
    assert table.explained.iloc[0] == pytest.approx(explained.item(), abs=1e-6)
    assert table.active.iloc[0] == pytest.approx((own > 0).sum(1).float().mean().item())
    assert (audit.activity[0] == (own > 0).sum(0).numpy()).all()
    truth = Z[scored] > 0
    hits = ((own > 0) & truth).sum()
    assert table.f1.iloc[0] == pytest.approx((2*hits/((own > 0).sum() + truth.sum())).item())
    assert table.explained.iloc[3] > table.explained.iloc[0] and table.f1.iloc[3] > table.f1.iloc[0]
    assert audit.gap.shape == (360,) and audit.gap.max() == table.gap.iloc[3] <= 2e-6
    changed = audit.changed(3)
    assert (changed.change == changed.exact - changed.encoder).all() and len(changed) == 6
    whole = model.audit(Y, truth=Z).table
    assert np.allclose(whole, table, atol=1e-6, equal_nan=True)


def refused(error, cause, call, *args, **options):
    with pytest.raises(error, match=cause): call(*args, **options)


def test_bad_rows_and_weights_are_refused_by_name():
    model, _, Y = planted()
    for call in (model.encode, model.audit, lambda X: model.recode(X, n_nonzero=2)):
        refused(ValueError, r'X has shape \(400, 3\); it must be \(n, 12\)', call, Y[:, :3])
        refused(ValueError, 'X is not finite', call, Y*float('nan'))
    refused(TypeError, 'X is of type list', model.encode, [1])
    refused(ValueError, 'n_nonzero is None and lam None', model.recode, Y)
    refused(ValueError, 'n_nonzero is 2 and lam 0.1', model.recode, Y, n_nonzero=2, lam=.1)
    refused(ValueError, 'n_nonzero is 31', model.recode, Y, n_nonzero=31)
    refused(ValueError, 'an audit needs at least 20', model.audit, Y[:19])
    parts = dict(W_enc=W, b_enc=B, W_dec=V, b_dec=C)
    refused(ValueError, 'W_dec is not finite', sae.SAE, **parts | dict(W_dec=V*float('nan')))
    refused(ValueError, 'W_enc has shape', sae.SAE, **parts | dict(W_enc=V))
    refused(ValueError, "kind is 'tanh'", sae.SAE, **parts, kind='tanh')
    refused(ValueError, 'k is None', sae.SAE, **parts, kind='topk')
    refused(ValueError, 'threshold has shape None', sae.SAE, **parts, kind='jumprelu')
    refused(ValueError, 'was not read from files', model.save, 'nowhere')


BAD = {
    "architecture is 'wavelet'": lambda f: saelens(f, PLAIN, architecture='wavelet'),
    "activation_fn is 'tanh-relu'": lambda f: saelens(f, PLAIN, activation_fn='tanh-relu'),
    "normalize_activations is 'expected_average_only_in'": lambda f: saelens(
        f, PLAIN, normalize_activations='expected_average_only_in'),
    'finetuning_scaling_factor': lambda f: saelens(f, PLAIN, finetuning_scaling_factor=True),
    'weights odd are not known': lambda f: saelens(f, PLAIN | dict(odd=B.clone())),
    "'threshold' is missing": lambda f: saelens(f, PLAIN, architecture='jumprelu'),
    "'k' is missing": lambda f: saelens(f, PLAIN, architecture='topk'),
    'b_dec is not finite': lambda f: saelens(f, PLAIN | dict(b_dec=C*float('inf'))),
    'b_dec has shape': lambda f: saelens(f, PLAIN | dict(b_dec=B.clone())),
    'transcode is True': lambda f: sparsify(f, PLAIN, k=K, transcode=True),
    "activation is 'groupmax'": lambda f: sparsify(f, PLAIN, k=K, activation='groupmax'),
    "dict_class is 'Crosscoder'": lambda f: dictionary_learning(f, LINEAR, dict_class='Crosscoder'),
    'cannot be read': lambda f: (CASES['sparsify'][0](f), (f/'sae.safetensors').write_bytes(b'a')),
    'cfg.json cannot be read': lambda f: (CASES['sparsify'][0](f), (f/'cfg.json').write_text('{')),
    'no table of settings': lambda f: (CASES['sparsify'][0](f), (f/'cfg.json').write_text('[]'))}


@pytest.mark.parametrize('cause', BAD)
def test_what_is_not_known_is_refused_by_name(cause, tmp_path):
    BAD[cause](tmp_path)
    refused(ValueError, cause, sae.load, tmp_path)


class Evil:
    def __reduce__(self): return print, ('code was run',)


def test_a_pickle_runs_no_code(tmp_path, capsys):
    CASES['AutoEncoder'][0](tmp_path)
    (tmp_path/'ae.pt').write_bytes(pickle.dumps(dict(bias=Evil()), protocol=2))
    refused(ValueError, r'ae.pt cannot be read', sae.load, tmp_path)
    assert not capsys.readouterr().out


def test_missing_files_are_named(tmp_path):
    refused(FileNotFoundError, 'has 0 files of weights', sae.load, tmp_path)
    refused(FileNotFoundError, 'there is no file', sae.load, tmp_path/'no')
    save_file(PLAIN, tmp_path/'sae.safetensors')
    refused(FileNotFoundError, 'needs cfg.json', sae.load, tmp_path)
    (tmp_path/'x.bin').touch()
    refused(ValueError, 'x.bin is none of', sae.load, tmp_path/'x.bin')


@pytest.mark.parametrize('end', ['.npy', '.safetensors'])
def test_commands_recode_in_parts_and_go_on(tmp_path, capsys, monkeypatch, end):
    CASES['saelens topk'][0](tmp_path)
    rows, out = tmp_path/f'x{end}', tmp_path/'codes.safetensors'
    if end == '.npy': np.save(rows, X.numpy())
    else: save_file(dict(activations=X), rows)
    assert main(['audit', str(tmp_path), str(rows), '--quiet']) == 0
    ways = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [way['way'] for way in ways] == list(sae._Totals.WAYS)
    command = ['recode', str(tmp_path), str(rows), '--n-nonzero', '3', '--out', str(out),
               '--batch-size', '20', '--quiet']
    recode, calls = sae.SAE.recode, []
    def stopped(self, rows, **options):
        calls.append(len(rows))
        if len(calls) == 3: raise KeyboardInterrupt
        return recode(self, rows, **options)
    monkeypatch.setattr(sae.SAE, 'recode', stopped)
    assert main(command) == 130 and not out.exists()
    assert main(command) == 0 and calls == [20, 20, 20, 20, 4]
    found = load_arrays(out)
    said = json.loads(capsys.readouterr().out)
    whole = recode(sae.load(tmp_path), X, lam=said['lam'], sparse=True)
    codes = csr_matrix((found['values'], found['indices'], found['indptr']), found['shape'])
    assert np.allclose(codes.toarray(), whole.toarray(), atol=1e-5)
    assert [*tmp_path.glob('*.parts')] == []


def test_commands_refuse_by_name(tmp_path, capsys):
    CASES['saelens topk'][0](tmp_path)
    np.save(tmp_path/'narrow.npy', X[:, :3].numpy())
    np.save(tmp_path/'nan.npy', X.numpy()*np.nan)
    (tmp_path/'text.npy').write_text('a')
    for name, cause in (('narrow.npy', 'has shape'), ('nan.npy', 'not finite'),
                        ('text.npy', 'neither .npy'), ('no.npy', 'no file')):
        assert main(['audit', str(tmp_path), str(tmp_path/name), '--quiet']) == 1
        assert cause in capsys.readouterr().err
