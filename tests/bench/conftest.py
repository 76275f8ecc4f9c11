"""The registry of backends stays as it is, whatever a test takes from it or adds; `reports` can be imported."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from srgan_fast.runtime import BACKENDS

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it out


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Brings back the order, too, which `auto` follows: monkeypatch puts what it took away at the end."""
    with patch.dict(BACKENDS):
        yield


@pytest.fixture
def say_unless() -> Callable[[bool, str], None]:
    """Warns of what others on the machine can make untrue at any time, so that no test fails by it."""

    def say(expected: bool, what: str) -> None:
        if not expected:
            warnings.warn(f"not judged, the machine is too busy: {what}", stacklevel=2)

    return say
