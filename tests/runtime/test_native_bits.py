"""The native engine gives the same bits whatever ran before, beside it, or on how many threads."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from srgan_fast import _engine

from .native_layers import engine, in_new_python, layers, noise

ISAS = _engine.isas()
PRECISIONS = ["fp32", *(["bf16"] if "avx512_bf16" in ISAS else [])]
SIZES = [(1, 1), (1, 37), (29, 1), (13, 19), (64, 48), (5, 1200), (900, 3), (150, 260)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_thread_count_does_not_change_a_bit(precision: str, size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = engine(1, precision).run(image)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(engine(threads, precision).run(image), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_thread_count_does_not_change_a_bit_on_any_instruction_set(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    image = noise(33, 71)
    expected = engine(1, channels=24).run(image)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(engine(threads, channels=24).run(image), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_repeated_runs_and_runs_after_other_sizes_are_the_same(precision: str) -> None:
    images = [noise(*size) for size in SIZES]
    expected = [engine(2, precision).run(image) for image in images]
    shared = engine(2, precision)
    for i in (0, 3, 3, 7, 3, 6, 1, 4, 4, 0, 5, 2, 7):
        np.testing.assert_array_equal(shared.run(images[i]), expected[i])


@pytest.mark.parametrize("size", [(1, 1), (13, 19), (64, 45), (300, 50)], ids=str)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("isa", ISAS)
def test_nothing_of_an_image_is_left_for_the_next(
    monkeypatch: pytest.MonkeyPatch, isa: str, precision: str, size: tuple[int, int]
) -> None:
    if precision == "bf16" and isa not in ("avx512_bf16", "amx"):
        pytest.skip("no bf16 on this instruction set")
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    shared, image = engine(2, precision), noise(*size)
    expected = shared.run(image)
    for poison in (np.nan, np.inf, -1e38):
        shared.run(np.full((3, *size), poison, np.float32))  # fills all of its memory
        np.testing.assert_array_equal(shared.run(image), expected)


FRESH_MEMORY = """
import hashlib
from native_layers import engine, noise
digest = hashlib.sha256()
for threads, size in ((1, (1, 1)), (2, (13, 19)), (3, (200, 61))):
    for stages, channels in ((1, 16), (2, 24), (3, 8)):
        digest.update(engine(threads, stages=stages, channels=channels).run(noise(*size)).tobytes())
print(digest.hexdigest())
"""


def test_what_fresh_memory_holds_does_not_matter() -> None:
    # glibc fills what malloc gives by the inverse of that byte: 0x7f7f7f7f is 3e38 as a float, 0xc0c0c0c0 is -6.
    digests = {in_new_python(FRESH_MEMORY, MALLOC_PERTURB_=str(byte)) for byte in (0, 0x80, 0x3F)}
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_several_engines_do_not_disturb_each_other(dtype: type) -> None:
    sizes = [{"channels": 16}, {"channels": 32, "blocks": 2}, {"channels": 8, "stages": 1}, {"stages": 3}]
    image = noise(17, 40, dtype)
    expected = [engine(**size).run(image) for size in sizes]
    together = [engine(2, **size) for size in sizes]
    with ThreadPoolExecutor(len(sizes)) as threads:
        for _ in range(5):
            results = threads.map(lambda e: e.run(image), together)
            for got, right in zip(results, expected, strict=True):
                np.testing.assert_array_equal(got, right)


def test_python_threads_may_share_one_engine() -> None:
    images = [noise(9 + i % 3, 40 - i % 2, (np.uint8, np.float32)[i % 2], seed=i) for i in range(24)]
    expected = [engine().run(image) for image in images]
    shared, reports = engine(3), list[int]()
    with ThreadPoolExecutor(6) as threads:
        for got, right in zip(threads.map(lambda x: shared.run(x, reports.append), images), expected, strict=True):
            np.testing.assert_array_equal(got, right)
    assert len(reports) >= len(images)


def test_an_engine_outlives_the_arrays_it_was_made_of() -> None:
    given = layers()
    made = _engine.Engine(**given, precision="fp32", threads=1)
    for _, _, weight, bias, slope, _, _ in given["layers"]:
        for array in (weight, bias, slope):
            if array is not None:
                array.fill(np.nan)
    image = noise(5, 6)
    np.testing.assert_array_equal(made.run(image), engine().run(image))


FORK = """
import os, sys, warnings
import numpy as np
from native_layers import engine, noise
warnings.simplefilter("ignore")
threads, ran_before = int(sys.argv[1]), sys.argv[2] == "ran"
image = noise(70, 64)
expected = engine().run(image)
engines = [engine(threads) for _ in range(int(sys.argv[3]))]
if ran_before:
    for e in engines:
        assert np.array_equal(e.run(image), expected)
for generation in range(2):
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        for e in engines:
            assert np.array_equal(e.run(image), expected)
        assert status == 0, f"the child of generation {generation} ended by {status}"
        engines.clear()
        sys.exit(0)
    for _ in range(3):
        for e in engines:
            assert np.array_equal(e.run(image), expected)
engines.clear()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("before", ["ran", "fresh"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_engine_works_in_the_child_of_a_fork(threads: int, before: str) -> None:
    in_new_python(FORK, threads, before, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_several_engines_work_in_the_child_of_a_fork() -> None:
    in_new_python(FORK, 3, "ran", 2)


@contextmanager
def one_cpu() -> Iterator[None]:
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound on this system")
def test_more_threads_than_processors_only_take_turns() -> None:
    image = noise(40, 50)
    expected = engine().run(image)
    with one_cpu():
        np.testing.assert_array_equal(engine(7).run(image), expected)
