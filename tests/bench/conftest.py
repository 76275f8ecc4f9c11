"""The registry of backends stays as it is, whatever a test takes from it or adds."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from srgan_fast.runtime import BACKENDS


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Brings back the order, too, which `auto` follows: monkeypatch puts what it took away at the end."""
    with patch.dict(BACKENDS):
        yield
