"""Stores by URL and WebDataset shards: found, read and written as files are, with the same lines for what is odd."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import Image, encode_image, read_image
from srgan_fast.errors import ImageError
from srgan_fast.upscale import Manifest, OutputOptions, Upscaler, plan_jobs, run_jobs, run_shared
from srgan_fast.upscale.places import Member, Remote, members, place_of

fsspec = pytest.importorskip("fsspec", reason="the extra distributed is not installed")
DEFAULT = OutputOptions()


@pytest.fixture
def store() -> Iterator[Any]:
    """fsspec's store in memory, empty."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def _png(seed: int = 0, size: tuple[int, int] = (5, 7)) -> bytes:
    return encode_image(Image(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)), "png")


def _shard(path: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 5
            archive.addfile(info, io.BytesIO(data))
    return Path(path)


def _same(data: bytes, source: bytes, upscaler: Upscaler) -> None:
    np.testing.assert_array_equal(read_image(data).pixels, upscaler.upscale(read_image(source)).pixels)


def test_a_folder_of_a_store_becomes_another_one(store: Any, upscaler: Upscaler) -> None:
    for i, name in enumerate(["a.png", "b/c.PNG", ".hidden.png", "b/notes.txt"]):
        store.pipe_file(f"/in/{name}", _png(i))
    plan = plan_jobs(["memory://in"], "memory://out", DEFAULT, recursive=True)
    results = list(run_jobs(plan.jobs, upscaler, DEFAULT))
    assert [(r.job.name, r.status) for r in results] == [("memory://in/a.png", "done"), ("memory://in/b/c.PNG", "done")]
    assert sorted(store.find("/out")) == ["/out/a_x4.png", "/out/b/c_x4.PNG"]
    _same(store.cat_file("/out/b/c_x4.PNG"), _png(1), upscaler)
    flat = plan_jobs(["memory://in"], "memory://out", DEFAULT)
    assert [job.name for job in flat.jobs] == ["memory://in/a.png"]


def test_files_and_patterns_of_a_store(store: Any, upscaler: Upscaler, folder: Path) -> None:
    for i, name in enumerate(["a.png", "b.png", "c.txt"]):
        store.pipe_file(f"/in/{name}", _png(i))
    plan = plan_jobs(["memory://in/*.png"], "out", DEFAULT)
    assert [r.status for r in run_jobs(plan.jobs, upscaler, DEFAULT)] == ["done", "done"]
    _same(Path("out/b_x4.png").read_bytes(), _png(1), upscaler)
    plan = plan_jobs(["out/b_x4.png"], "memory://single.png", DEFAULT)
    assert [r.status for r in run_jobs(plan.jobs, upscaler, DEFAULT)] == ["done"]
    assert store.exists("/single.png")


def test_odd_things_of_a_store_are_a_line_each(store: Any, upscaler: Upscaler) -> None:
    store.pipe_file("/in/a.png", b"no picture")
    store.pipe_file("/in/b.png", _png())
    store.pipe_file("/out/b_x4.png", b"there")
    plan = plan_jobs(
        ["memory://in", "memory://gone.png", "memory://in/*.jpg", "nothing://x/y.png"], "memory://out", DEFAULT
    )
    assert [r.message for r in plan.refused[:2]] == [
        "memory://gone.png: no such file or folder", "memory://in/*.jpg: matches no image",
    ]  # fmt: skip
    assert plan.refused[2].message.startswith("nothing://x/y.png: cannot be used (")
    first, second = run_jobs(plan.jobs, upscaler, DEFAULT)
    assert first.message.startswith("memory://in/a.png: cannot be read as an image")
    assert second.message == "memory://out/b_x4.png: exists already; use --overwrite or --skip-existing"
    (again,) = run_jobs(plan.jobs[1:], upscaler, OutputOptions(existing="skip"))
    assert again.status == "done", "what is there is no whole picture"
    (once_more,) = run_jobs(plan.jobs[1:], upscaler, OutputOptions(existing="skip"))
    assert once_more.status == "skipped"


def test_a_store_that_fails_in_writing_fails_one_image(
    store: Any, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe_file("/in/a.png", _png())

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError("AccessDenied\nby the bucket")

    monkeypatch.setattr(type(store), "pipe_file", refuse)
    plan = plan_jobs(["memory://in/a.png"], "memory://out", DEFAULT)
    (result,) = run_jobs(plan.jobs, upscaler, DEFAULT)
    assert result.message == "memory://out/a_x4.png: cannot be written (AccessDenied by the bucket)"


def test_a_store_that_renames_gets_a_temporary_name_first(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srgan_fast.upscale.places._RENAMING", {"memory"})
    calls: list[tuple[str, ...]] = []
    put, move = type(store).pipe_file, type(store).mv
    monkeypatch.setattr(type(store), "pipe_file", lambda self, p, d: (calls.append(("put", p)), put(self, p, d))[1])
    monkeypatch.setattr(type(store), "mv", lambda self, a, b: (calls.append(("move", a, b)), move(self, a, b))[1])
    Remote("memory://out/a.png").write_bytes(b"data")
    (_, temporary), (_, origin, target) = calls
    assert temporary == origin != target == "/out/a.png"
    assert Path(temporary).name.startswith(".a.png.")
    assert store.find("/out") == ["/out/a.png"]

    def fail(*_: Any) -> None:
        raise OSError("link lost")

    monkeypatch.setattr(type(store), "mv", fail)
    with pytest.raises(ImageError, match=r"memory://out/b.png: cannot be written \(link lost\)"):
        Remote("memory://out/b.png").write_bytes(b"data")
    assert store.find("/out") == ["/out/a.png"], "nothing unfinished is left"


def test_a_file_url_is_a_file(folder: Path) -> None:
    assert place_of(f"file://{folder}/a%20b.png") == folder / "a b.png"


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ImageError, match=r"s3://b/a.png: URLs need fsspec: pip install 'srgan_fast\[distributed\]'"):
        Remote("s3://b/a.png").read_bytes()


def test_a_manifest_knows_what_is_done_in_a_store(store: Any, upscaler: Upscaler, folder: Path) -> None:
    for i in range(3):
        store.pipe_file(f"/in/{i}.png", _png(i))
    jobs = plan_jobs(["memory://in"], "memory://out", DEFAULT).jobs

    def again() -> list[str]:
        return [r.status for r in run_shared(jobs, upscaler, DEFAULT, Manifest(Path("m.jsonl"), "run"))]

    assert again() == ["done"] * 3
    assert again() == ["skipped"] * 3
    store.pipe_file("/in/1.png", _png(9))
    store.rm_file("/out/2_x4.png")
    assert again() == ["skipped", "done", "done"] or sorted(again()) == ["skipped"] * 3
    _same(store.cat_file("/out/1_x4.png"), _png(9), upscaler)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_shard_becomes_a_folder(where: str, store: Any, upscaler: Upscaler, folder: Path) -> None:
    files = {"0.png": _png(0), "0.json": b"{}", "sub/1.png": _png(1), "2.png": b"no", "../evil.png": _png(2)}
    shard: Any = _shard("s-000.tar", files)
    if where == "memory":
        store.pipe_file("/s-000.tar", shard.read_bytes())
        shard = "memory://s-000.tar"
    plan = plan_jobs([str(shard)], "out", DEFAULT)
    assert [r.message for r in plan.refused] == [f"{shard}/../evil.png: its name points outside the output folder"]
    results = list(run_jobs(plan.jobs, upscaler, DEFAULT))
    assert [(r.job.name, r.status) for r in results] == [
        (f"{shard}/0.png", "done"), (f"{shard}/sub/1.png", "done"), (f"{shard}/2.png", "failed"),
    ]  # fmt: skip
    assert results[2].message.startswith(f"{shard}/2.png: cannot be read as an image")
    _same(Path("out/s-000/sub/1_x4.png").read_bytes(), files["sub/1.png"], upscaler)


def test_a_shard_that_is_cut_off_gives_what_stands_before(upscaler: Upscaler, folder: Path) -> None:
    whole = _shard("s.tar", {f"{i}.png": _png(i, (40, 40)) for i in range(3)}).read_bytes()
    Path("s.tar").write_bytes(whole[: 2 * (len(whole) // 3)])
    lines: list[str] = []
    found = members(Path("s.tar"), lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("s.tar: cannot be read as a shard (")
    plan = plan_jobs(["s.tar"], "out", DEFAULT)
    statuses = [r.status for r in run_jobs(plan.jobs, upscaler, DEFAULT)]
    assert 1 <= statuses.count("done") < 3
    assert len(statuses) == len(found)
    (line,) = [r.message for r in plan.refused]
    assert line == lines[0]


def test_an_archive_in_a_folder_of_images_is_left_alone(folder: Path) -> None:
    Path("in").mkdir()
    _shard("in/a.tar", {"0.png": _png()})
    Path("in/b.png").write_bytes(_png())
    assert [job.name for job in plan_jobs(["in"], "out", DEFAULT).jobs] == ["in/b.png"]
    opened = plan_jobs(["in/*"], "out", DEFAULT)
    assert [job.name for job in opened.jobs] == ["in/b.png", "in/a.tar/0.png"]
    unopened = plan_jobs(["in/*.tar"], "out", DEFAULT, open_shards=False)
    assert (unopened.jobs, unopened.shards) == ([], [Path("in/a.tar")])


def test_shards_of_one_name_do_not_share_a_folder(folder: Path) -> None:
    for place in ("a", "b"):
        Path(place).mkdir()
        _shard(f"{place}/0.tar", {"0.png": _png()})
    unopened = plan_jobs(["a/0.tar", "b/0.tar"], "out", DEFAULT, open_shards=False)
    assert unopened.shards == [Path("a/0.tar")]
    assert unopened.refused[0].message == (
        "b/0.tar: its results would go to the same folder as those of a/0.tar; use another -o"
    )
    opened = plan_jobs(["a/0.tar", "b/0.tar"], "out", DEFAULT)
    assert opened.jobs == []
    assert "a/0.tar/0.png and b/0.tar/0.png would both become out/0/0_x4.png" in opened.refused[0].message


def test_a_member_that_its_shard_no_longer_holds_is_a_line(folder: Path) -> None:
    shard = _shard("s.tar", {"0.png": _png()})
    (member,) = members(shard, lambda line: None)
    assert isinstance(member, Member)
    assert member.read_bytes() == _png()
    shard.write_bytes(b"")
    with pytest.raises(ImageError, match=r"s.tar/0.png: the shard is truncated"):
        member.read_bytes()
