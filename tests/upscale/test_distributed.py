"""A batch on a Ray cluster of two workers: exact, also where one of them is killed in the middle."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, encode_image, read_image
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.models import read_model
from srgan_fast.upscale import (
    Manifest,
    OutputOptions,
    RayOptions,
    Upscaler,
    plan_jobs,
    run_on_ray,
    run_shared,
)
from srgan_fast.upscale.distributed import _cluster

DEFAULT = OutputOptions()
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray, of the extra distributed, is not installed"
)


def _png(seed: int = 0, side: int = 24) -> bytes:
    return encode_image(Image(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)), "png")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray with two processors, and its workers' code from where this one comes from."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the command has it
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def _inputs() -> dict[str, bytes]:
    """Files by the name of their result: a folder with one that is no image, and a shard."""
    Path("in/sub").mkdir(parents=True)
    sources = {}
    for i in range(70):
        place = f"sub/{i:02}.png" if i % 7 == 0 else f"{i:02}.png"
        Path("in", place).write_bytes(_png(i))
        sources[place] = _png(i)
    Path("in/bad.png").write_bytes(b"no image")
    with tarfile.open("shard.tar", "w") as archive:
        for i in range(70, 90):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(_png(i))
            archive.addfile(info, io.BytesIO(_png(i)))
            sources[f"shard/{i}.png"] = _png(i)
    return sources


def _done(path: str = "m.jsonl") -> list[Any]:
    manifest = Manifest(Path(path), "")
    return [line for line in manifest.lines.values() if line.status == "done"]


def _kill_one(killed: list[int], after: int, ended: threading.Event) -> None:
    """Kills one of the workers once so many images are done; the manifest tells who works."""
    while not ended.wait(0.005):
        done = _done() if Path("m.jsonl").exists() else []
        workers = {line.pid for line in Manifest(Path("m.jsonl"), "").lines.values()} - {os.getpid()} if done else set()
        if len(done) >= after and len(workers) == 2:
            killed.append(done[-1].pid)
            os.kill(killed[0], signal.SIGKILL)
            return


@needs_ray
def test_a_killed_worker_loses_nothing_and_doubles_nothing(folder: Path, tiny_model: Path, cluster: Any) -> None:
    sources = _inputs()
    options = OutputOptions(suffix="")
    plan = plan_jobs(["in", "shard.tar"], "out", options, recursive=True, open_shards=False)
    upscaler = Upscaler(tiny_model, backend="native", threads=1)
    spread = RayOptions(2, 1, {"backend": "native"})
    killed: list[int] = []
    ended = threading.Event()
    killer = threading.Thread(target=_kill_one, args=(killed, 20, ended))
    killer.start()
    try:
        manifest = Manifest(Path("m.jsonl"), "run")
        results = list(run_on_ray(plan, "out", read_model(tiny_model), options, manifest, spread))
    finally:
        ended.set()
        killer.join()
    assert killed, "it ended before a worker was killed"
    assert Counter(r.status for r in results) == {"done": 90, "failed": 1}
    (failed,) = [r for r in results if r.status == "failed"]
    assert "in/bad.png: cannot be read as an image" in failed.message
    assert failed.job.source == Path("in/bad.png"), "names are as they were given"
    assert sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()) == sorted(sources)
    for name, data in sources.items():
        expected = upscaler.upscale(read_image(data)).pixels
        np.testing.assert_array_equal(read_image(Path("out", name)).pixels, expected)
    targets = Counter(line["target"] for line in _lines() if line["status"] == "done")
    assert len(targets) == 90
    assert set(targets.values()) == {1}, "nothing is done twice"
    # One process goes on with the manifest of the cluster, and finds it all done.
    opened = plan_jobs(["in", "shard.tar"], "out", options, recursive=True)
    again = list(run_shared(opened.jobs, upscaler, options, Manifest(Path("m.jsonl"), "run")))
    assert Counter(r.status for r in again) == {"skipped": 90, "failed": 1}


def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("m.jsonl").read_text().splitlines()]


@needs_ray
def test_what_a_worker_cannot_begin_with_is_one_line(folder: Path, tiny_model: Path, cluster: Any) -> None:
    Path("a.png").write_bytes(_png())
    plan = plan_jobs(["a.png"], "out", DEFAULT, open_shards=False)
    spread = RayOptions(1, 1, {"backend": "nothing"})
    with pytest.raises(BackendError, match="unknown backend 'nothing'"):
        list(run_on_ray(plan, "out", read_model(tiny_model), DEFAULT, Manifest(Path("m.jsonl"), "run"), spread))
    manifest = Manifest(Path("elsewhere/m.jsonl"), "run")
    (folder / "elsewhere/m.jsonl").unlink()
    spread = RayOptions(1, 1, {"backend": "native"})
    run = run_on_ray(plan, "out", read_model(tiny_model), DEFAULT, manifest, spread)
    with pytest.raises(BackendError, match=r"m.jsonl: does not exist on .*storage that all workers share"):
        list(run)


@needs_ray
def test_the_command_runs_on_a_cluster_of_its_own(folder: Path, tiny_model: Path) -> None:
    Path("in").mkdir()
    for i in range(4):
        Path(f"in/{i}.png").write_bytes(_png(i))
    command = [sys.executable, "-m", "srgan_fast", "upscale", "in", "-o", "out", "--engine", "ray", "--workers", "1"]
    options = [
        "--manifest",
        "m.jsonl",
        "--model",
        str(tiny_model),
        "--backend",
        "native",
        "--json",
        "--progress",
        "none",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["done"] == 4
    assert {Path(image["output"]).parent for image in found["images"]} == {Path("out")}
    said = [line for line in done.stderr.splitlines() if "Set ray log level" not in line]
    assert said == [], "Ray says no more than that it is quiet"


@needs_ray
@pytest.mark.fuzz
def test_a_signal_ends_a_run_on_a_cluster_in_order(folder: Path, tiny_model: Path) -> None:
    Path("in").mkdir()
    for i in range(400):
        Path(f"in/{i:03}.png").write_bytes(_png(i, side=60))
    command = [
        sys.executable,
        "-m",
        "srgan_fast",
        "upscale",
        "in",
        "-o",
        "out",
        "--suffix",
        "",
        "--manifest",
        "m.jsonl",
    ]
    command += ["--model", str(tiny_model), "--backend", "native", "--progress", "none"]
    with subprocess.Popen(
        [*command, "--engine", "ray", "--workers", "2"], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and not (Path("m.jsonl").exists() and len(_done()) >= 10):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said.splitlines()[-1] == "interrupted; no partial files are left"
    found = sorted(path.name for path in Path("out").iterdir())
    assert all(name.endswith(".png") for name in found)
    assert 10 <= len(found) < 400
    done = len(_done())
    again = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["done"] == 400 - done
    assert sorted(path.name for path in Path("out").iterdir()) == [f"{i:03}.png" for i in range(400)]


def test_a_cluster_that_there_is_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Fake:
        """Ray as far as it is started and ended."""

        is_initialized = staticmethod(lambda: False)
        init = staticmethod(lambda **options: calls.append(options))
        shutdown = staticmethod(lambda: calls.append("end"))

    for address in ("", "head:6379"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with _cluster(Fake):
            pass
    own, end, theirs, _ = calls
    assert end == "end"
    assert own.pop("include_dashboard") is False, "only whoever starts a cluster says what belongs to it"
    assert own == theirs


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path, tiny_model: Path) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else real(name, *rest))
    Path("a.png").write_bytes(_png())
    plan = plan_jobs(["a.png"], "out", DEFAULT)
    with pytest.raises(UsageError, match=r"--engine ray needs ray: pip install 'srgan_fast\[distributed\]'"):
        list(run_on_ray(plan, "out", read_model(tiny_model), DEFAULT, Manifest(Path("m.jsonl"), "run"), RayOptions()))
