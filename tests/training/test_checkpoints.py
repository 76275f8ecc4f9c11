"""Checkpoints are whole or absent: the last few are kept, a damaged one is passed over, a full disk costs nothing."""

import errno
import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srgan_fast.errors import TrainingError
from srgan_fast.training import checkpoints as module
from srgan_fast.training.checkpoints import CheckpointFolder


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "run", keep=3)


def some_state(value: float = 0.0, size: int = 1000) -> dict[str, Any]:
    return {"networks": {"generator": {"weight": torch.full((size,), value)}}, "optimisers": [1, "two", 3.0]}


def names(checkpoints: CheckpointFolder) -> list[str]:
    """Everything in the folder, so that nothing half-written goes unseen."""
    return sorted(path.name for path in checkpoints.folder.iterdir()) if checkpoints.folder.exists() else []


def loaded_value(checkpoints: CheckpointFolder) -> float:
    found = checkpoints.load_latest()
    assert found is not None
    value: float = found[1]["networks"]["generator"]["weight"][0].item()
    return value


def test_what_was_saved_is_loaded_with_its_place(checkpoints: CheckpointFolder) -> None:
    path = checkpoints.save(1, "gan", 250, some_state(2.5))
    found = checkpoints.load_latest()
    assert found is not None
    assert found[0] == path
    assert path.parent == checkpoints.folder
    assert (found[1]["stage"], found[1]["step"]) == ("gan", 250)
    assert torch.equal(found[1]["networks"]["generator"]["weight"], torch.full((1000,), 2.5))
    assert found[1]["optimisers"] == [1, "two", 3.0]


def test_no_folder_and_an_empty_one_hold_none(checkpoints: CheckpointFolder) -> None:
    assert checkpoints.load_latest() is None
    assert checkpoints.list() == []
    checkpoints.folder.mkdir(parents=True)
    assert checkpoints.load_latest() is None


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_few_are_kept(tmp_path: Path, keep: int) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep)
    for step in range(1, 6):
        checkpoints.save(0, "pretrain", step, some_state(step))
        assert len(names(checkpoints)) == min(step, keep)
    assert names(checkpoints) == [f"0-pretrain-{step:08d}.pt" for step in range(6 - keep, 6)]
    assert loaded_value(checkpoints) == 5


def test_order_is_by_stage_then_by_number(checkpoints: CheckpointFolder) -> None:
    wide = CheckpointFolder(checkpoints.folder.parent, keep=100)
    for order, stage, step in [
        (1, "gan", 5),
        (0, "pretrain", 999_999_999),
        (1, "gan", 100_000_000),
        (0, "pretrain", 7),
    ]:
        wide.save(order, stage, step, some_state())
    (wide.folder / "notes.pt").write_bytes(b"mine")
    (wide.folder / ".0-pretrain-00000009.pt.abc.tmp").write_bytes(b"half")
    assert [path.name for path in wide.list()] == [
        "0-pretrain-00000007.pt",
        "0-pretrain-999999999.pt",
        "1-gan-00000005.pt",
        "1-gan-100000000.pt",
    ]
    checkpoints.save(1, "gan", 100_000_001, some_state())
    assert checkpoints.list()[0].name == "1-gan-00000005.pt"
    assert (wide.folder / "notes.pt").exists()


def test_saving_again_replaces(checkpoints: CheckpointFolder) -> None:
    checkpoints.save(0, "pretrain", 3, some_state(1))
    checkpoints.save(0, "pretrain", 3, some_state(2))
    assert names(checkpoints) == ["0-pretrain-00000003.pt"]
    assert loaded_value(checkpoints) == 2


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7, 0.9, 0.99, 0.9999])
def test_a_truncated_newest_falls_back_to_the_one_before(checkpoints: CheckpointFolder, part: float) -> None:
    checkpoints.save(0, "pretrain", 1, some_state(1))
    older = checkpoints.save(0, "pretrain", 2, some_state(2))
    newest = checkpoints.save(0, "pretrain", 3, some_state(3))
    data = newest.read_bytes()
    newest.write_bytes(data[: int(len(data) * part)])
    found = checkpoints.load_latest()
    assert found is not None
    assert found[0] == older
    assert loaded_value(checkpoints) == 2


def flipped(data: bytes, *places: int) -> bytes:
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= 0x04
    return bytes(damaged)


def test_any_two_changed_bytes_are_noticed_named_and_passed_over(checkpoints: CheckpointFolder) -> None:
    older = checkpoints.save(0, "pretrain", 2, some_state(2))
    newest = checkpoints.save(0, "pretrain", 3, some_state(3, size=100))
    whole = newest.read_bytes()
    random = np.random.default_rng(0)
    pairs = [(0, 1), (len(whole) - 2, len(whole) - 1), (len(whole) - 60, len(whole) - 40)]
    pairs += [tuple(random.choice(len(whole), 2, replace=False)) for _ in range(150)]
    passed_over = 0
    for places in pairs:
        newest.write_bytes(flipped(whole, *places))
        notes: list[str] = []
        found = checkpoints.load_latest(notes.append)
        assert found is not None
        if found[0] == newest:  # only the checksum's own name was changed, and nothing it stands for
            assert min(places) >= len(whole) - 49
            assert loaded_value(checkpoints) == 3
            continue
        passed_over += 1
        assert found[0] == older
        assert len(notes) == 1
        assert notes[0].startswith(f"checkpoint {newest.name} is damaged (")
        assert notes[0].endswith("); continuing from the previous one")
        assert "\n" not in notes[0]
    assert passed_over == len(pairs)
    newest.write_bytes(whole)
    assert checkpoints.load_latest(pytest.fail) is not None


def test_a_checkpoint_whose_checksum_was_cut_off_is_damaged(checkpoints: CheckpointFolder) -> None:
    older = checkpoints.save(0, "pretrain", 2, some_state(2))
    newest = checkpoints.save(0, "pretrain", 3, some_state(3))
    newest.write_bytes(newest.read_bytes()[:-49])
    notes: list[str] = []
    found = checkpoints.load_latest(notes.append)
    assert found is not None
    assert found[0] == older
    assert notes == [
        f"checkpoint {newest.name} is damaged (its checksum is missing); continuing from the previous one",
    ]


def test_a_checkpoint_from_before_there_were_checksums_is_loaded(checkpoints: CheckpointFolder) -> None:
    path = checkpoints.save(0, "pretrain", 3, some_state(1))
    torch.save({**some_state(3), "format": module.FORMAT, "stage": "pretrain", "step": 3}, path)
    assert loaded_value(checkpoints) == 3


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep=1)
    damaged = checkpoints.save(0, "pretrain", 6, some_state(6))
    damaged.write_bytes(flipped(damaged.read_bytes(), 1000))
    checkpoints.save(0, "pretrain", 4, some_state(4))
    checkpoints.save(0, "pretrain", 5, some_state(5))
    assert names(checkpoints) == ["0-pretrain-00000005.pt", "0-pretrain-00000006.pt"]
    assert loaded_value(checkpoints) == 5
    checkpoints.save(0, "pretrain", 6, some_state(7))
    assert names(checkpoints) == ["0-pretrain-00000006.pt"]
    assert loaded_value(checkpoints) == 7


class Malicious:
    """Says when it is unpickled, as somebody else's file might do worse."""

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("kind", ["garbage", "other format", "no dictionary", "pickle", "folder"])
def test_a_file_that_is_no_checkpoint_of_ours_is_passed_over(
    checkpoints: CheckpointFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    older = checkpoints.save(0, "pretrain", 2, some_state(2))
    newest = checkpoints.folder / "0-pretrain-00000003.pt"
    if kind == "garbage":
        newest.write_bytes(b"\x80\x02" + bytes(range(256)) * 10)
    elif kind == "other format":
        torch.save({**some_state(3), "format": "another/1"}, newest)
    elif kind == "no dictionary":
        torch.save(torch.zeros(3), newest)
    elif kind == "pickle":
        newest.write_bytes(pickle.dumps(Malicious(), protocol=2))
    else:
        newest.mkdir()
    found = checkpoints.load_latest()
    assert found is not None
    assert found[0] == older
    assert not (tmp_path / "unpickled").exists()


def test_if_all_are_damaged_the_error_names_each(checkpoints: CheckpointFolder) -> None:
    paths = [checkpoints.save(0, "pretrain", step, some_state()) for step in (1, 2, 3)]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    torch.save({"format": "another/1"}, paths[2])
    with pytest.raises(TrainingError, match="no checkpoint can be read") as error:
        checkpoints.load_latest()
    text = str(error.value)
    assert "\n" not in text
    assert all(path.name in text for path in paths)
    assert text.count("is damaged") == 2
    assert f"{paths[2].name} is not a checkpoint of srgan_fast" in text


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk on which files cannot grow further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def replaced(target: object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


@pytest.mark.parametrize("how", ["limit", "tiny limit", "write", "fsync"])
@pytest.mark.parametrize("existed", [False, True])
def test_a_full_disk_leaves_the_last_good_checkpoint_and_names_it(
    checkpoints: CheckpointFolder, how: str, existed: bool
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    good = None
    if existed:
        for step in range(1, 4):  # as many as are kept: none may be removed for the one that fails
            good = checkpoints.save(0, "pretrain", step, some_state(step))
    before = names(checkpoints)

    def fail(*_: object) -> None:
        raise full

    if how.endswith("limit"):
        disk = file_size_limit(100 if how == "tiny limit" else 300_000)
    else:
        disk = replaced(*((module.torch, "save") if how == "write" else (module.os, "fsync")), fail)
    with disk, pytest.raises(TrainingError, match=r"checkpoint 0-pretrain-00000009\.pt could not be saved") as error:
        checkpoints.save(0, "pretrain", 9, some_state(9, size=200_000))
    text = str(error.value)
    assert "\n" not in text
    assert (f"the last good checkpoint is {good}" if good else "there is no earlier one") in text
    if not how.endswith("limit"):
        assert "No space left" in text
    assert names(checkpoints) == before
    if existed:
        assert loaded_value(checkpoints) == 3
    checkpoints.save(0, "pretrain", 9, some_state(9))
    assert loaded_value(checkpoints) == 9


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()], ids=repr)
def test_an_interrupted_write_leaves_nothing_behind(checkpoints: CheckpointFolder, error: BaseException) -> None:
    good = checkpoints.save(0, "pretrain", 1, some_state(1))
    write = torch.save

    def interrupted(state: Any, file: Any) -> None:
        write(state, file)
        raise error

    with replaced(module.torch, "save", interrupted), pytest.raises(type(error)):
        checkpoints.save(0, "pretrain", 2, some_state(2))
    assert names(checkpoints) == [good.name]
    assert loaded_value(checkpoints) == 1


def test_an_output_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(TrainingError, match="could not be saved"):
        CheckpointFolder(tmp_path / "run", 3).save(0, "pretrain", 1, some_state())
