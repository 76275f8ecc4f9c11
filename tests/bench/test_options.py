"""What is to be measured is checked before anything slow begins."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srgan_fast.bench import ImageSize, InferenceOptions, parse_size
from srgan_fast.bench.workload import LARGEST_SIDE
from srgan_fast.errors import UsageError

SIDES = st.integers(1, LARGEST_SIDE)


@given(SIDES, SIDES)
def test_a_size_is_read_back(height: int, width: int) -> None:
    assert parse_size(str(ImageSize(height, width))) == (height, width)


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), (" 9X12 ", (9, 12)), ("1x1", (1, 1)), ("007x08", (7, 8))])
def test_a_size_may_be_written_otherwise(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "-1x4", "4.5x4", "4x4x4", "a", "4 x 4", "٣x٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="it must be HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "0x5", "5x0", f"{LARGEST_SIDE + 1}x1", "9" * 5000])
def test_sides_that_no_image_has_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"sides must lie between 1 and {LARGEST_SIDE}"):
        parse_size(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": (2, 0)}, "threads is 0"),
        ({"streams": 0}, "streams is 0"),
        ({"batches": ()}, "no batch or no size is given"),
        ({"batches": (1, 0)}, "batch is 0"),
        ({"batches": (10**6,)}, "batch is 1000000; it must lie between 1 and 4096"),
        ({"duration_s": -1.0}, "duration is -1"),
        ({"duration_s": float("nan")}, "duration is nan"),
        ({"warm_up_ms": float("inf")}, "warm-up is inf"),
        ({"percentiles": (50.0, 100.0)}, "percentile is 100; it must lie between 0 and 100"),
        ({"percentiles": (float("nan"),)}, "percentile is nan"),
        ({"rounds": 0}, "rounds is 0"),
        ({"sizes": ()}, "no batch or no size is given"),
        ({"sizes": (ImageSize(0, 4),)}, "size is 0x4"),
        ({"precisions": ("fp64",)}, "precision is 'fp64'; there are fp32, bf16, fp16, int8"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InferenceOptions(**values)
