"""`srgan-fast train`: a run that is resumed with other images is rejected in one line, and continues with --force."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakePicture = Callable[..., Path]


@pytest.fixture
def train(run: Any, picture: MakePicture, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Trains a small network on two images for a given number of steps."""
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(folder / "cache"))
    for number in range(2):
        picture(f"photos/{number}.png", seed=number, size=(24, 24, 3))
    settings = "[generator]\nchannels = 8\nblocks = 1\n[data]\ntrain = 'photos'\ncrop = 16\nbatch = 2\n"
    Path("run.toml").write_text(settings + "[run]\noutput = 'out'\ndevice = 'cpu'\nthreads = 1\n")

    def call(steps: int, *arguments: str) -> Any:
        return run("train", "run.toml", f"pretrain.steps={steps}", *arguments)

    return call


def test_force_belongs_to_resume(train: Any) -> None:
    result = train(1, "--force")
    assert result.exit_code == 1
    assert result.stderr.strip() == "error: --force works only with --resume; for a new run, change run.output"
    assert not Path("out").exists()


def test_a_run_continues_with_other_images_or_another_seed_only_with_force(train: Any, picture: MakePicture) -> None:
    assert train(1).exit_code == 0
    picture("photos/1.png", seed=5, size=(24, 24, 3))
    result = train(2, "run.seed=7", "--resume")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "run.seed was 0 and is 7; data.train has 2 images as before, but others" in errors[0]
    assert errors[0].endswith("To continue anyway: --resume --force")
    result = train(2, "run.seed=7", "--resume", "--force")
    assert result.exit_code == 0
    assert "continuing although run.seed was 0 and is 7" in result.stderr
    assert Path("out/checkpoints/0-pretrain-00000002.pt").is_file()
