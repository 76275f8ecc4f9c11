"""Several workers: images side by side are the same bytes in the same order, and end as one after the other do."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, encode_image, read_image
from srgan_fast.upscale import Job, JobResult, Manifest, OutputOptions, Upscaler, plan_jobs, run_jobs, run_shared
from srgan_fast.upscale import batch as batch_module
from srgan_fast.upscale.one import is_whole

DEFAULT = OutputOptions()


@pytest.fixture
def native(tiny_model: Path) -> Upscaler:
    """On our own engine, of which several share the weights."""
    return Upscaler(tiny_model, backend="native", threads=3)


def _picture(path: str, seed: int = 0, size: tuple[int, int] = (5, 7)) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image = Image(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
    Path(path).write_bytes(encode_image(image, "png"))
    return Path(path)


def _jobs(count: int, side: int = 20) -> list[Job]:
    return [Job(_picture(f"in/{i:02}.png", i, (side, side)), Path(f"out/{i:02}.png"), "png") for i in range(count)]


def _whole() -> list[str]:
    """Names of the results, each of them whole, with nothing unfinished beside them."""
    found = sorted(Path("out").iterdir()) if Path("out").exists() else []
    assert all(is_whole(path) for path in found)
    return [path.name for path in found]


@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
def test_results_are_the_same_bytes_in_the_same_order_whatever_the_workers(
    folder: Path, tiny_model: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "SMALL_SIDE", 30)
    upscaler = Upscaler(tiny_model, backend=backend, threads=3)
    for i, side in enumerate([9, 40, 8, 7, 50, 50, 30, 6, 31, 5, 12, 3]):
        _picture(f"in/{i:02}.png", i, (side, side + i % 3))
    Path("in/03.png").write_bytes(b"no picture")
    whole = Path("in/04.png").read_bytes()
    Path("in/04.png").write_bytes(whole[: len(whole) // 2])
    reference: list[tuple[str, str, Any]] = []
    for workers in (1, 2, 3, 7, None):
        out = f"out{workers}"
        results = list(run_jobs(plan_jobs(["in"], out, DEFAULT).jobs, upscaler, DEFAULT, workers=workers))
        found = []
        for result in results:
            assert result.job.target is not None
            made = result.job.target.read_bytes() if result.job.target.exists() else result.message
            found.append((str(result.job.source), result.status, made))
        reference = reference or found
        assert found == reference
        assert [status for _, status, _ in found].count("failed") == 2
        assert list(folder.rglob("*.tmp")) == []


def test_small_images_are_computed_at_the_same_time(folder: Path, native: Upscaler) -> None:
    together = threading.Barrier(2, timeout=60)
    waited = 0

    class Watched:
        """An engine whose every image waits for another one."""

        def __init__(self, engine: Upscaler) -> None:
            self.engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def upscale(self, *arguments: Any) -> Image:
            nonlocal waited
            together.wait()
            waited += 1
            return self.engine.upscale(*arguments)

    real = native.siblings
    native.siblings = lambda count: [Watched(engine) for engine in real(count)]  # type: ignore[method-assign, assignment, misc]
    assert [r.status for r in run_jobs(_jobs(6), native, DEFAULT, workers=2)] == ["done"] * 6
    assert waited == 6


def test_an_image_that_cannot_be_computed_or_written_fails_alone(folder: Path, native: Upscaler) -> None:
    jobs = _jobs(6)
    Path("out/02.png").mkdir(parents=True)
    Path("in/04.png").unlink()
    results = list(run_jobs(jobs, native, DEFAULT, workers=3))
    assert [r.status for r in results] == ["done", "done", "failed", "done", "failed", "done"]
    assert results[4].message == "in/04.png: no such file"


def test_stopping_drops_what_is_under_way_and_keeps_what_is_done(folder: Path, native: Upscaler) -> None:
    stop = threading.Event()
    results = []
    for result in run_jobs(_jobs(30), native, DEFAULT, stop=stop, workers=3):
        results.append(result)
        if len(results) == 4:
            stop.set()
    assert 4 <= len(results) < 30
    assert _whole() == [r.job.target.name for r in results if r.job.target], (
        "what is written is told, and nothing else is"
    )


def test_an_error_in_the_callers_function_ends_it_with_whole_results(folder: Path, native: Upscaler) -> None:
    calls = 0

    def interrupt(_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_jobs(_jobs(30), native, DEFAULT, interrupt, workers=3))
    assert len(_whole()) < 30


def test_a_caller_that_leaves_early_leaves_whole_results(folder: Path, native: Upscaler) -> None:
    results = run_jobs(_jobs(30), native, DEFAULT, workers=3)
    assert next(results).status == "done"
    results.close()  # type: ignore[attr-defined]
    assert 1 <= len(_whole()) < 30


def test_tiles_are_told_by_one_thread_at_a_time(folder: Path, native: Upscaler) -> None:
    inside, area = 0, 0

    def tell(tile: Any) -> None:
        nonlocal inside, area
        inside += 1
        assert inside == 1
        time.sleep(0.002)
        area += tile.area
        inside -= 1

    results = list(run_jobs(_jobs(12), native, DEFAULT, tell, workers=3))
    assert [r.status for r in results] == ["done"] * 12
    assert area == 12 * 20 * 20


def test_fewer_images_are_computed_at_once_where_memory_is_short(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = native.siblings
    native.siblings = lambda count: asked.append(count) or real(count)  # type: ignore[method-assign, func-returns-value]
    for have in (None, 2**40, 90 << 20):
        monkeypatch.setattr("srgan_fast.memory.available", lambda have=have: have)
        out = OutputOptions(existing="overwrite")
        assert [r.status for r in run_jobs(_jobs(8), native, out, workers=8)] == ["done"] * 8
    assert asked[:2] == [8, 8]
    assert 1 <= asked[2] < 8


def test_large_images_are_not_decoded_all_at_once(
    folder: Path, native: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "SMALL_SIDE", 10)
    decoded, computed, most = 0, 0, 0
    real_decode, real_upscale = batch_module.one.decode, batch_module.one.upscale

    def decode(*arguments: Any) -> Any:
        nonlocal decoded, most
        decoded += 1
        most = max(most, decoded - computed)
        return real_decode(*arguments)

    def upscale(*arguments: Any) -> Any:
        nonlocal computed
        time.sleep(0.02)
        result = real_upscale(*arguments)
        computed += 1
        return result

    monkeypatch.setattr(batch_module.one, "decode", decode)
    monkeypatch.setattr(batch_module.one, "upscale", upscale)
    assert [r.status for r in run_jobs(_jobs(8), native, DEFAULT, workers=8)] == ["done"] * 8
    assert most == 2, "the one that is computed, and the next"


# -- with a manifest ---------------------------------------------------------------------------------------------------

WORKER = """
import sys, time
from pathlib import Path
from srgan_fast.upscale import Job, Manifest, OutputOptions, Upscaler, run_shared

upscaler = Upscaler(sys.argv[1], backend="native", threads=3)
jobs = [Job(path, Path("out") / path.name, "png") for path in sorted(Path("in").iterdir())]
print("ready", flush=True)
slowly = lambda tile: time.sleep(0.004)
for result in run_shared(jobs, upscaler, OutputOptions(), Manifest(Path("m.jsonl"), "run"), slowly, workers=3):
    print(result.status, result.job.source, flush=True)
"""


def _statuses(results: list[JobResult]) -> list[str]:
    return [result.status for result in results]


def test_resuming_after_kill_9_is_exact_with_several_workers(folder: Path, tiny_model: Path) -> None:
    jobs = _jobs(50)
    chance = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WORKER, str(tiny_model)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.02, 0.15))
        process.kill()
        process.communicate()
        assert all(is_whole(path) for path in Path("out").glob("[!.]*"))
    upscaler = Upscaler(tiny_model, backend="native", threads=3)
    results = list(run_shared(jobs, upscaler, DEFAULT, Manifest(Path("m.jsonl"), "run"), workers=3))
    assert "failed" not in _statuses(results)
    assert _whole() == [job.target.name for job in jobs if job.target]
    for job in jobs:
        assert job.source is not None
        assert job.target is not None
        expected = upscaler.upscale(read_image(job.source)).pixels
        np.testing.assert_array_equal(read_image(job.target).pixels, expected)
    again = list(run_shared(jobs, upscaler, DEFAULT, Manifest(Path("m.jsonl"), "run"), workers=3))
    assert _statuses(again) == ["skipped"] * 50


def test_claims_of_a_run_that_is_stopped_are_released(folder: Path, native: Upscaler) -> None:
    stop = threading.Event()
    manifest = Manifest(Path("m.jsonl"), "run")
    done = 0
    for result in run_shared(_jobs(30), native, DEFAULT, manifest, stop=stop, workers=3):
        done += result.status == "done"
        if done == 3:
            stop.set()
    states = [line.status for line in manifest.lines.values()]
    assert set(states) <= {"done", "released"}
    assert len(_whole()) == states.count("done") == done


@pytest.mark.skipif(os.name != "posix", reason="signals are those of Unix")
def test_a_signal_ends_the_command_with_whole_results(folder: Path, tiny_model: Path) -> None:
    _jobs(200, side=60)
    command = [sys.executable, "-m", "srgan_fast", "upscale", "in", "-o", "out", "--workers", "3", "--threads", "3"]
    options = ["--model", str(tiny_model), "--backend", "native", "--suffix", ""]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (Path("out").exists() and list(Path("out").glob("[!.]*"))):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "interrupted; no partial files are left"
    assert 1 <= len(_whole()) < 200
    assert said.splitlines()[-2].startswith(f"{len(_whole())} upscaled")
