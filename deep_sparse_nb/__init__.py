__version__ = "0.1.0"


def __getattr__(name):
    "`SparseCoder`, imported when it is asked for: without it, the package needs no PyTorch."
    if name != 'SparseCoder': raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .estimator import SparseCoder
    return SparseCoder


def __dir__(): return [*globals(), 'SparseCoder']
