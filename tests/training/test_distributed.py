"""Several processes compute what one would, and outlive the death of one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srgan_fast.models import read_generator
from srgan_fast.training import batches, distributed, read_config

from .conftest import conduct, differing, tiny_sections
from .workers import compute_in_float64

WORKERS = Path(__file__).with_name("workers.py")


def torchrun(*arguments: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Two processes on one core each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def write_config(pictures: Path, folder: Path, kernels: str = "auto") -> Path:
    """A TOML file of a run of two stages with D's means over all processes."""
    sections = tiny_sections(pictures, folder / "run")
    sections["data"]["batch"] = 4
    sections["pretrain"] |= {"steps": 4, "learning_rate": 1e-4}
    sections["gan"] |= {"steps": 3, "adversarial": "ragan", "features": {"weights": "random", "cut": "features[:2]"}}
    sections["run"] |= {"save_every": 2, "accumulate": 2, "kernels": kernels}
    lines = []
    for name, section in sections.items():
        features: dict[str, Any] = section.pop("features", {})
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
        lines += [f"features.{key} = {json.dumps(value)}" for key, value in features.items()]
    folder.mkdir(exist_ok=True)
    path = folder / "run.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two processes."""
    config = write_config(pictures, tmp_path_factory.mktemp("undisturbed"))
    result = torchrun("-m", "srgan_fast", "train", config)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("done: ") == 1  # only one of them speaks
    assert result.stderr.count("gan: from step 0 to 3") == 1
    return config.parent / "run"


def last_state(run: Path) -> dict[str, Any]:
    state = torch.load(run / "checkpoints" / "1-gan-00000003.pt", weights_only=True)
    return {key: state[key] for key in ("networks", "optimisers", "average", "step")}


def test_reductions_are_those_of_one_process_that_sees_everything(tmp_path: Path) -> None:
    result = torchrun(WORKERS, "collectives", tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["passed-0", "passed-1"]


def test_those_who_start_anew_do_not_look_for_the_dead(tmp_path: Path) -> None:
    result = torchrun(WORKERS, "reborn", tmp_path, restarts=1)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reborn-0", "reborn-1"]


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_two_processes_train_what_one_does(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, float64: None, kernels: str
) -> None:
    # The same parts of the batch, so BatchNorm sees the same images: what is left is the order of sums. In float64, for
    # Adam makes whole steps of gradients that are nothing but rounding.
    two, one = (write_config(pictures, tmp_path / name, kernels) for name in ("two", "one"))
    result = torchrun(WORKERS, "double", "train", two)
    assert result.returncode == 0, result.stderr
    monkeypatch.setattr(batches, "to_batch", batches.to_batch)  # brought back afterwards
    compute_in_float64()
    assert conduct(read_config(one)).finished
    ours, theirs = last_state(two.parent / "run"), last_state(one.parent / "run")
    for key in ("networks", "average"):
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-6, atol=1e-9)
    for stage in ("pretrain", "gan"):
        a, b = (read_generator(path.parent / "run" / f"{stage}.safetensors") for path in (two, one))
        assert all(np.allclose(a.weights[name], b.weights[name], rtol=1e-5, atol=1e-7) for name in b.weights)
    first = torch.load(one.parent / "run" / "checkpoints" / "0-pretrain-00000004.pt", weights_only=True)
    moved = theirs["networks"]["generator"]["tail.weight"] - first["networks"]["generator"]["tail.weight"]
    assert moved.dtype == torch.float64
    assert moved.abs().max() > 1e-4  # far beyond the tolerance


def test_a_killed_process_costs_nothing_but_time(undisturbed: Path, pictures: Path, tmp_path: Path) -> None:
    config = write_config(pictures, tmp_path)
    result = torchrun(WORKERS, "dying", tmp_path / "run", "train", config, "--resume", restarts=1)
    assert result.returncode == 0, result.stderr
    assert "Signal 9 (SIGKILL)" in result.stderr or "exitcode: -9" in result.stderr
    starts = [line for line in result.stderr.splitlines() if ": from step " in line]
    assert starts[0] == "pretrain: from step 0 to 4"
    assert len(starts) > 2
    assert "pretrain: from step 0 to 4" not in starts[1:]  # the second life began at a checkpoint
    assert differing(last_state(tmp_path / "run"), last_state(undisturbed)) == []


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.start() == (0, 1)
    assert not torch.distributed.is_initialized()
    x = torch.rand(3)
    assert distributed.all_reduce_sum(x) is x
    assert distributed.mean_over_processes(x) == x.mean()
    assert distributed.any_process(True)
    assert not distributed.any_process(False)
    distributed.stop()


def test_shared_moments_stay_on_their_device_and_never_wait_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    # Under nccl a tensor of the CPU cannot be reduced. The meta device stands in for a GPU: it also has no values that
    # the host could fetch.
    devices: list[str] = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda tensor, *_: devices.append(tensor.device.type))
    norm = distributed.SharedBatchNorm2d(4).to("meta")
    mean, var, count = norm.share_moments(torch.empty(4, device="meta"), torch.empty(4, device="meta"), 30)
    assert (mean.device.type, var.device.type, count) == ("meta", "meta", 60)
    x = torch.empty(2, 4, 3, 5, device="meta", requires_grad=True)
    norm(x).sum().backward()
    assert set(devices) == {"meta"}
    assert len(devices) == 6  # of moments twice, and of their gradients
