"""Loads the library of torch operators, and says why it is not there."""

import importlib


def _load() -> str | None:
    try:
        importlib.import_module("srgan_fast._C")
    except ModuleNotFoundError:
        return (
            "this installation has no fused kernels, since it was built without PyTorch; install PyTorch and build "
            "again: pip install --no-build-isolation --force-reinstall --no-deps srgan_fast"
        )
    except (ImportError, OSError) as error:
        return f"the fused kernels cannot be loaded: {error}"
    return None


_PROBLEM = _load()  # not at the first question, which torch.compile would trace


def available() -> bool:
    """Whether the fused operators can be used in this process."""
    return _PROBLEM is None


def why_not() -> str | None:
    """What is in the way of the fused operators, in a sentence; None for nothing."""
    return _PROBLEM
