"""Which modules can be imported, and which packages are installed, without importing them."""

import importlib.metadata
import importlib.util


def is_installed(module: str) -> bool:
    """Whether the module exists; a folder of type stubs only does not count."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent package is missing, or a test double without a spec is installed
        return False
    if spec is None:
        return False
    # A folder without code is found as a namespace package without origin.
    namespace = getattr(spec, "submodule_search_locations", None) is not None and spec.origin is None
    return not namespace


def version_of(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
