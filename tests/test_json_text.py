"""JSON text holds only what JSON can represent."""

import json
import math

from srgan_fast.json_text import as_json


def test_values_that_are_not_finite_are_null() -> None:
    text = as_json({"psnr": [math.inf, 40.0], "row": {"error": math.nan, "name": "a"}})
    assert json.loads(text) == {"psnr": [None, 40.0], "row": {"error": None, "name": "a"}}
