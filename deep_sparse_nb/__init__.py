"""Sparse coding with linear and multi-layer decoders, under variance regularization.

`SparseCoder` has scikit-learn's interface. Beneath it, `Energy` says what is minimized, `fista` infers
codes under a decoder, and `train` learns an `Autoencoder`, alone or as a stack of many.
Each name below is imported when it is asked for: without them, the package needs no PyTorch.
"""
__version__ = "0.1.0"

from importlib import import_module as _import

_HOMES = dict(
    SparseCoder='estimator', Energy='energy', planted='energy', fista='inference',
    Problem='inference', Solver='iteration', solve='inference', certificate='inference',
    lipschitz='inference', exact_codes='kernels.active_set', LinearDecoder='decoders',
    HiddenDecoder='decoders', ConvDecoder='convolution', stack='stacks', LISTA='encoders',
    Autoencoder='model', Recipe='paper.recipes', recipe='paper.recipes', Run='training',
    train='training', evaluate='training', save='checkpoints', restore='checkpoints',
    load='data.datasets', own_data='data.datasets', Scaling='data.arrays', psnr='metrics',
    explained_variance='metrics', sparsity='metrics', match='metrics', denoise='pictures',
    inpaint='pictures')
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(_import(f'.{_HOMES[name]}', __name__), name)
    return value


def __dir__(): return sorted({*globals(), *_HOMES})
