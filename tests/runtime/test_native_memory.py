"""The native engine's memory: what it says is what it takes, it does not grow with the height, and nothing leaks."""

import pytest

from tests.peak_memory import with_tests

from .native_layers import engine, in_new_python

pytest.importorskip("resource")  # not on Windows


@pytest.mark.parametrize("precision", ["fp32"])
def test_working_memory_depends_on_the_width_only(precision: str) -> None:
    made = engine(2, precision, channels=32)
    for width in (5, 700):
        assert made.working_memory(9000, width) <= 1.02 * made.working_memory(3000, width) + (1 << 20)


def test_the_end_of_an_image_takes_no_more_memory_than_its_middle() -> None:
    # If all layers finished at once after the last row, the later ones would do 34 rows more at a time: 226 in all.
    rows = engine(2, channels=64, blocks=16).working_memory(600, 2000) / (2000 * 64 * 4)
    assert rows < 200


LARGE = """
import numpy as np
from native_layers import engine
from tests.peak_memory import peak_memory, reset_peak
made = engine(2, channels=64, blocks=4)
image = np.zeros((600, 3840, 3), np.uint8)
need = made.working_memory(*image.shape[:2])
made.run(image[:8, :8].copy())  # starts the threads
given = np.ones((2400, 15360, 3), np.uint8)  # as the result will be; malloc gives such sizes back to the system
before = reset_peak()
del given

class Enough(Exception):
    pass

def stop(rows):
    if rows >= 600:  # long after everything was taken; the rest would be the same again
        raise Enough

try:
    made.run(image, stop)
except Enough:
    pass
print(need, peak_memory() - before)
"""


def test_a_large_picture_takes_what_was_said_and_at_most_300_mb() -> None:
    need, growth = map(int, in_new_python(LARGE, **with_tests()).split())
    assert need <= 300e6
    assert growth <= need + 8e6, "rounding to pages, and Python's own"


LEAK = """
import gc, resource, sys
import numpy as np
from native_layers import engine, layers, noise
from srgan_fast import _engine
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
image, floats = noise(60, 70, np.uint8), noise(31, 17)
bad = layers(channels=64)
bad["layers"][-1] = (*bad["layers"][-1][:3], bad["layers"][-1][3][:2].copy(), *bad["layers"][-1][4:])
def stop(rows):
    raise KeyError(rows)
def once():
    made = engine(3, channels=64)
    for given in (image, floats, image[::-1]):
        made.run(given)
    for call in (
        lambda: made.run(image, stop),
        lambda: made.run(floats[:2]),
        lambda: _engine.Engine(**bad, precision="fp32", threads=1),
    ):
        try:
            call()
        except (KeyError, ValueError):
            pass
for _ in range(6):
    once()
gc.collect()
before = resident()
for _ in range(30):
    once()
gc.collect()
print(resident() - before)
"""


def test_engines_that_come_and_go_leave_nothing_behind() -> None:
    # Each has 1 MB of weights and works in about 4.
    assert int(in_new_python(LEAK)) <= 6e6
