"""What the native engine cannot use is a Python exception that says so, and never a crash."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast import _engine
from srgan_fast.errors import BackendError, ImageError, SrganFastError
from srgan_fast.runtime import upscaler as upscaler_module
from srgan_fast.upscale import Upscaler

from .native_layers import engine, in_new_python, layers, noise


@pytest.fixture(scope="module")
def shared() -> Any:
    return engine(2)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((3, 4, 4)), TypeError, "must be uint8, uint16 or float32, got float64"),
        (np.zeros((3, 4, 4), np.float16), TypeError, "got float16"),
        (np.zeros((4, 4, 3), np.int8), TypeError, "got int8"),
        (np.zeros((4, 4, 3), bool), TypeError, "got bool"),
        (np.zeros((4, 4, 3), object), TypeError, "got object"),
        (np.zeros((4, 4, 3), ">u2"), TypeError, "got >u2"),
        (np.zeros((3, 4, 4), ">f4"), TypeError, "got >f4"),
        (np.zeros((4, 4, 3), "V1"), TypeError, "got .*V1"),
        ([[[1, 2, 3]]], TypeError, "incompatible function arguments"),
        (None, TypeError, "incompatible function arguments"),
        (np.zeros((), np.uint8), ValueError, r"shape \(H, W, 3\), got \(\)"),
        (np.zeros((4, 3), np.uint8), ValueError, r"got \(4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), ValueError, r"got \(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"got \(4, 4, 4\)"),
        (np.zeros((3, 4, 4), np.uint16), ValueError, r"got \(3, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), ValueError, r"shape \(3, H, W\), got \(4, 4, 3\)"),
        (np.zeros((1, 3, 4, 4), np.float32), ValueError, r"got \(1, 3, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "must have 1 to 1048576 pixels a side, got 0 x 4"),
        (np.zeros((4, 0, 3), np.uint8), ValueError, "got 4 x 0"),
        (np.zeros((3, 0, 0), np.float32), ValueError, "got 0 x 0"),
        (np.broadcast_to(np.uint8(0), (1 << 21, 1, 3)), ValueError, "got 2097152 x 1"),
        (np.broadcast_to(np.float32(0), (3, 1, 1 << 40)), ValueError, "got 1 x 1099511627776"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_another_kind_are_refused(shared: Any, image: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shared.run(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_that_memory_cannot_hold_is_a_memory_error(shared: Any, dtype: type) -> None:
    shape = (3, 1 << 20, 1 << 20) if dtype == np.float32 else (1 << 20, 1 << 20, 3)
    with pytest.raises(MemoryError):
        shared.run(np.broadcast_to(dtype(0), shape))


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned": lambda a: a[::-1, ::-1],
    "colours reversed": lambda a: a[:, :, ::-1] if a.shape[2] == 3 else a[::-1],
    "strided": lambda a: a[::2, 1::3] if a.shape[2] == 3 else a[:, ::2, 1::3],
    "transposed": lambda a: a.transpose(1, 0, 2) if a.shape[2] == 3 else a.transpose(0, 2, 1),
    "Fortran": np.asfortranarray,
    "broadcast": lambda a: (
        np.broadcast_to(a[:1, :1, :], a.shape) if a.shape[2] == 3 else np.broadcast_to(a[:, :1], a.shape)
    ),
    "a subclass": lambda a: a.view(np.ma.MaskedArray),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_any_memory_layout_gives_the_same(shared: Any, view: Any, dtype: Any) -> None:
    image = view(noise(14, 15, dtype))
    np.testing.assert_array_equal(shared.run(image), shared.run(np.array(image, order="C", subok=False)))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_unaligned_pixels_give_the_same(shared: Any, dtype: Any) -> None:
    image = noise(5, 6, dtype)
    moved = np.frombuffer(b"\0" + image.tobytes(), np.uint8)[1:].view(dtype).reshape(image.shape)
    assert not moved.flags.aligned
    np.testing.assert_array_equal(shared.run(moved), shared.run(image))


NAME, INPUTS, WEIGHT, BIAS, SLOPE, RESIDUALS, SHUFFLE = range(7)  # the parts of a layer
HEAD, FIRST, SECOND, FUSE, UPSAMPLE, LAST_UPSAMPLE, TAIL = range(7)  # the layers of `layers()`


def _changed(layer: int, part: int, value: Any) -> dict[str, Any]:
    """The arguments of a good engine with one part of one layer replaced."""
    given = layers()
    old = given["layers"][layer]
    given["layers"][layer] = tuple(value(x) if i == part else x for i, x in enumerate(old))
    return given


ARRAYS: dict[str, tuple[Any, type[Exception]]] = {
    "float64": (lambda a: a.astype(np.float64), TypeError),
    "float16": (lambda a: a.astype(np.float16), TypeError),
    "int32": (lambda a: a.astype(np.int32), TypeError),
    "big-endian": (lambda a: a.astype(">f4"), TypeError),
    "negative strides": (lambda a: a[::-1], TypeError),
    "strided": (lambda a: np.repeat(a, 2, 0)[::2], TypeError),
    "a list": (lambda a: a.tolist(), TypeError),
    "text": (lambda a: "weights", TypeError),
    "empty": (lambda a: a[:0], ValueError),
    "longer": (lambda a: np.concatenate([a, a[:1]]), ValueError),
    "shorter": (lambda a: a[1:].copy(), ValueError),
}


@pytest.mark.parametrize("part", [WEIGHT, BIAS], ids=["weight", "bias"])
@pytest.mark.parametrize("layer", [HEAD, FIRST, FUSE, LAST_UPSAMPLE, TAIL])
@pytest.mark.parametrize(("change", "error"), ARRAYS.values(), ids=ARRAYS)
def test_wrong_arrays_of_layers_are_refused(change: Any, error: type[Exception], layer: int, part: int) -> None:
    with pytest.raises(error, match=layers()["layers"][layer][NAME]):
        _engine.Engine(**_changed(layer, part, change), precision="fp32", threads=1)


@pytest.mark.parametrize(
    ("layer", "part", "change", "error", "message"),
    [
        (HEAD, WEIGHT, lambda a: a[..., :7].copy(), ValueError, r"weight must have shape \(out, in, k, k\)"),
        (HEAD, WEIGHT, lambda a: a[..., :7, :7].copy(), ValueError, "no kernel for a convolution of 7x7"),
        (HEAD, WEIGHT, lambda a: a[0], ValueError, "weight must have shape"),
        (HEAD, WEIGHT, lambda a: np.zeros((1 << 40, 0, 9, 9), np.float32), ValueError, "0 input and 1099511627776"),
        (HEAD, WEIGHT, lambda a: np.zeros((0, 3, 9, 9), np.float32), ValueError, "0 output channels"),
        (HEAD, WEIGHT, lambda a: a.reshape(-1), ValueError, "weight must have shape"),
        (SECOND, WEIGHT, lambda a: a.reshape(16, 9, 4, 4), ValueError, "no kernel for a convolution of 4x4"),
        (FIRST, WEIGHT, lambda a: np.zeros((16, 15, 3, 3), np.float32), ValueError, r"\(16, 15, 3, 3\).*expected"),
        (UPSAMPLE, WEIGHT, lambda a: np.zeros((18, 16, 3, 3), np.float32), ValueError, "18"),
        (TAIL, WEIGHT, lambda a: np.zeros((4, 16, 9, 9), np.float32), ValueError, "tail: bias has 3"),
        (HEAD, WEIGHT, lambda a: None, TypeError, "float32 arrays"),
        (TAIL, BIAS, lambda a: None, TypeError, "float32 arrays"),
        (HEAD, SLOPE, lambda a: a[:0], ValueError, "slope is empty"),
        (HEAD, SLOPE, lambda a: a[:7].copy(), ValueError, "7 slopes, expected none, 1 or 16"),
        (HEAD, SLOPE, lambda a: a[::-1], TypeError, "float32 arrays"),
        (UPSAMPLE, SLOPE, lambda a: a[:16].copy(), ValueError, "16 slopes, expected none, 1 or 64"),
        (TAIL, SLOPE, lambda a: np.ones(3, np.float32), ValueError, "no kernel|only from an image"),
        (FIRST, INPUTS, lambda a: (), ValueError, "it has no inputs"),
        (FIRST, INPUTS, lambda a: (2,), ValueError, "reads a value that is not there yet"),
        (FIRST, INPUTS, lambda a: (-1,), ValueError, "reads a value that is not there yet"),
        (FIRST, INPUTS, lambda a: (1, 1), ValueError, r"expected \(16, 32, 3, 3\)"),
        (FIRST, INPUTS, lambda a: "first", (TypeError, RuntimeError), ""),
        (SECOND, RESIDUALS, lambda a: [(0, 1.0)], ValueError, "its residual is the image"),
        (SECOND, RESIDUALS, lambda a: [(3, 1.0)], ValueError, "its residual is the image or a value that is not"),
        (SECOND, RESIDUALS, lambda a: [1], (TypeError, RuntimeError), ""),
        (UPSAMPLE, RESIDUALS, lambda a: [(1, 1.0)], ValueError, "residual has another shape"),
        (UPSAMPLE, SHUFFLE, lambda a: 3, ValueError, "a pixel shuffle by 3 does not fit 64 channels"),
        (UPSAMPLE, SHUFFLE, lambda a: 0, ValueError, "a pixel shuffle by 0"),
        (UPSAMPLE, SHUFFLE, lambda a: 1 << 40, ValueError, "a pixel shuffle by 1099511627776"),
        (LAST_UPSAMPLE, SHUFFLE, lambda a: 4, ValueError, r"weight has shape"),
        (FUSE, NAME, lambda a: None, (TypeError, RuntimeError), ""),
    ],
)
def test_layers_that_do_not_fit_together_are_refused(
    layer: int, part: int, change: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _engine.Engine(**_changed(layer, part, change), precision="fp32", threads=1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"precision": "int8"}, ValueError),
        ({"precision": ""}, ValueError),
        ({"precision": None}, TypeError),
        ({"threads": 0}, ValueError),
        ({"threads": -3}, ValueError),
        ({"threads": 1 << 40}, TypeError),
        ({"threads": 1.5}, TypeError),
        ({"threads": None}, TypeError),
        ({"layers": []}, ValueError),
        ({"layers": None}, TypeError),
        ({"layers": [None]}, (TypeError, RuntimeError)),
        ({"layers": [3]}, (TypeError, RuntimeError)),
        ({"layers": layers()["layers"][:-1]}, ValueError),
        ({"layers": layers()["layers"][1:]}, ValueError),
        ({"layers": [layers()["layers"][0][:3]]}, ValueError),
        ({"channels": 0}, ValueError),
        ({"channels": 5}, ValueError),
        ({"channels": 1}, ValueError),
        ({"unshuffle": 0}, ValueError),
        ({"unshuffle": 2}, ValueError),
        ({"skip": "cubic"}, ValueError),
        ({"skip": None}, TypeError),
        ({"input_map": ((1.0, 1.0), (0.0, 0.0, 0.0))}, ValueError),
        ({"output_map": None}, TypeError),
        ({"tanh": "yes"}, TypeError),
    ],
    ids=str,
)
def test_other_arguments_of_an_engine_are_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        _engine.Engine(**{**layers(), "precision": "fp32", "threads": 1, **changes})


def test_a_layer_whose_result_nobody_reads_is_refused() -> None:
    given = layers()
    given["layers"][FUSE] = (*given["layers"][FUSE][:INPUTS], (1,), *given["layers"][FUSE][WEIGHT:])
    with pytest.raises(ValueError, match="block 0, second: its result is not used"):
        _engine.Engine(**given, precision="fp32", threads=1)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-1, 5), ((1 << 20) + 1, 1), (1, 1 << 40)])
def test_sizes_that_no_image_has_are_refused(shared: Any, height: int, width: int) -> None:
    with pytest.raises(ValueError, match="must have 1 to 1048576 pixels a side"):
        shared.working_memory(height, width)


def test_memory_for_the_largest_size_is_counted_without_being_taken(shared: Any) -> None:
    assert shared.working_memory(1 << 20, 1 << 20) > 1 << 30
    assert shared.run(noise(3, 3)).shape == (3, 12, 12)


def test_an_engine_cannot_be_copied(shared: Any) -> None:
    copy = importlib.import_module("copy")
    for make in (copy.copy, copy.deepcopy, importlib.import_module("pickle").dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            make(shared)


def test_an_engine_that_was_never_initialised_is_no_crash() -> None:
    in_new_python("""
from srgan_fast._engine import Engine
try:
    Engine.__new__(Engine).isa
except Exception:
    pass
""")


MANY_THREADS = """
import resource
from native_layers import engine, noise
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
made, image = engine(100), noise(64, 64)
expected = engine().run(image)
resource.setrlimit(resource.RLIMIT_AS, (size + (400 << 20), resource.RLIM_INFINITY))
try:
    made.run(image)
    raise SystemExit("100 threads were started")
except (RuntimeError, MemoryError) as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert (made.run(image) == expected).all()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
def test_threads_that_cannot_be_started_are_an_error_and_the_next_run_works() -> None:
    in_new_python(MANY_THREADS)


ASKED_WHILE_RUNNING = """
import threading
from native_layers import engine, noise
made, image = engine(2, channels=48, blocks=3), noise(300, 300)
running = threading.Event()
thread = threading.Thread(target=made.run, args=(image, lambda rows: running.set()))
thread.start()
running.wait()
made.layer_times()
thread.join()
"""


def test_layer_times_may_be_asked_for_while_another_thread_runs() -> None:
    in_new_python(ASKED_WHILE_RUNNING)


USED_BY_ITS_CALLBACK = """
from native_layers import engine, noise
made = engine()
try:
    made.run(noise(9, 9), lambda rows: made.run(noise(5, 5)))
except RuntimeError as error:
    print(error)
assert made.run(noise(9, 9)).shape == (3, 36, 36)
"""


def test_a_callback_that_uses_its_own_engine_does_not_hang() -> None:
    in_new_python(USED_BY_ITS_CALLBACK)


@pytest.fixture(scope="module")
def native(tiny_model: Path) -> Upscaler:
    return Upscaler(tiny_model, backend="native", threads=2)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 3), ">u2"),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint16),
        np.broadcast_to(np.uint8(0), (1 << 20, 1 << 20, 3)),
        np.broadcast_to(np.uint8(0), (1 << 40, 1 << 21, 3)),
    ],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_upscaler_refuses_what_is_no_image(native: Upscaler, image: np.ndarray) -> None:
    with pytest.raises(ImageError):
        native(image)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 3, 4, 4)),
        np.zeros((1, 3, 4, 4), ">f4"),
        np.zeros((3, 4, 4), np.float32),
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((0, 3, 4, 4), np.float32),
        np.zeros((1, 3, 0, 4), np.float32),
        np.full((1, 3, 4, 4), np.nan, np.float32),
        np.full((1, 3, 4, 4), np.inf, np.float32),
    ],
    ids=lambda x: f"{x.shape} {x.dtype}",
)
def test_upscaler_refuses_what_are_no_float_images(native: Upscaler, x: np.ndarray) -> None:
    with pytest.raises(ImageError):
        native.run(x)


def test_upscaler_refuses_threads_and_precisions_that_there_are_not(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: Any = "int8"
    for threads, precision in ((0, "fp32"), (-1, "fp32"), (1 << 40, "fp32"), (1, wrong)):
        with pytest.raises(SrganFastError):
            Upscaler(tiny_model, backend="native", threads=threads, precision=precision)
    monkeypatch.setenv("SRGAN_FAST_ISA", "mmx")
    with pytest.raises(BackendError, match="SRGAN_FAST_ISA is 'mmx'; this processor can run baseline"):
        Upscaler(tiny_model, backend="native")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_needs_too_much_memory_in_one_piece_is_cut_into_tiles(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    native, image = Upscaler(tiny_model, backend="native"), noise(460, 470, dtype)
    whole_floats = native.run(noise(460, 470)[None])
    expected = native(image)
    need = native.backend.working_memory(460, 470)  # type: ignore[attr-defined]
    monkeypatch.setattr(native.backend, "upscale", lambda *_: pytest.fail("it was run in one piece"))
    tiles: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(upscaler_module.memory, "available", lambda: need * 2)
        # What the image itself needs is another question.
        patch.setattr(native, "_check_memory", lambda *_: None)
        result = native(image, tiles.append)
        floats = native.run(noise(460, 470)[None])
    assert len(tiles) > 1
    assert sum(tile.area for tile in tiles) == 460 * 470
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert np.abs(floats - whole_floats).max() <= 1e-5


@pytest.mark.parametrize("damage", ["truncated", "flipped sign bits", "not a number", "empty"])
def test_a_damaged_weights_file_is_a_model_error(tiny_model: Path, tmp_path: Path, damage: str) -> None:
    content = bytearray(tiny_model.read_bytes())
    if damage == "truncated":
        content = content[:-5]
    elif damage == "flipped sign bits":
        header = 8 + int.from_bytes(content[:8], "little")
        content[header + 3 :: 4] = bytes(byte ^ 0x80 for byte in content[header + 3 :: 4])  # variances below 0
    elif damage == "not a number":
        content[-4:] = np.float32(np.nan).tobytes()
    else:
        content.clear()
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(SrganFastError, match=r"damaged\.safetensors"):
        Upscaler(path, backend="native")
