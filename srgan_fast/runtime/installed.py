"""Which modules can be imported, without importing them."""

import importlib.util


def is_installed(module: str) -> bool:
    """Whether it is there; a folder of nothing but type stubs is not."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a package above it is missing, or a stand-in without a spec was put there
        return False
    if spec is None:
        return False
    # A folder without code comes out as a namespace: a package that comes from nowhere.
    namespace = getattr(spec, "submodule_search_locations", None) is not None and spec.origin is None
    return not namespace
