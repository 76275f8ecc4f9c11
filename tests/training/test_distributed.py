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
from srgan_fast.training import distributed, read_config

from .conftest import conduct, differing, tiny_sections

WORKERS = Path(__file__).with_name("workers.py")


def torchrun(*arguments: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Two processes on one core each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def write_config(pictures: Path, folder: Path) -> Path:
    """A TOML file of a run of two stages with D's means over all processes."""
    sections = tiny_sections(pictures, folder / "run")
    sections["data"]["batch"] = 4
    sections["pretrain"] |= {"steps": 4, "learning_rate": 1e-4}
    sections["gan"] |= {"steps": 3, "adversarial": "ragan", "features": {"weights": "random", "cut": "features[:2]"}}
    sections["run"] |= {"save_every": 2, "accumulate": 2}
    lines = []
    for name, section in sections.items():
        features: dict[str, Any] = section.pop("features", {})
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
        lines += [f"features.{key} = {json.dumps(value)}" for key, value in features.items()]
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


def test_two_processes_train_what_one_does(undisturbed: Path, pictures: Path, tmp_path: Path) -> None:
    # The same parts of the batch, so BatchNorm sees the same images: what is left is the order of float32 sums.
    config = read_config(write_config(pictures, tmp_path))
    outcome = conduct(config)
    assert outcome.finished
    ours, theirs = last_state(undisturbed), last_state(config.run.output)
    for name, tensor in theirs["networks"]["generator"].items():
        torch.testing.assert_close(ours["networks"]["generator"][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    for name, tensor in theirs["average"].items():
        torch.testing.assert_close(ours["average"][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    for name, tensor in theirs["networks"]["discriminator"].items():
        # A bias before BatchNorm has no gradient but rounding, which Adam takes for a direction: 3 steps of 1e-4.
        free = name.endswith("conv.bias") or name.endswith("running_mean")
        torch.testing.assert_close(
            ours["networks"]["discriminator"][name], tensor, rtol=1e-3, atol=6e-4 if free else 1e-5, msg=name
        )
    for stage in ("pretrain", "gan"):
        a, b = (read_generator(run / f"{stage}.safetensors") for run in (undisturbed, config.run.output))
        assert all(np.allclose(a.weights[name], b.weights[name], rtol=1e-4, atol=1e-6) for name in b.weights)
    one = torch.load(config.run.output / "checkpoints" / "0-pretrain-00000002.pt", weights_only=True)
    moved = theirs["networks"]["generator"]["tail.weight"] - one["networks"]["generator"]["tail.weight"]
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
