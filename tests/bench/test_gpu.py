"""The GPU report says what it is about, and what is wrong with it; with a GPU it is also run."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from srgan_fast.bench import candidates
from srgan_fast.bench.candidates import Candidate
from srgan_fast.bench.gpu import gpu_report, inference, steps
from srgan_fast.bench.gpu.inference import time_inference
from srgan_fast.bench.gpu.timing import Time, TorchClock
from srgan_fast.bench.page.gpu import gpu_page
from srgan_fast.errors import UsageError
from srgan_fast.models import DEFAULT_MODEL, read_model
from srgan_fast.ops import cuda
from srgan_fast.ops.sanitizer import SanitizerResult
from srgan_fast.pages.html import render
from srgan_fast.runtime import create_backend
from srgan_fast.runtime.tensorrt.engine import Engine
from srgan_fast.runtime.tensorrt.shapes import Shape

TOOL = Path(__file__).parents[2] / "tools" / "gpu_report.py"
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@needs_no_gpu
def test_without_a_gpu_there_is_no_report() -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        gpu_report()


@needs_no_gpu
def test_the_tool_says_so_and_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    done = subprocess.run([sys.executable, str(TOOL), str(target)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this machine has no CUDA device that PyTorch can use\n"
    assert not target.exists()


@pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels")
def test_a_gpu_is_examined_and_measured(tmp_path: Path) -> None:
    report = gpu_report(batches=(2,), hr=32, sanitizer=False)
    assert report["problems"] == []
    assert all(row["right"] for row in report["checks"])
    assert {"environment", "inference", "layers, batch 2", "generator, batch 2", "steps, batch 2"} <= report.keys()
    assert json.loads(json.dumps(report)) == report
    for part in ("generator, batch 2", "steps, batch 2"):
        assert {name: row["reason"] for name, row in report[part].items() if row["status"] != "ok"} == {}


# --- inference, as far as it goes without a GPU


def test_every_row_of_inference_is_checked_or_says_why_not() -> None:
    cases = time_inference(torch.device("cpu"), shapes=(Shape(1, 9, 8), Shape(2, 8, 9)))
    assert [case["shape"] for case in cases] == ["1x3x9x8", "2x3x8x9"]
    for case in cases:
        rows = {row["name"]: row for row in case["rows"]}
        for name in ("torch-nchw-fp32", "torch-nhwc-fp32", "torch-nhwc-bf16", "torch-nhwc-fp16"):
            assert (rows[name]["status"], rows[name]["reason"]) == ("ok", None)
            assert rows[name]["max_error"] < (1e-5 if "fp32" in name else 1e-1)
            assert rows[name]["device"] is None, "a CPU is not timed as a GPU"
        psnr = [rows[f"torch-nhwc-{precision}"]["psnr_db"] for precision in ("fp32", "fp16", "bf16")]
        assert psnr == sorted(psnr, reverse=True)
        for name in rows.keys() - {name for name in rows if name.startswith("torch")}:
            assert rows[name]["status"] in ("ok", "failed", "left out")
            assert rows[name]["status"] == "ok" or rows[name]["reason"]
    assert json.loads(json.dumps(cases)) == cases


def test_a_wrong_result_is_marked_and_a_broken_runtime_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(row: Candidate, file: Any, device: Any) -> Any:
        if row.name == "broken":
            raise RuntimeError("\nno kernels\nat line 1")
        if row.name == "single":
            return Engine.__new__(Engine)
        return lambda lr: torch.zeros(lr.shape[0], 3, 4 * lr.shape[2], 4 * lr.shape[3])

    rows = [Candidate(name, name, "fp32", (), (), device="cuda") for name in ("broken", "wrong", "single")]
    monkeypatch.setattr(inference, "gpu_candidates", lambda: rows)
    monkeypatch.setattr(inference, "load_row", load)
    (case,) = time_inference(torch.device("cpu"), shapes=(Shape(2, 8, 8),))
    found = [(row["name"], row["status"], row["reason"]) for row in case["rows"]]
    assert found[0] == ("broken", "failed", "RuntimeError: no kernels")
    assert found[1][:2] == ("wrong", "wrong")
    assert "beyond 1e-03 of the range" in found[1][2]
    assert found[2] == ("single", "left out", "its engine takes one image at a time")


def test_onnx_runtime_reads_and_writes_torchs_memory() -> None:
    """As on a GPU, but in memory of the host."""
    file = read_model(DEFAULT_MODEL)
    upscale = inference._onnxruntime("onnxruntime", file)
    lr = torch.rand(2, 3, 9, 7)
    expected = torch.from_numpy(create_backend(file, "native").run(lr.numpy()))
    for given in (lr, lr.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(upscale(given), expected, atol=1e-4, rtol=0)


# --- the page

HOSTILE = "<script>alert('1')</script>&\"'"


def _time(median: float) -> dict[str, float]:
    return {"median": median, "least": 0.9 * median, "most": 1.2 * median}


def _row(name: str, status: str = "ok", **values: Any) -> dict[str, Any]:
    found = asdict(inference.RowResult(name, "fp16", status))
    return found | {"device": _time(2e-3), "graph": _time(1e-3), "psnr_db": 70.0, "max_error": 1e-3} | values


def _report() -> dict[str, Any]:
    rows = [_row("torch-nhwc-fp16"), _row(HOSTILE, "wrong", reason=HOSTILE), _row("tensorrt-fp16", "failed")]
    rows.append(_row("bare", device=None, graph=None, psnr_db=None, max_error=None, graph_reason="streams"))
    layer = {"layer": "trunk", "direction": "forward", "fused": _time(3e-5), "stock": _time(4e-5), "gflop": 2.0}
    return {
        "problems": [HOSTILE],
        "environment": {"device": HOSTILE, "torch": "2.14", "cuda": None},
        "inference": [{"shape": "1x3x128x128", "rows": rows}],
        "sanitizer": [asdict(SanitizerResult("racecheck", "errors", 2, 9.0, findings=[HOSTILE]))],
        "checks": [{"dtype": "torch.bfloat16", "right": False, "what": "sr", "value": 0.4, "tolerance": 0.1}],
        "layers, batch 16": [layer],
        "generator, batch 16": {
            "fused-bf16": asdict(steps.GeneratorResult(eager=Time(5e-3, 4e-3, 6e-3), graph=Time(4e-3, 3e-3, 5e-3))),
            "compiled": asdict(steps.GeneratorResult("failed", HOSTILE)),
        },
        "steps, batch 16": {
            "fused-bf16": asdict(steps.StepResult(step=Time(1e-2, 9e-3, 2e-2), losses={})),
            "compiled": asdict(steps.StepResult("failed", HOSTILE)),
        },
    }


def test_a_page_shows_all_parts_and_escapes_every_text() -> None:
    page = render(gpu_page(_report()))
    assert "<script" not in page
    for text in ("Inference, 1x3x128x128", "Training steps, batch 16", "Generator, batch 16", "Layers, batch 16"):
        assert text in page
    assert "Checks of the fused kernels" in page
    assert "racecheck" in page
    assert "no graph: streams" in page
    assert page.count("&lt;script&gt;") >= 6
    assert '<span class="pill">wrong</span>' in page


def test_a_page_of_training_where_no_row_worked_is_a_page_too() -> None:
    failed = {"a row": asdict(steps.StepResult("failed", "no compiler"))}
    page = render(gpu_page({"problems": [], "steps, batch 2": failed}))
    assert "no compiler" in page


def test_a_page_can_be_made_of_a_report_from_before_rows_could_fail() -> None:
    old = {"a row": {"step": _time(1e-2), "peak_mb": 5.0, "losses": {}}}
    assert "10" in render(gpu_page({"problems": [], "steps, batch 2": old}))


def test_a_report_with_nothing_in_it_is_a_page_too() -> None:
    assert "<html" in render(gpu_page({"problems": ["no kernels"]}))


def test_the_tool_makes_a_page_of_a_report_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(_report()))
    command = [sys.executable, str(TOOL), str(tmp_path / "r.json"), "--only-html", str(tmp_path / "r.html")]
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "r.html").read_text() == render(gpu_page(_report()))
    (tmp_path / "r.json").write_text("[]")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not a report" in done.stderr


# --- the clock of a row


class _Event:
    """Knows when it was recorded, in milliseconds of a clock that the test turns."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = -1.0

    def record(self) -> None:
        self.at = _Event.now

    def synchronize(self) -> None:
        assert self.at >= 0

    def elapsed_time(self, end: "_Event") -> float:
        return end.at - self.at


def test_a_row_on_torchs_streams_is_timed_by_events_and_by_the_drivers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1000 << 20]
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free[0], 2000 << 20))
    clock = TorchClock()

    def run() -> str:
        _Event.now += 7.0
        free[0] = 400 << 20
        return "a picture"

    assert clock.around(run)() == "a picture"
    assert clock.last_run_s() == pytest.approx(7e-3)
    free[0] = 900 << 20
    assert clock.peak_mib() == 600


def test_only_backends_on_torchs_streams_get_a_clock_and_only_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert candidates._gpu("torch") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 1))
    assert isinstance(candidates._gpu("tensorrt-rtx"), TorchClock)
    assert candidates._gpu("native") is None


def test_the_report_needs_torch_numpy_and_safetensors_alone() -> None:
    code = """
import sys
for name in ("pydantic", "onnx", "onnxruntime", "openvino", "typer", "rich", "pyvips", "torchvision", "matplotlib"):
    sys.modules[name] = None
sys.argv = ["gpu_report.py", "--help"]
import runpy
runpy.run_path(TOOL, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", f"TOOL = {str(TOOL)!r}\n{code}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--only-html" in done.stdout
