"""Which runtime a name means, and what is said when it cannot be had."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile
from srgan_fast.runtime import choose_backend, choose_precision, create_backend, native_backend, registry


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets only the given modules be found."""

    def only(*modules: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in modules else None)

    return only


@pytest.fixture
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_cuda_device", lambda: False)


@pytest.mark.usefixtures("_no_cuda")
@pytest.mark.parametrize(
    ("isa", "expected"),
    [("amx", "native"), ("avx512_bf16", "native"), ("avx512", "openvino"), ("baseline", "openvino")],
)
def test_bf16_is_native_only_where_the_instruction_set_has_it(
    monkeypatch: pytest.MonkeyPatch, isa: str, expected: str, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(True)
    monkeypatch.setattr(native_backend._engine, "isa", lambda: isa)
    assert choose_backend("auto", "bf16")[0] == expected
    if expected != "native":
        with pytest.raises(BackendError, match="native cannot compute in bf16 on this processor"):
            choose_backend("native", "bf16")


@pytest.mark.usefixtures("_no_cuda")
def test_where_only_the_native_backend_is_there_and_lacks_bf16_that_is_said(
    monkeypatch: pytest.MonkeyPatch, installed: Any
) -> None:
    installed("srgan_fast._engine")
    monkeypatch.setattr(native_backend._engine, "isa", lambda: "avx2")
    with pytest.raises(BackendError) as caught:
        choose_backend("auto", "bf16")
    assert str(caught.value) == (
        "native cannot compute in bf16 on this processor, and no other runtime for it is installed: take another "
        "precision, or pip install 'srgan_fast[openvino]' or 'srgan_fast[train]'"
    )


@pytest.mark.usefixtures("_no_cuda")
def test_bf16_is_refused_where_no_runtime_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(False)
    monkeypatch.setattr(native_backend._engine, "isa", lambda: "avx2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("native", "openvino", "torch"):
        with pytest.raises(BackendError, match=f"{name} cannot compute in bf16 on this processor; take another"):
            choose_backend(name, "bf16")
        assert choose_backend(name) == (name, "asked for")
    with pytest.raises(BackendError, match=r"^native and openvino and torch cannot compute in bf16 on this machine: "):
        choose_backend("auto", "bf16")


def test_a_runtime_that_cannot_be_imported_is_not_asked_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading it says what is wrong with it."""
    monkeypatch.setitem(sys.modules, "srgan_fast.runtime.openvino_backend", None)
    assert choose_backend("openvino", "bf16") == ("openvino", "asked for")


def test_an_instruction_set_that_cannot_run_here_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", "mmx")
    with pytest.raises(BackendError, match="SRGAN_FAST_ISA is 'mmx'; this processor can run baseline"):
        choose_backend("native", "bf16")


def test_a_missing_native_part_is_named(installed: Any) -> None:
    installed("torch")
    with pytest.raises(BackendError, match=r"needs srgan_fast\._engine: reinstall srgan_fast"):
        choose_backend("native")


@pytest.mark.parametrize("name", ["native", "onnxruntime", "openvino", "torch"])
def test_a_backend_that_is_asked_for_is_taken(name: str) -> None:
    assert choose_backend(name) == (name, "asked for")


def test_unknown_backend_lists_those_there_are() -> None:
    with pytest.raises(
        BackendError, match=r"unknown backend 'cudnn'; choose from auto, native, openvino, onnxruntime, torch, "
    ):
        choose_backend("cudnn")


@pytest.mark.parametrize(
    ("name", "present", "missing", "extra"),
    [
        ("openvino", (), "openvino and onnx", "openvino"),
        ("openvino", ("openvino",), "needs onnx:", "openvino"),
        ("onnxruntime", ("onnx",), "needs onnxruntime:", "onnx"),
        ("torch", ("onnx",), "needs torch:", "train"),
    ],
)
def test_missing_backend_names_the_extra(
    installed: Any, name: str, present: tuple[str, ...], missing: str, extra: str
) -> None:
    installed(*present)
    with pytest.raises(BackendError) as caught:
        choose_backend(name)
    assert missing in str(caught.value)
    assert f"pip install 'srgan_fast[{extra}]'" in str(caught.value)


def test_precision_that_a_backend_lacks_names_those_that_have_it() -> None:
    with pytest.raises(BackendError, match="onnxruntime does not compute in bf16; native, openvino, torch, cuda can"):
        choose_backend("onnxruntime", "bf16")


@pytest.mark.usefixtures("_no_cuda")
@pytest.mark.parametrize(
    ("present", "precision", "expected"),
    [
        (("srgan_fast._engine", "openvino", "onnx", "onnxruntime", "torch"), "fp32", "native"),
        (("openvino", "onnx", "onnxruntime", "torch"), "fp32", "openvino"),
        (("onnx", "onnxruntime", "torch"), "fp32", "onnxruntime"),
        (("onnx", "onnxruntime", "torch"), "bf16", "torch"),
        (("openvino", "torch"), "fp32", "torch"),
        (("torch",), "fp32", "torch"),
    ],
)
def test_auto_takes_the_first_installed_that_can(
    installed: Any, present: tuple[str, ...], precision: Any, expected: str, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(True)
    installed(*present)
    name, why = choose_backend("auto", precision)
    assert name == expected
    assert why == f"the first installed of native, openvino, onnxruntime, torch that computes in {precision}"


@pytest.mark.parametrize("problem", [None, "cannot be used: it computes wrong results"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_auto_prefers_a_cuda_device(monkeypatch: pytest.MonkeyPatch, precision: Any, problem: str | None) -> None:
    monkeypatch.setattr(registry, "_cuda_device", lambda: True)
    monkeypatch.setattr(registry, "_why_not", lambda entry: problem if entry.name == "cuda" else None)
    if precision == "fp32":
        assert choose_backend("auto", precision) == ("torch", "a CUDA device is present")
    elif problem:
        expected = "a CUDA device is present, and backend cuda cannot be used: it computes wrong results"
        assert choose_backend("auto", precision) == ("torch", expected)
    else:
        assert choose_backend("auto", precision)[0] == "cuda"


def test_auto_is_fp16_where_our_kernels_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_cuda_device", lambda: True)
    problems: list[str | None] = [None]
    monkeypatch.setattr(registry, "_why_not", lambda entry: problems[-1])
    assert choose_precision("auto") == "fp16"
    assert choose_precision("auto", "cuda") == "fp16"
    assert choose_precision("auto", "torch") == "fp32"
    assert choose_precision("bf16") == "bf16"
    problems.append("needs a CUDA device")
    assert choose_precision("auto") == "fp32"
    monkeypatch.setattr(registry, "_cuda_device", lambda: False)
    problems.append(None)
    assert choose_precision("auto") == "fp32"


def test_a_cuda_device_is_of_no_use_without_torch(monkeypatch: pytest.MonkeyPatch, installed: Any) -> None:
    monkeypatch.setattr(registry, "_cuda_device", lambda: True)
    installed("openvino", "onnx")
    assert choose_backend()[0] == "openvino"


@pytest.mark.parametrize("available", [True, False])
def test_torch_is_asked_about_cuda_only_where_a_driver_is(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    asked: list[str] = []

    def fake_import(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: available))

    monkeypatch.setattr(registry.importlib, "import_module", fake_import)
    monkeypatch.setattr(registry.os.path, "exists", lambda node: False)
    assert not registry._cuda_device()
    assert asked == []
    monkeypatch.setattr(registry.os.path, "exists", lambda node: node == "/dev/nvidia0")
    assert registry._cuda_device() is available
    assert asked == ["torch"]


@pytest.mark.usefixtures("_no_cuda")
@pytest.mark.parametrize(
    ("precision", "extras"),
    [
        ("fp32", "'srgan_fast[openvino]' or 'srgan_fast[onnx]' or 'srgan_fast[train]'"),
        ("bf16", "'srgan_fast[openvino]' or 'srgan_fast[train]'"),
    ],
)
def test_auto_without_any_runtime_says_what_to_install(installed: Any, precision: Any, extras: str) -> None:
    installed()
    with pytest.raises(BackendError) as caught:
        choose_backend("auto", precision)
    assert str(caught.value) == f"no runtime for {precision} is installed: pip install {extras}"


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_below_one_are_refused(tiny_file: ModelFile, threads: int) -> None:
    with pytest.raises(BackendError, match=f"threads is {threads}; it must be at least 1"):
        create_backend(tiny_file, threads=threads)


def _fails_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any) -> Any:
        raise error

    module = importlib.import_module("srgan_fast.runtime.torch_backend")
    monkeypatch.setattr(module, "TorchBackend", fail)


def test_a_broken_installation_names_the_extra(monkeypatch: pytest.MonkeyPatch, tiny_file: ModelFile) -> None:
    _fails_with(monkeypatch, ImportError("libtorch.so: cannot open"))
    with pytest.raises(BackendError, match=r"torch is installed but cannot be imported .*libtorch.*\[train\]"):
        create_backend(tiny_file, "torch")


def test_a_runtime_that_refuses_the_model_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tiny_file: ModelFile
) -> None:
    _fails_with(monkeypatch, RuntimeError("\n  no such operator\nat file.cpp:12"))
    with pytest.raises(BackendError) as caught:
        create_backend(tiny_file, "torch")
    assert str(caught.value) == f"backend torch cannot load {tiny_file.name} (no such operator)"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_usable_cpus_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert registry.usable_cpus() == 3
    monkeypatch.delattr(registry.os, "sched_getaffinity")
    monkeypatch.setattr(registry.os, "cpu_count", lambda: None)
    assert registry.usable_cpus() == 1
