"""Engines are built for what was asked, kept with what they were built from, and never run for anything else.

TensorRT-RTX builds without a GPU, so all but running is tested wherever it is installed.
"""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srgan_fast.errors import BackendError, FileError, ModelError, UsageError
from srgan_fast.files import cache_folder
from srgan_fast.models import ModelFile
from srgan_fast.network.onnx_graph import build_onnx
from srgan_fast.runtime import create_backend
from srgan_fast.runtime.installed import is_installed
from srgan_fast.runtime.tensorrt import backend, builder, engine_file, flavour
from srgan_fast.runtime.tensorrt.builder import BuildOptions, BuiltEngine, ParsedLayer, build_engine, wrong_types
from srgan_fast.runtime.tensorrt.engine import Engine, output_types, wrong_output_types
from srgan_fast.runtime.tensorrt.flavour import FLAVOURS, Flavour, Library, load_library
from srgan_fast.runtime.tensorrt.shapes import ONE_IMAGE, Profile, Shape, parse_shape
from srgan_fast.upscale import Upscaler

rtx = pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="TensorRT-RTX is not installed")
SIDES = st.integers(1, 512)


@pytest.fixture
def library() -> Library:
    return load_library("tensorrt-rtx")


@pytest.fixture(scope="module")
def graphs(tiny_file_of_module: ModelFile) -> dict[str, bytes]:
    return {
        "fp32": build_onnx(tiny_file_of_module.network, "tiny").SerializeToString(),
        "fp16": build_onnx(tiny_file_of_module.network, "tiny", np.float16).SerializeToString(),
    }


@pytest.fixture(scope="module")
def tiny_file_of_module(tiny_model: Path) -> ModelFile:
    from srgan_fast.models import read_model

    return read_model(tiny_model)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "cache"))


# --- shapes


@given(SIDES, SIDES, SIDES, st.sampled_from(["", "lr:"]))
def test_shapes_are_read_as_they_are_written(batch: int, height: int, width: int, name: str) -> None:
    shape = Shape(batch, height, width)
    assert parse_shape(name + str(shape)) == shape
    assert shape.dims() == (batch, 3, height, width)
    assert shape.dims(pixels=True) == (batch, height, width, 3)


@given(SIDES, SIDES, SIDES)
def test_a_profile_takes_what_lies_between_its_ends(batch: int, height: int, width: int) -> None:
    shape = Shape(batch, height, width)
    profile = Profile(Shape(1, 8, 8), Shape(2, 64, 64), Shape(4, 256, 128))
    fits = batch <= 4 and 8 <= height <= 256 and 8 <= width <= 128
    reason = profile.why_not(shape)
    assert (reason is None) == fits
    if reason:
        assert reason == f"{shape} is outside the engine's profile: 1x3x8x8 to 4x3x256x128"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it must be NxCxHxW"),
        ("1x3x8", "it must be NxCxHxW"),
        ("1x3x8x8x8", "it must be NxCxHxW"),
        ("1x3x-8x8", "it must be NxCxHxW"),
        ("sr:1x3x8x8", "it must be NxCxHxW"),
        ("1x1x8x8", "it has 1 channels, images have 3"),
        ("1x3x0x8", "numbers must lie between 1 and 65536"),
        ("1x3x8x65537", "numbers must lie between 1 and 65536"),
        ("9" * 5000 + "x3x8x8", "it must be NxCxHxW"),
        ("\u0661x3x8x8", "it must be NxCxHxW"),
    ],
)
def test_what_is_no_shape_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_shape(text)


def test_shapes_of_a_profile_must_grow() -> None:
    with pytest.raises(UsageError, match="shapes are 1x3x8x8, 1x3x64x4 and 1x3x64x64; no number may be larger"):
        Profile(Shape(1, 8, 8), Shape(1, 64, 4), Shape(1, 64, 64))


# --- libraries


def test_a_library_that_is_not_there_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour, "is_installed", lambda module: False)
    with pytest.raises(BackendError, match=r"tensorrt-rtx is not installed: pip install 'srgan_fast\[tensorrt-rtx\]'"):
        load_library("tensorrt-rtx")
    with pytest.raises(BackendError, match=r"neither TensorRT nor .* pip install 'srgan_fast\[tensorrt\]' or"):
        load_library()
    with pytest.raises(BackendError, match="unknown library 'trt'; choose from auto, tensorrt, tensorrt-rtx"):
        load_library("trt")


def test_a_library_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Flavour("broken", "srgan_fast_no_such_module", needs_gpu=True)
    monkeypatch.setitem(FLAVOURS, "broken", broken)
    monkeypatch.setattr(flavour, "is_installed", lambda module: True)
    with pytest.raises(BackendError, match=r"broken is installed but cannot be imported .*no_such_module"):
        load_library("broken")


def test_a_folder_of_stubs_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_stubs_here").mkdir()
    (tmp_path / "only_stubs_here" / "__init__.pyi").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("only_stubs_here")
    assert not is_installed("no_such.module")
    assert is_installed("json")


# --- types of a parsed network


def _convolution(dtype: str, *reads: str) -> ParsedLayer:
    return ParsedLayer("conv", "CONVOLUTION", dtype, reads or ("ELEMENTWISE",))


QUANTISED = _convolution("HALF", "DEQUANTIZE", "DEQUANTIZE")


@pytest.mark.parametrize(
    ("precision", "layers", "problem"),
    [
        ("fp32", [_convolution("FLOAT")], None),
        ("fp16", [_convolution("HALF")], None),
        ("int8", [QUANTISED, QUANTISED, _convolution("HALF")], None),
        ("fp16", [_convolution("HALF"), _convolution("FLOAT")], "conv and 0 other convolutions give FLOAT"),
        ("fp32", [_convolution("HALF"), _convolution("HALF")], "conv and 1 other convolutions give HALF"),
        ("fp16", [QUANTISED], "1 of 1 convolutions read quantised values"),
        ("int8", [QUANTISED, _convolution("HALF"), _convolution("HALF")], None),
        ("int8", [_convolution("HALF")], "none of 1 convolutions reads quantised values"),
        (
            "int8",
            [QUANTISED, _convolution("HALF", "DEQUANTIZE", "CONSTANT")],
            "conv reads quantised values on one",
        ),
        ("fp32", [ParsedLayer("x", "SHUFFLE", "FLOAT", ())], "it has no convolutions"),
    ],
)
def test_types_that_were_not_asked_for_are_found(
    precision: Any, layers: list[ParsedLayer], problem: str | None
) -> None:
    found = wrong_types(tuple(layers), precision)
    assert (found is None) == (problem is None)
    assert problem is None or (found or "").startswith(problem)


# --- building


@rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_is_built_in_the_graphs_precision(library: Library, graphs: Any, precision: Any) -> None:
    told: list[tuple[str, int, int]] = []
    built = build_engine(library, graphs[precision], precision, BuildOptions(), lambda *what: told.append(what))
    assert len(built.data) > 10_000
    types = {layer.dtype for layer in built.layers if layer.kind == "CONVOLUTION"}
    assert types == {"FLOAT" if precision == "fp32" else "HALF"}
    assert all(0 <= done <= of for _, done, of in told)
    assert told[-1][1] == told[-1][2], "it is told when all is done"
    assert len({phase for phase, _, _ in told}) > 3


@rtx
@pytest.mark.parametrize(("graph", "asked"), [("fp32", "fp16"), ("fp16", "fp32"), ("fp16", "int8"), ("fp32", "int8")])
def test_a_graph_in_another_precision_is_refused_before_building(
    library: Library, graphs: Any, graph: str, asked: Any
) -> None:
    with pytest.raises(BackendError, match=f"the parsed network is not {asked}: "):
        build_engine(library, graphs[graph], asked, BuildOptions())


@rtx
@pytest.mark.parametrize("graph", [b"", b"nonsense" * 9, None], ids=["empty", "nonsense", "cut off"])
def test_what_is_no_graph_is_refused_in_one_line(library: Library, graphs: Any, graph: bytes | None) -> None:
    data = graphs["fp32"][:-500] if graph is None else graph
    with pytest.raises(BackendError, match=r"tensorrt-rtx cannot parse the graph|has no convolutions") as caught:
        build_engine(library, data, "fp32", BuildOptions())
    assert "\n" not in str(caught.value)


@rtx
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BuildOptions(hardware="ampere-plus"), "TensorRT-RTX has no hardware or version compatibility"),
        (BuildOptions(version_compatible=True), "TensorRT-RTX has no hardware or version compatibility"),
        (BuildOptions(timing_cache=Path("t.cache")), "no timing cache"),
        (BuildOptions(optimization_level=6), "optimization level is 6; it must lie between 0 and 5"),
        (BuildOptions(workspace_mib=0), "workspace is 0 MiB; it must be at least 1"),
        (BuildOptions(compute_capabilities=("1.0",)), r"compute capability is '1.0'; .* builds for 7.5, 8.0, 8.6"),
    ],
)
def test_options_that_the_library_lacks_are_refused(
    library: Library, graphs: Any, options: BuildOptions, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_engine(library, graphs["fp32"], "fp32", options)


def test_compute_capabilities_are_for_rtx_alone() -> None:
    library = Library(FLAVOURS["tensorrt"], None, SimpleNamespace(lines=[], count=0))
    with pytest.raises(UsageError, match="with TensorRT-RTX only"):
        builder.check_options(library, BuildOptions(compute_capabilities=("8.6",)))


@rtx
def test_a_build_that_fails_says_why_in_one_line(library: Library, graphs: Any) -> None:
    with pytest.raises(BackendError, match=r"tensorrt-rtx [\d.]+ failed to build an engine \(.*workspace") as caught:
        build_engine(library, graphs["fp32"], "fp32", BuildOptions(workspace_mib=1))
    assert "\n" not in str(caught.value)


@rtx
def test_compute_capabilities_can_be_chosen(library: Library, graphs: Any) -> None:
    built = build_engine(library, graphs["fp16"], "fp16", BuildOptions(compute_capabilities=("8.6", "12.0")))
    assert built.data


@rtx
def test_ctrl_c_ends_a_build_and_leaves_the_handler_as_it_was(library: Library, graphs: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    steps: list[str] = []

    def interrupt(phase: str, done: int, of: int) -> None:
        steps.append(phase)
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(library, graphs["fp32"], "fp32", BuildOptions(), interrupt)
    assert len(steps) < 60, "it did not go on to the end"
    assert signal.getsignal(signal.SIGINT) is before
    assert build_engine(library, graphs["fp32"], "fp32", BuildOptions()).data, "and the next build is not disturbed"


# --- files


KEY = engine_file.EngineKey(
    "ab" * 32, "fp16", "1x3x1x1", "1x3x256x256", "1x3x512x512", "tensorrt", "10.13", "a GPU", ""
)
BUILT = BuiltEngine(b"engine" * 100, (ParsedLayer("conv", "CONVOLUTION", "HALF", ("INPUT",)),))


def test_an_engine_is_read_back_with_what_it_was_built_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.engine"
    engine_file.write_engine(path, BUILT, KEY)
    assert engine_file.read_engine(path, KEY) == (BUILT.data, KEY)
    assert engine_file.profile_of(KEY) == ONE_IMAGE
    assert engine_file.read_layers(path) == [
        {"name": "conv", "kind": "CONVOLUTION", "dtype": "HALF", "reads": ["INPUT"]}
    ]
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.engine", "a.engine.json"]


@pytest.mark.parametrize("field", list(engine_file.EngineKey.__dataclass_fields__))
def test_an_engine_built_from_anything_else_is_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.engine"
    engine_file.write_engine(path, BUILT, KEY)
    other = replace(KEY, **{field: "other"})
    with pytest.raises(BackendError, match=f"was built for {field} {getattr(KEY, field)} instead of other$"):
        engine_file.read_engine(path, other)
    assert other.digest != KEY.digest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"engine" * 99), "is damaged, or the JSON file beside it belongs to another"),
        (lambda path: path.unlink(), "a.engine: cannot be read"),
        (lambda path: engine_file.sidecar(path).unlink(), "a.engine.json: cannot be read"),
        (lambda path: engine_file.sidecar(path).write_text("{"), "is not a description of a srgan_fast engine"),
        (lambda path: engine_file.sidecar(path).write_text("[1]"), "is not a description of a srgan_fast engine"),
        (lambda path: engine_file.sidecar(path).write_bytes(b"\xff\xfe"), "is not a description of a"),
        (lambda path: _edit(path, "schema", "srgan_fast.engine/9"), "is of 'srgan_fast.engine/9', not"),
        (lambda path: _edit(path, "built_from", {"graph": "x"}), "is not a description of a srgan_fast engine"),
    ],
)
def test_a_damaged_engine_is_not_read(tmp_path: Path, spoil: Any, message: str) -> None:
    path = tmp_path / "a.engine"
    engine_file.write_engine(path, BUILT, KEY)
    spoil(path)
    with pytest.raises(BackendError, match=message):
        engine_file.read_engine(path, KEY)


def _edit(path: Path, key: str, value: Any) -> None:
    place = engine_file.sidecar(path)
    place.write_text(json.dumps({**json.loads(place.read_text()), key: value}))


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *what: Any) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    genuine = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *how: Full(genuine(*how)))
    with pytest.raises(FileError, match=r"a.engine: cannot be written \(No space left on device\)"):
        engine_file.write_engine(tmp_path / "a.engine", BUILT, KEY)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "a.engine.json").mkdir()
    with pytest.raises(FileError, match=r"a.engine.json: cannot be written"):
        engine_file.write_engine(tmp_path / "a.engine", BUILT, KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["a.engine.json"], "no engine without what describes it"


def _with_weight(file: ModelFile, name: str, value: float) -> ModelFile:
    """The same network, but for the first weight of a convolution."""
    network = file.network
    (index,) = (i for i, conv in enumerate(network.convs) if conv.name == name)
    changed = network.convs[index].weight.copy()
    changed.flat[0] = value
    conv = replace(network.convs[index], weight=changed)
    return replace(file, network=replace(network, convs=(*network.convs[:index], conv, *network.convs[index + 1 :])))


# --- the cache


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Precisions of the engines that were built."""
    made: list[str] = []
    genuine = backend.build_engine

    def count(library: Library, graph: bytes, precision: Any, *rest: Any) -> BuiltEngine:
        made.append(precision)
        return genuine(library, graph, precision, *rest)

    monkeypatch.setattr(backend, "build_engine", count)
    return made


@rtx
def test_an_engine_is_built_once_for_each_thing_that_it_depends_on(
    library: Library, tiny_file: ModelFile, builds: list[str]
) -> None:
    data, path, was_there = backend.cached_engine(library, tiny_file, "fp16", "a GPU")
    assert (path.parent, was_there) == (cache_folder() / "engines", False)
    assert backend.cached_engine(library, tiny_file, "fp16", "a GPU") == (data, path, True)
    assert builds == ["fp16"]
    others = [("fp32", "a GPU", None), ("fp16", "another GPU", None)]
    others.append(("fp16", "a GPU", BuildOptions(optimization_level=1)))
    others.append(("fp16", "a GPU", BuildOptions(Profile(Shape(1, 1, 1), Shape(1, 8, 8), Shape(1, 64, 64)))))
    for precision, device, options in others:
        assert backend.cached_engine(library, tiny_file, precision, device, options)[1] != path
    other = _with_weight(tiny_file, "tail", 1.0)
    assert backend.cached_engine(library, other, "fp16", "a GPU")[1] != path
    assert len(builds) == 6


@rtx
def test_a_damaged_engine_is_built_anew(library: Library, tiny_file: ModelFile, builds: list[str]) -> None:
    data, path, _ = backend.cached_engine(library, tiny_file, "fp16", "a GPU")
    path.write_bytes(data[:-1])
    again = backend.cached_engine(library, tiny_file, "fp16", "a GPU")
    assert (len(builds), again.was_there) == (2, False)
    assert path.read_bytes() == again.data
    assert not backend.cached_engine(library, tiny_file, "fp16", "a GPU", rebuild=True).was_there


@rtx
def test_a_cache_that_cannot_be_written_is_named(
    library: Library, tiny_file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileError, match=r"file/engines/.*\.engine: cannot be written"):
        backend.cached_engine(library, tiny_file, "fp16", "a GPU")
    assert builds == [], "it is found out before anything is built"


@rtx
def test_an_engine_that_cannot_be_kept_is_of_use_all_the_same(
    library: Library, tiny_file: ModelFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, *what: Any) -> None:
        raise FileError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(backend, "write_engine", full)
    assert len(backend.cached_engine(library, tiny_file, "fp16", "a GPU").data) > 10_000
    assert "No space left on device); the engine will be rebuilt next time" in caplog.text


@rtx
def test_what_a_listener_raises_ends_the_build_and_comes_out(library: Library, graphs: Any) -> None:
    def fail(phase: str, done: int, of: int) -> None:
        raise ZeroDivisionError("of the listener")

    with pytest.raises(ZeroDivisionError, match="of the listener"):
        build_engine(library, graphs["fp32"], "fp32", BuildOptions(), fail)


@rtx
def test_an_interrupted_build_leaves_nothing(library: Library, tiny_file: ModelFile) -> None:
    with pytest.raises(KeyboardInterrupt):
        backend.cached_engine(
            library, tiny_file, "fp16", "a GPU", on_build=lambda *what: signal.raise_signal(signal.SIGINT)
        )
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]


def test_weights_beyond_fp16_are_refused(tiny_file: ModelFile) -> None:
    with pytest.raises(ModelError, match=r"tail.weight exceeds the range of float16; use fp32"):
        build_onnx(_with_weight(tiny_file, "tail", 1e6).network, "tiny-x4", np.float16)


# --- running


class _Context:
    """What an execution context is asked."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refuses = refuses

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> bool:
            self.calls.append((name, *arguments))
            return name != self.refuses

        return call


def _engine(context: _Context, pixels: bool = False) -> Engine:
    log = SimpleNamespace(lines=[(True, "earlier trouble")], count=1)
    deserialised = SimpleNamespace(create_execution_context=lambda: context)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: deserialised if data == b"good" else None)
    api = SimpleNamespace(__version__="10.13", Runtime=lambda log: runtime)
    return Engine(Library(FLAVOURS["tensorrt"], api, log), b"good", ONE_IMAGE, 4, pixels)


@pytest.mark.parametrize(("pixels", "dims"), [(False, (1, 3, 8, 9)), (True, (1, 8, 9, 3))])
def test_a_run_gives_the_library_shape_and_addresses(pixels: bool, dims: tuple[int, ...]) -> None:
    context = _Context()
    _engine(context, pixels).enqueue(1000, 2000, Shape(1, 8, 9), 7)
    assert context.calls == [
        ("set_input_shape", "lr", dims),
        ("set_tensor_address", "lr", 1000),
        ("set_tensor_address", "sr", 2000),
        ("execute_async_v3", 7),
    ]


@pytest.mark.parametrize(
    ("layers", "types"),
    [
        ([{"Outputs": [{"Format/Datatype": "Half NHWC"}]}, {"Outputs": [{"DataType": "Int8"}]}], 2),
        (["a name alone, as in engines without details", {}], 0),
    ],
)
def test_the_inspector_tells_the_types_of_an_engine(layers: list[Any], types: int) -> None:
    engine = _engine(_Context())
    inspector = SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": layers}))
    engine._engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    engine._library.api.LayerInformationFormat = SimpleNamespace(JSON="json")
    assert len(output_types(engine.inspect())) == types
    inspector.get_engine_information = lambda form: "nothing"
    with pytest.raises(BackendError, match="tensorrt cannot inspect the engine"):
        engine.inspect()


@pytest.mark.parametrize(
    ("types", "precision", "wrong"),
    [
        ({"Half NHWC": 30, "Float": 2}, "fp16", False),
        ({"FP16": 3}, "fp16", False),
        ({"Float": 30}, "fp16", True),
        ({"Float": 30}, "fp32", False),
        ({"Half": 30}, "fp32", True),
        ({"Float": 3}, "int8", False),
        ({"?": 3}, "fp16", False),
        ({}, "fp16", False),
    ],
)
def test_an_engine_that_says_it_is_in_another_type_is_found(types: Any, precision: Any, wrong: bool) -> None:
    assert (wrong_output_types(types, precision) is not None) == wrong


def test_a_shape_outside_the_profile_is_refused_before_anything_runs() -> None:
    context = _Context()
    with pytest.raises(BackendError, match="1x3x513x9 is outside the engine's profile"):
        _engine(context).enqueue(1, 2, Shape(1, 513, 9), 0)
    assert context.calls == []


@pytest.mark.parametrize("refuses", ["set_input_shape", "set_tensor_address", "execute_async_v3"])
def test_a_run_that_the_library_refuses_is_an_error(refuses: str) -> None:
    with pytest.raises(BackendError, match="TensorRT fails on 1x3x8x9"):
        _engine(_Context(refuses)).enqueue(1, 2, Shape(1, 8, 9), 0)


@pytest.mark.parametrize(
    "lr",
    [
        torch.zeros(1, 3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.float16),
        torch.zeros(1, 4, 8, 8),
        torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 8, 8).to(memory_format=torch.channels_last),
    ],
    ids=["on the CPU", "half", "four channels", "no batch", "channels last"],
)
def test_a_tensor_that_the_engine_cannot_read_as_it_is_is_refused(lr: torch.Tensor) -> None:
    context = _Context()
    with pytest.raises(BackendError, match=r"the engine takes N, 3, H, W in torch.float32, contiguous .*; got"):
        _engine(context)(lr)
    assert context.calls == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@rtx
def test_without_a_gpu_an_engine_cannot_be_loaded_and_says_so(library: Library, graphs: Any) -> None:
    built = build_engine(library, graphs["fp32"], "fp32", BuildOptions())
    with pytest.raises(BackendError, match=r"tensorrt-rtx [\d.]+ cannot load the engine \(.+\)") as caught:
        Engine(library, built.data, ONE_IMAGE, 4)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@rtx
def test_without_a_gpu_the_backend_says_what_it_needs(tiny_file: ModelFile) -> None:
    with pytest.raises(BackendError, match="backend tensorrt-rtx needs an NVIDIA GPU that torch can use"):
        create_backend(tiny_file, "tensorrt-rtx", "fp16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", [name for name, kind in FLAVOURS.items() if is_installed(kind.module)])
@pytest.mark.parametrize(("precision", "error"), [("fp32", 2e-3), ("fp16", 2e-2)])
def test_an_engine_computes_what_torch_computes(
    tiny_file: ModelFile, name: str, precision: Any, error: float, exact: Any
) -> None:
    lr = np.random.default_rng(4).random((2, 3, 33, 20), np.float32)
    expected = exact(tiny_file, lr)
    assert np.abs(create_backend(tiny_file, name, precision).run(lr) - expected).max() <= error * np.ptp(expected)


def test_images_larger_than_a_backend_takes_are_cut(
    tiny_model: Path, photo: np.ndarray, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Upscaler(tiny_model, backend="onnxruntime")
    monkeypatch.setattr(limited.backend, "largest_side", 60, raising=False)
    sides: list[int] = []
    genuine = limited.backend.run
    monkeypatch.setattr(limited.backend, "run", lambda lr: sides.extend(lr.shape[2:]) or genuine(lr))
    image = photo[:70, :100]
    assert np.abs(limited(image).astype(int) - upscaler(image)).max() <= 1
    assert max(sides) <= 60
    limited.tile = 50
    radius = limited.halo
    with pytest.raises(UsageError, match=rf"tile is 50; .* 60x60 .*: give a tile of at most {60 - 2 * radius},"):
        limited(image)
    limited.tile = 60 - 2 * radius
    assert limited(image).shape == (280, 400, 3)
