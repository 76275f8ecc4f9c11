"""The doctor finds that all is well where it is, tells what is absent, and notices what is broken or wrong."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import srgan_fast
from srgan_fast import _engine, ops
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.doctor import DoctorReport, examine, installation, op_checks
from srgan_fast.doctor.checks import Measured, check
from srgan_fast.doctor.report import SelfTest
from srgan_fast.ops import conv as conv_ops
from srgan_fast.ops import pool
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.ops.prologue import Pending
from srgan_fast.runtime import BACKENDS
from srgan_fast.runtime.native_backend import NativeBackend

needs_operators = pytest.mark.skipif(not ops.available(), reason="the fused operators are not built")


@pytest.fixture(scope="module")
def report() -> DoctorReport:
    return examine()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """An examination that computes less of what the test is not about."""
    monkeypatch.setattr(installation, "BACKENDS", {name: BACKENDS[name] for name in ("native", "openvino")})
    monkeypatch.setattr(op_checks, "CASES", op_checks.CASES[:2])


def _by_name(parts: Sequence[Any]) -> dict[str, Any]:
    return {part.name: part for part in parts}


def _failed(report: DoctorReport) -> list[SelfTest]:
    return [test for test in report.tests if test.state == "failed"]


def test_this_installation_works(report: DoctorReport) -> None:
    assert (report.ok, report.problems) == (True, [])
    assert not _failed(report)
    assert report.version == srgan_fast.__version__
    packages = _by_name(report.packages)
    assert packages["torch"].version == torch.__version__
    assert {package.state for package in report.packages} == {"ok"}
    modules = _by_name(report.modules)
    assert modules["srgan_fast._engine"].state == modules["srgan_fast._imaging"].state == "ok"
    assert (modules["srgan_fast._C"].state == "ok") == ops.available()
    assert (modules["srgan_fast._C_cuda"].state == "ok") == (why_not_on_cuda() is None)
    assert [backend.name for backend in report.backends] == list(BACKENDS)
    assert report.processor.isas == _engine.isas()
    assert report.processor.isa == _engine.isa()


def test_everything_that_can_be_used_was_computed(report: DoctorReport) -> None:
    tested = {(test.name, test.direction, test.dtype) for test in report.tests if test.state == "passed"}
    for backend in report.backends:
        for precision in backend.precisions:
            assert (f"{backend.name} {precision}", None, None) in tested
    for op in report.ops:
        if op.implementation == "fused":
            for case in op_checks.CASES:
                for direction in op_checks.DIRECTIONS:
                    assert (case.name, direction, op.dtype) in tested
            for direction in op_checks.POOLING_DIRECTIONS:
                assert (op_checks.POOLING, direction, op.dtype) in tested
    assert {("resize uint8", None, None), ("native fp32, 8 bits", None, None)} <= tested
    for test in report.tests:
        if test.state == "passed":
            assert test.error is not None
            assert test.bound is not None
            assert 0 <= test.error <= test.bound
            assert test.measure


@needs_operators
def test_types_without_a_kernel_go_to_torch_and_the_reason_is_said(report: DoctorReport) -> None:
    chosen = {op.dtype: op for op in report.ops if op.device == "cpu"}
    assert {dtype for dtype, op in chosen.items() if op.implementation == "fused"} == {"float32", "float64", "bfloat16"}
    assert chosen["float16"].reason == "fused kernels take float32, float64 or bfloat16 on a CPU, not float16"


def test_the_report_survives_json(report: DoctorReport) -> None:
    assert json.loads(report.as_json())["schema"] == "srgan_fast.doctor/1"
    assert DoctorReport.from_json(report.as_json()) == report


class _Scaled(torch.autograd.Function):
    """Passes a tensor on, and its gradient a little too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * 1.001


def _plant(monkeypatch: pytest.MonkeyPatch, direction: str) -> None:
    right = conv_ops.conv

    def wrong(source: Pending, weight: Tensor, *args: Any, **options: Any) -> Any:
        if source.raw.dtype != torch.float32:
            return right(source, weight, *args, **options)
        if direction == "dgrad":
            return right(source._replace(raw=_Scaled.apply(source.raw)), weight, *args, **options)
        if direction == "wgrad":
            return right(source, _Scaled.apply(weight), *args, **options)
        result = right(source, weight, *args, **options)
        spot = torch.zeros_like(result.y)
        spot[-1, -1, -1, -1] = 1e-3
        return result._replace(y=result.y + spot)

    monkeypatch.setattr(conv_ops, "conv", wrong)


@pytest.mark.usefixtures("brief")
@needs_operators
@pytest.mark.parametrize("direction", op_checks.DIRECTIONS)
def test_an_operator_that_is_a_little_wrong_is_found_and_no_other(
    monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    _plant(monkeypatch, direction)
    found = examine()
    assert not found.ok
    failed = _failed(found)
    assert {(test.direction, test.dtype) for test in failed} == {(direction, "float32")}
    assert {test.name for test in failed} == {case.name for case in op_checks.CASES}
    assert len(found.problems) == len(failed)
    for test, line in zip(failed, found.problems, strict=True):
        assert line.startswith(f"{test.name}: {direction}, float32, cpu: error ")
        assert "exceeds 3.0e-05" in line


@pytest.mark.usefixtures("brief")
@needs_operators
def test_wrong_pooling_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = pool.max_pool
    monkeypatch.setattr(pool, "max_pool", lambda x: right(x.roll(1, 2)))
    assert {(test.name, test.direction) for test in _failed(examine())} == {
        (op_checks.POOLING, direction) for direction in op_checks.POOLING_DIRECTIONS
    }


@pytest.mark.usefixtures("brief")
@needs_operators
def test_an_operator_that_raises_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such kernel\nC++ trace: ...")

    monkeypatch.setattr(conv_ops, "conv", fail)
    found = examine()
    assert "conv 3x3: forward, float32, cpu: no such kernel" in found.problems
    assert all("\n" not in problem for problem in found.problems)


@pytest.mark.usefixtures("brief")
def test_a_runtime_that_is_a_little_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = NativeBackend.run
    monkeypatch.setattr(NativeBackend, "run", lambda self, lr: right(self, lr) * np.float32(1.001))
    (problem,) = examine().problems
    assert problem.startswith("native fp32: error ")
    assert problem.endswith("of the output's range exceeds 2.0e-05")


@pytest.mark.usefixtures("brief")
def test_a_resize_that_is_a_little_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(image: Any, *rest: Any) -> Any:
        result = resize_bicubic(image, *rest)
        return np.where(result < 255, result + 1, result).astype(np.uint8) if image.dtype == np.uint8 else result

    monkeypatch.setattr("srgan_fast.data.resize.resize_bicubic", wrong)
    assert [problem.split(":")[0] for problem in examine().problems] == ["resize uint8"]


@pytest.mark.parametrize("error", [math.nan, math.inf, 2.0])
def test_what_is_not_finite_is_beyond_every_bound(error: float) -> None:
    found = check("op", "a", lambda: [Measured(1.0, 1.0, "x"), Measured(error, 1.0, "y"), Measured(0.0, 0.0, "z")])
    assert found.state == "failed"
    assert found.measure == "y"


class _Broken:
    """Finds a module, and cannot load it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == self.name else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ImportError("undefined symbol: _ZN3fooE")

    def exec_module(self, module: ModuleType) -> None: ...


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a module one that is there and does not load, until the test is over."""

    def make(name: str) -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "meta_path", [_Broken(name), *sys.meta_path])

    return make


@pytest.mark.usefixtures("brief")
def test_an_engine_that_does_not_load_is_one_line_and_its_tests_are_skipped(breaks: Any) -> None:
    breaks("srgan_fast._engine")
    found = examine()
    assert found.problems == [
        "srgan_fast._engine: is built, but cannot be loaded: undefined symbol: _ZN3fooE; reinstall srgan_fast"
    ]
    assert _by_name(found.backends)["native"].state == "broken"
    assert _by_name(found.tests)["native"].state == "skipped"
    assert (found.processor.isas, found.processor.isa) == ([], None)


@pytest.mark.usefixtures("brief")
def test_a_resize_that_does_not_load_is_one_line(breaks: Any) -> None:
    breaks("srgan_fast._imaging")
    found = examine()
    assert len(found.problems) == 1
    assert found.problems[0].startswith("srgan_fast._imaging: is built, but cannot be loaded: ")
    assert _by_name(found.tests)["resize"].state == "skipped"


@pytest.mark.usefixtures("brief")
def test_a_runtime_that_does_not_load_is_one_line(breaks: Any) -> None:
    breaks("openvino")
    found = examine()
    assert found.problems == [
        "backend openvino: openvino is installed, but cannot be imported: undefined symbol: _ZN3fooE"
    ]


def _operators(monkeypatch: pytest.MonkeyPatch, problem: str, built: bool) -> None:
    monkeypatch.setattr("srgan_fast.ops.why_not", lambda: problem)
    monkeypatch.setattr("srgan_fast.ops.switch.why_not", lambda: problem)
    find = importlib.util.find_spec

    def find_spec(name: str) -> Any:
        return (ModuleSpec(name, None) if built else None) if name == "srgan_fast._C" else find(name)

    monkeypatch.setattr("srgan_fast.doctor.installation.importlib.util.find_spec", find_spec)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("built", [True, False])
def test_operators_that_do_not_load_are_a_fault_and_those_that_were_not_built_are_none(
    monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    _operators(monkeypatch, "the fused kernels are not to be had", built)
    found = examine()
    module = _by_name(found.modules)["srgan_fast._C"]
    assert module.detail == "the fused kernels are not to be had"
    assert module.state == ("broken" if built else "absent")
    assert found.problems == (["srgan_fast._C: the fused kernels are not to be had"] if built else [])
    assert {(op.implementation, op.reason) for op in found.ops} == {("plain torch", module.detail)}
    assert _by_name(found.tests)["fused operators"].state == "skipped"


@pytest.mark.usefixtures("brief")
def test_an_unknown_instruction_set_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", "mmx")
    found = examine()
    assert found.problems == [f"SRGAN_FAST_ISA is 'mmx'; this processor can run {', '.join(_engine.isas())}"]
    assert (found.processor.isa_asked, found.processor.isa) == ("mmx", None)
    assert found.processor.isas == _engine.isas()
    assert not _failed(found)


@pytest.mark.parametrize("isa", _engine.isas())
def test_every_instruction_set_passes(isa: str) -> None:
    code = "from srgan_fast.doctor import examine; print(examine().as_json())"
    found = DoctorReport.from_json(_python(code, SRGAN_FAST_ISA=isa))
    assert (found.processor.isa, found.problems) == (isa, [])


WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_base_installation_is_told_what_it_lacks_and_works(tmp_path: Path) -> None:
    """A process in which nothing but the required packages can be imported, from its start."""
    names = ("torch", "torchvision", "onnx", "onnxruntime", "openvino")
    (tmp_path / "sitecustomize.py").write_text(WITHOUT.format(names=names))
    command = [sys.executable, "-m", "srgan_fast", "doctor", "--json", "-"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = DoctorReport.from_json(done.stdout)
    assert found.ok
    absent = _by_name(found.packages)["torch"]
    assert (absent.version, absent.state) == (None, "absent")
    assert "pip install 'srgan_fast[train]'" in absent.detail
    assert {backend.name: backend.state for backend in found.backends} == {
        name: "ok" if name == "native" else "absent" for name in BACKENDS
    }
    assert _by_name(found.backends)["openvino"].detail == (
        "backend openvino needs openvino and onnx: pip install 'srgan_fast[openvino]'"
    )
    assert _by_name(found.modules)["srgan_fast._C"].state == ("unused" if ops.available() else "absent")
    assert found.ops == []
    assert {test.name: test.state for test in found.tests if test.part == "op"} == {"fused operators": "skipped"}
    assert _by_name(found.tests)["native fp32"].state == "passed"
