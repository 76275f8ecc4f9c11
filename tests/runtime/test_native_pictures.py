"""Pictures of 8 and 16 bits through the native engine: rounding, progress, exceptions and interruptions."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast import _engine
from srgan_fast.data.images import Image, encode_image
from srgan_fast.errors import BackendError, ImageError
from srgan_fast.runtime.tiling import Tile
from srgan_fast.upscale import Upscaler

from .native_layers import engine, layers, noise

DTYPES = [np.uint8, np.uint16]
SIZES = [(1, 1), (1, 17), (13, 1), (7, 11), (40, 30), (300, 64), (9, 2000)]


@pytest.fixture(scope="module", params=[1, 3], ids=["1 thread", "3 threads"])
def native(request: pytest.FixtureRequest, tiny_model: Path) -> Upscaler:
    return Upscaler(tiny_model, backend="native", threads=request.param, border="zero")


@pytest.mark.parametrize("isa", _engine.isas())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_the_rounded_and_clamped_float_result(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], dtype: Any, isa: str
) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    native = Upscaler(tiny_model, backend="native", threads=2, border="zero")
    image, white = noise(*size, dtype), np.iinfo(dtype).max
    floats = native.run((image.transpose(2, 0, 1)[None] / np.float32(white)).astype(np.float32))
    result = native(image)
    assert result.dtype == dtype
    assert result.shape == (4 * size[0], 4 * size[1], 3)
    # Not numpy's float32 product, which meets one tie in 500 at 16 bits: where there is a fused multiply-add, the exact
    # product is rounded, once.
    product = np.clip(floats[0].transpose(1, 2, 0), 0, 1).astype(np.float64) * white
    np.testing.assert_array_equal(result, np.rint(np.float32(product) if isa == "baseline" else product))


@pytest.mark.parametrize("isa", _engine.isas())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [-np.inf, -1e30, -0.001, 0.0, 1.0, 1.001, 1e30, np.inf])
def test_overshoot_is_clamped_and_never_wraps(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, value: float, isa: str
) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    plain = layers(channels=4, blocks=0)
    _, _, weight, bias, *_ = plain["layers"][-1]
    weight.fill(0)
    bias.fill(value)
    result = _engine.Engine(**plain, precision="fp32", threads=1).run(noise(3, 5, dtype))
    assert (result == min(max(value, 0.0), 1.0) * np.iinfo(dtype).max).all()


@pytest.mark.parametrize("dtype", [*DTYPES, np.float32])
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (50, 7), (300, 20)], ids=str)
def test_rows_are_reported_in_order_up_to_the_last(stages: int, size: tuple[int, int], dtype: Any) -> None:
    reports: list[int] = []
    result = engine(2, stages=stages, channels=32, blocks=0).run(noise(*size, dtype), reports.append)
    assert reports == sorted(reports)
    assert reports[0] >= 0
    assert reports[-1] == size[0] << stages == result.shape[1 if dtype == np.float32 else 0]


@pytest.mark.parametrize("size", [(1, 1), (50, 7), (2000, 40)], ids=str)
def test_tiles_cover_every_row_once_and_in_order(native: Upscaler, size: tuple[int, int]) -> None:
    tiles: list[Tile] = []
    native(noise(*size, np.uint8), tiles.append)
    assert [tile.top for tile in tiles] == [0, *(tile.bottom for tile in tiles[:-1])]
    assert tiles[-1].bottom == size[0]
    assert sum(tile.area for tile in tiles) == size[0] * size[1]
    if size[0] > 1000:
        assert len(tiles) > 1, "the bar of a large picture moves"


class OwnError(Exception):
    pass


@pytest.mark.parametrize("kind", [OwnError, KeyboardInterrupt, MemoryError, ImageError])
@pytest.mark.parametrize("after", [0, 1])
def test_an_exception_from_the_callback_ends_the_run_and_comes_out_unchanged(
    tiny_model: Path, kind: type[BaseException], after: int
) -> None:
    native, image = Upscaler(tiny_model, backend="native", threads=2, border="zero"), noise(2000, 40, np.uint8)
    expected = native(image)
    thrown, calls = kind("stop"), 0

    def stop(tile: Tile) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise thrown

    for _ in range(2):
        calls = 0
        with pytest.raises(kind) as caught:
            native(image, stop)
        assert caught.value is thrown
        assert calls == after + 1, "nothing was called after it"
        np.testing.assert_array_equal(native(image), expected)


def test_an_engine_passes_an_exception_on_for_floats_too() -> None:
    shared, image = engine(2), noise(30, 31)
    expected = shared.run(image)
    with pytest.raises(OwnError, match="rows"):
        shared.run(image, lambda rows: (_ for _ in ()).throw(OwnError(f"{rows} rows")))
    np.testing.assert_array_equal(shared.run(image), expected)


def test_a_callback_that_cannot_be_called_is_a_type_error() -> None:
    shared: Any = engine()
    with pytest.raises(TypeError, match="not callable"):
        shared.run(noise(3, 3), 5)
    assert shared.run(noise(3, 3)).shape == (3, 12, 12)


def test_a_failure_of_the_engine_is_ours_and_names_the_size(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = Upscaler(tiny_model, backend="native", border="zero")

    def fail(*_: Any) -> Any:
        raise RuntimeError("\nno thread\n")

    monkeypatch.setattr(native.backend, "upscale", fail)
    with pytest.raises(BackendError, match=r"^native failed on 5x4 pixels \(no thread\)$") as caught:
        native(noise(4, 5, np.uint8))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal there only")
@pytest.mark.parametrize("isa", [_engine.isas()[0], _engine.isas()[-1]])
def test_ctrl_c_stops_a_long_run_soon(tmp_path: Path, isa: str) -> None:
    source = tmp_path / "large.png"
    source.write_bytes(encode_image(Image(np.zeros((4000, 3000, 3), np.uint8)), "png"))
    # Where the tests run in the background, SIGINT is ignored, and children inherit that.
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from srgan_fast.cli import main
from srgan_fast.runtime.upscaler import Upscaler
inner = Upscaler._by_rows
def announced(self, *arguments):
    print("begins", flush=True)
    return inner(self, *arguments)
Upscaler._by_rows = announced
main()
"""
    target = tmp_path / "out.png"
    command = [sys.executable, "-c", code, "upscale", str(source), "-o", str(target), "--backend", "native"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "SRGAN_FAST_ISA": isa}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)  # the whole run takes minutes
    assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted; no partial files are left")
    assert list(tmp_path.iterdir()) == [source]
