"""A step with the CUDA operators, their kernels emulated on the host: it is PyTorch's step, in few launches.

See `tests/emulated_gpu.py`. The counts are those of the paper's networks; batch and crop hardly change them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# Before moments, scales, slopes and casts shared launches there were 1116 (docs/cuda.md).
MOST = 845


def run(*command: str) -> str:
    environment = os.environ | {"PATH": PATH, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if missing := [tool for tool in ("cmake", "ninja", "g++") if shutil.which(tool, path=PATH) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("emulated_gpu")
    options = ("-DSRGAN_FAST_PYTHON=OFF", "-DSRGAN_FAST_TESTS=ON", f"-DSRGAN_FAST_TORCH={Path(torch.__file__).parent}")
    run("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *options)
    run("cmake", "--build", str(folder), "--target", "emulated_gpu")
    step = Path(__file__).with_name("emulated_step.py")
    return json.loads(run(sys.executable, str(step), str(folder / "csrc" / "tests" / "emulated_gpu")))


def test_a_step_of_cuda_operators_is_that_of_plain_pytorch(report: Any) -> None:
    assert report["missing"] == []
    # A bias in front of a BatchNorm has a gradient of nothing but rounding.
    no_signal = {f"discriminator.trunk.conv{i}.conv.bias" for i in range(2, 9)}
    wrong = {key: error for key, error in report["errors"].items() if not error < 3e-4 and key not in no_signal}
    assert wrong == {}


def test_a_step_of_cuda_operators_repeats_bit_by_bit(report: Any) -> None:
    assert report["repeats"]


def test_a_step_takes_few_launches(report: Any) -> None:
    counts = report["launches"]
    assert sum(counts.values()) <= MOST, counts
    separate = {"BnScaleParams", "BnScaleBackwardParams", "BnFollowParams"}
    assert separate.isdisjoint(counts)
    assert counts["aten::_foreach_copy_"] == 2  # all weights of a network at once
