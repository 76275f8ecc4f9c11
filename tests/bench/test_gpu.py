"""The GPU report says what it is about, and what is wrong with it; with a GPU it is also run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from srgan_fast.bench.gpu import gpu_report
from srgan_fast.errors import UsageError
from srgan_fast.ops.native import why_not_on_cuda

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


@pytest.mark.skipif(not torch.cuda.is_available() or why_not_on_cuda() is not None, reason="no GPU, or no CUDA kernels")
def test_a_gpu_is_examined_and_measured(tmp_path: Path) -> None:
    report = gpu_report(batches=(2,), hr=32)
    assert report["problems"] == []
    assert all(row["right"] for row in report["checks"])
    assert {"environment", "layers, batch 2", "generator, batch 2", "steps, batch 2"} <= report.keys()
    assert json.loads(json.dumps(report)) == report
