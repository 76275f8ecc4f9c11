"""A manifest makes a batch resumable after any end of it, and lets several processes share it."""

import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, encode_image, read_image
from srgan_fast.errors import FileError
from srgan_fast.files import host, start_of
from srgan_fast.upscale import Job, JobResult, Manifest, OutputOptions, run_shared, shared
from srgan_fast.upscale.one import is_whole


class Identity:
    """An upscaler of factor 1."""

    scale = 1

    def upscale(self, image: Image, outscale: float | None = None, on_tile: Any = None) -> Image:
        return image


def _noise(path: str, seed: int = 0, side: int = 6) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(encode_image(Image(pixels), "png"))
    return Path(path)


def _jobs(count: int) -> list[Job]:
    return [Job(_noise(f"in/{i}.png", i), Path(f"out/{i}.png"), "png") for i in range(count)]


def _run(jobs: list[Job], run: str = "run", **options: Any) -> list[JobResult]:
    upscaler: Any = Identity()
    return list(run_shared(jobs, upscaler, OutputOptions(**options), Manifest(Path("m.jsonl"), run)))


def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("m.jsonl").read_text().splitlines()]


def _append(**facts: Any) -> None:
    with Path("m.jsonl").open("a") as file:
        file.write(json.dumps(facts) + "\n")


def test_a_run_writes_what_it_did_and_a_second_does_nothing(folder: Path) -> None:
    jobs = _jobs(3)
    assert [result.status for result in _run(jobs)] == ["done"] * 3
    done = [line for line in _lines() if line["status"] == "done"]
    assert [line["target"] for line in done] == [str(folder / f"out/{i}.png") for i in range(3)]
    assert all(line["bytes"] == Path(line["target"]).stat().st_size and len(line["digest"]) == 64 for line in done)
    before = [path.stat().st_mtime_ns for path in sorted(Path("out").iterdir())]
    again = _run(jobs)
    assert [result.message for result in again] == [f"out/{i}.png is done according to the manifest" for i in range(3)]
    assert [path.stat().st_mtime_ns for path in sorted(Path("out").iterdir())] == before


def test_a_changed_source_or_other_options_are_done_again(folder: Path) -> None:
    jobs = _jobs(2)
    _run(jobs)
    _noise("in/0.png", 9, side=7)
    assert [result.status for result in _run(jobs)] == ["done", "skipped"]
    assert read_image(Path("out/0.png")).width == 7
    assert [result.status for result in _run(jobs, run="other")] == ["done", "done"]


def test_a_touched_source_of_the_same_content_is_not_done_again(folder: Path) -> None:
    jobs = _jobs(1)
    _run(jobs)
    os.utime("in/0.png", (1, 1))
    assert [result.status for result in _run(jobs)] == ["skipped"]


def test_a_result_that_was_removed_or_cut_is_done_again(folder: Path) -> None:
    jobs = _jobs(2)
    _run(jobs)
    Path("out/0.png").unlink()
    assert [result.status for result in _run(jobs)] == ["done", "skipped"]


def test_a_file_that_no_run_has_made_is_never_replaced(folder: Path) -> None:
    jobs = _jobs(1)
    Path("out").mkdir()
    Path("out/0.png").write_bytes(b"mine")
    for _ in range(3):
        (result,) = _run(jobs)
        assert result.message == "out/0.png: exists already; use --overwrite or --skip-existing"
    assert Path("out/0.png").read_bytes() == b"mine"


def test_a_torn_last_line_is_no_line(folder: Path) -> None:
    jobs = _jobs(2)
    _run(jobs)
    whole = Path("m.jsonl").read_bytes()
    Path("m.jsonl").write_bytes(whole[:-40])
    assert {str(result.job.source): result.status for result in _run(jobs)} == {
        "in/0.png": "skipped", "in/1.png": "done",
    }  # fmt: skip
    assert [result.status for result in _run(jobs)] == ["skipped", "skipped"]


def test_a_claim_of_a_dead_process_is_taken_over_at_once(folder: Path) -> None:
    jobs = _jobs(1)
    _append(target=str(folder / "out/0.png"), status="claimed", host=host(), pid=2**22 + 1, time=time.time())
    assert [result.status for result in _run(jobs)] == ["done"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts of processes are read in /proc there only")
def test_a_claim_of_a_dead_process_whose_id_was_given_again_is_taken_over(folder: Path) -> None:
    jobs = _jobs(1)
    claim = {"target": str(folder / "out/0.png"), "status": "claimed", "host": host(), "pid": os.getppid()}
    _append(**claim, start=start_of(os.getppid()) - 1, time=time.time())
    assert [result.status for result in _run(jobs)] == ["done"]
    _append(**claim, start=start_of(os.getppid()), time=time.time())
    assert Manifest(Path("m.jsonl"), "run").claim(jobs[0].source, jobs[0].target) == "held"


def test_a_line_that_a_full_disk_cuts_is_an_error_and_spoils_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [100]
    opened = Path.open

    def nearly_full(self: Path, *arguments: Any, **options: Any) -> Any:
        return NearlyFull(self, "a+") if self.name == "m.jsonl" else opened(self, *arguments, **options)

    class NearlyFull(io.FileIO):
        """A file on a disk with some bytes left, of which the system writes what fits."""

        def write(self, data: Any) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            part = memoryview(data)[: room[0]]
            room[0] -= len(part)
            return super().write(part)

    jobs = _jobs(3)
    manifest = Manifest(Path("m.jsonl"), "run")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", nearly_full)
        with pytest.raises(FileError, match="No space left on device"):
            manifest.claim(jobs[0].source, jobs[0].target)
    assert Path("m.jsonl").stat().st_size == 100
    assert manifest.claim(jobs[1].source, jobs[1].target) == "claimed"
    assert {Path(target).name for target in Manifest(Path("m.jsonl"), "run").lines} == {"1.png"}


def test_claims_are_renewed_again_after_a_failure_that_passed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[float] = []
    renewed = threading.Event()

    def renew(manifest: Manifest) -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise FileError("m.jsonl: cannot be used as a manifest (No space left on device)")
        renewed.set()

    monkeypatch.setattr(Manifest, "renew", renew)
    monkeypatch.setattr(shared, "_RENEW_EVERY", 0.01)
    with shared._renewed(Manifest(Path("m.jsonl"), "run")):
        assert renewed.wait(60)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "could not be renewed" in messages[0]
    assert "No space left" in messages[0]


def test_a_claim_of_another_host_is_taken_over_when_it_is_old(folder: Path) -> None:
    jobs = _jobs(1)
    _append(target=str(folder / "out/0.png"), status="claimed", host="elsewhere", pid=1, time=time.time() - 301)
    assert [result.status for result in _run(jobs)] == ["done"]


def test_a_held_image_is_waited_for_in_the_end(folder: Path) -> None:
    jobs = _jobs(2)
    held = {"target": str(folder / "out/0.png"), "status": "claimed", "host": "elsewhere", "pid": 1}
    _append(**held, time=time.time() - 298)
    results = _run(jobs)
    assert [(result.job.source, result.status) for result in results] == [
        (Path("in/1.png"), "done"), (Path("in/0.png"), "done"),
    ]  # fmt: skip


def test_failures_are_recorded_and_tried_again(folder: Path) -> None:
    jobs = _jobs(1)
    whole = Path("in/0.png").read_bytes()
    Path("in/0.png").write_bytes(whole[:40])
    assert [result.status for result in _run(jobs)] == ["failed"]
    assert "cannot be read as an image" in _lines()[-1]["message"]
    Path("in/0.png").write_bytes(whole)
    assert [result.status for result in _run(jobs)] == ["done"]


def test_a_line_comes_after_the_name_and_the_folder_reached_the_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def traced_sync(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").resolve()
        order.append(
            "folder of the manifest" if place == folder
            else "folder" if place.is_dir()
            else _lines()[-1]["status"] if place.name == "m.jsonl"
            else "contents"
        )  # fmt: skip
        sync(descriptor)

    def traced_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    jobs = _jobs(1)
    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    _run(jobs)
    assert order == ["folder of the manifest", "claimed", "contents", "rename", "folder", "done"]


# -- processes that die ------------------------------------------------------------------------------------------------

WORKER = """
import sys, time
from pathlib import Path
from srgan_fast.data.images import Image
from srgan_fast.upscale import Job, Manifest, OutputOptions, run_shared

class Slow:
    scale = 1
    def upscale(self, image, outscale=None, on_tile=None):
        time.sleep(0.02)
        return image

jobs = [Job(path, Path("out") / path.name, "png") for path in sorted(Path("in").iterdir())]
print("ready", flush=True)
for result in run_shared(jobs, Slow(), OutputOptions(), Manifest(Path("m.jsonl"), "run")):
    print(result.status, result.job.source, flush=True)
"""


def _worker() -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _expect_all(count: int) -> None:
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(f"{i}.png" for i in range(count))
    for i in range(count):
        np.testing.assert_array_equal(read_image(Path(f"out/{i}.png")).pixels, read_image(Path(f"in/{i}.png")).pixels)


def _kill_and_resume(kills: int, count: int) -> None:
    chance = random.Random(0)
    for i in range(count):
        _noise(f"in/{i}.png", i, side=40)
    for _ in range(kills):
        process = _worker()
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.communicate()
        for path in Path("out").glob("[!.]*"):
            assert is_whole(path)
    process = _worker()
    said, _ = process.communicate(timeout=120)
    assert "failed" not in said
    _expect_all(count)


def test_resuming_after_kill_9_is_exact(folder: Path) -> None:
    _kill_and_resume(kills=5, count=60)


@pytest.mark.fuzz
def test_resuming_after_kill_9_at_50_points_is_exact(folder: Path) -> None:
    _kill_and_resume(kills=50, count=300)


def test_two_processes_share_the_work_and_one_takes_over_when_the_other_is_killed(folder: Path) -> None:
    count = 80
    for i in range(count):
        _noise(f"in/{i}.png", i, side=40)
    first, second = _worker(), _worker()
    time.sleep(0.4)
    first.send_signal(signal.SIGKILL)
    of_first, _ = first.communicate()
    of_second, _ = second.communicate(timeout=120)
    _expect_all(count)
    assert "done" in of_first
    done = Counter(line["target"] for line in _lines() if line["status"] == "done")
    assert set(done.values()) == {1}, "nothing is done twice"
    assert len(done) == count, "nothing is lost"
    assert "failed" not in of_first + of_second


def test_a_full_disk_fails_an_image_and_resuming_does_it(folder: Path) -> None:
    for i in range(3):
        _noise(f"in/{i}.png", i, side=400 if i == 1 else 20)
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n" + WORKER
    said = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["done", "failed", "done"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "2.png"]
    process = _worker()
    process.communicate(timeout=60)
    _expect_all(3)
