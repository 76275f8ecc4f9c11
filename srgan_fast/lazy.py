"""Lazy imports of a package's names, so that importing the package stays cheap."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes a module's `__getattr__` (PEP 562).

    Args:
        package: name of the module.
        homes: module of each name.

    Returns:
        A function that imports the module of a name; raises AttributeError for other names.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return find
