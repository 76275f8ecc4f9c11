"""JSON text of plain values."""

import json
import math
from typing import Any


def as_json(value: Any) -> str:
    """Indented JSON of dictionaries, lists and plain values.

    Values that JSON cannot represent are null, such as the infinite PSNR of equal images.
    """
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
