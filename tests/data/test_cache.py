"""The map of decoded pixels: complete or absent, rebuilt when images change, honest about what it left out."""

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray

from srgan_fast.data import cache as module
from srgan_fast.data.cache import flat_rgb8, open_cache
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.errors import DataError

Noise = Callable[..., NDArray[Any]]
MakeFolder = Callable[..., Path]


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Where the maps go."""
    return tmp_path / "maps"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were decoded, in order."""
    names: list[str] = []
    read = read_image

    def count(path: Path) -> Image:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(module, "read_image", count)
    return names


def test_pixels_come_back_exactly_and_read_only(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    pictures = {"a": noise(20, 30, 3), "b": noise(7, 5, 3, seed=1), "c": noise(1, 1, 3, seed=2)}
    cache = open_cache(make_folder(**pictures), maps)
    assert len(cache) == 3
    assert [image.path for image in cache.images] == ["a.png", "b.png", "c.png"]
    assert cache.skipped == []
    for index, pixels in enumerate(pictures.values()):
        np.testing.assert_array_equal(cache[index], pixels)
        assert not cache[index].flags.writeable


def test_subfolders_are_read_too(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    folder = make_folder(a=noise(4, 4, 3))
    (folder / "sub").mkdir()
    (folder / "a.png").rename(folder / "sub" / "b.png")
    assert [image.path for image in open_cache(folder, maps).images] == ["sub/b.png"]


def test_second_opening_decodes_nothing(noise: Noise, make_folder: MakeFolder, maps: Path, decoded: list[str]) -> None:
    folder = make_folder(a=noise(8, 8, 3), b=noise(8, 8, 3, seed=1))
    progress: list[tuple[int, int]] = []
    first = open_cache(folder, maps, lambda *at: progress.append(at))
    second = open_cache(folder, maps, lambda *at: progress.append(at))
    assert decoded == ["a.png", "b.png"]
    assert progress == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(second[1], first[1])


def _touch(folder: Path) -> None:
    stat = (folder / "a.png").stat()
    os.utime(folder / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "changed": lambda folder: (folder / "a.png").write_bytes((folder / "b.png").read_bytes()),
    "touched": _touch,
    "renamed": lambda folder: (folder / "a.png").rename(folder / "z.png"),
    "removed": lambda folder: (folder / "a.png").unlink(),
    "added": lambda folder: (folder / "c.png").write_bytes((folder / "b.png").read_bytes()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_map_is_made_anew_when_the_folder_changes(
    noise: Noise, make_folder: MakeFolder, maps: Path, decoded: list[str], change: str
) -> None:
    folder = make_folder(a=noise(8, 8, 3), b=noise(9, 9, 3, seed=1))
    open_cache(folder, maps)
    decoded.clear()
    CHANGES[change](folder)
    cache = open_cache(folder, maps)
    assert decoded == [image.path for image in cache.images] == sorted(p.name for p in folder.iterdir())
    for index, image in enumerate(cache.images):
        np.testing.assert_array_equal(cache[index], read_image(folder / image.path).pixels)


@pytest.mark.parametrize("suffix", [".bin", ".json"])
def test_map_with_a_missing_half_is_made_anew(noise: Noise, make_folder: MakeFolder, maps: Path, suffix: str) -> None:
    pixels = noise(8, 8, 3)
    folder = make_folder(a=pixels)
    open_cache(folder, maps)
    next(maps.glob(f"*{suffix}")).unlink()
    np.testing.assert_array_equal(open_cache(folder, maps)[0], pixels)


def test_folders_with_equal_images_have_maps_of_their_own(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    folder = make_folder(a=noise(8, 8, 3))
    open_cache(folder, maps)
    folder.rename(folder.with_name("other"))
    open_cache(folder.with_name("other"), maps)
    assert len(list(maps.glob("*.json"))) == 2


def test_unreadable_images_are_left_out_and_each_named_once(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    folder = make_folder(a=noise(8, 8, 3), z=noise(5, 6, 3, seed=1))
    (folder / "m.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "n.jpg").write_bytes(b"text")
    (folder / "o.png").symlink_to(folder / "nowhere.png")
    for _ in range(2):
        cache = open_cache(folder, maps)
        assert [image.path for image in cache.images] == ["a.png", "z.png"]
        assert [Path(line.split(":")[0]).name for line in cache.skipped] == ["m.png", "n.jpg", "o.png"]
        np.testing.assert_array_equal(cache[1], noise(5, 6, 3, seed=1))


def test_an_image_whose_codec_is_missing_never_becomes_black_pixels(
    noise: Noise, make_folder: MakeFolder, maps: Path
) -> None:
    folder = make_folder(a=noise(8, 8, 3))
    data = bytes(pyvips.Image.new_from_array(noise(8, 8, 3)).tiffsave_buffer(compression="none"))
    tag = struct.pack("<HHI", 259, 3, 1)
    at = data.index(tag) + len(tag)
    (folder / "lzma.tif").write_bytes(data[:at] + struct.pack("<H", 34925) + data[at + 2 :])
    cache = open_cache(folder, maps)
    assert [image.path for image in cache.images] == ["a.png"]
    assert [Path(line.split(":")[0]).name for line in cache.skipped] == ["lzma.tif"]


def test_folders_without_images_are_refused(tmp_path: Path, maps: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="contains no images"):
        open_cache(tmp_path, maps)
    with pytest.raises(DataError, match="no such folder"):
        open_cache(tmp_path / "gone", maps)


def test_folder_of_unreadable_images_is_refused_with_the_first(tmp_path: Path, maps: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"text")
    for _ in range(2):
        with pytest.raises(DataError, match=r"none of its 2 images can be read; first: .*a\.png: cannot be read"):
            open_cache(tmp_path, maps)


def test_interrupted_build_leaves_no_map(
    noise: Noise, make_folder: MakeFolder, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(a=noise(8, 8, 3), b=noise(8, 8, 3))

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(folder, maps, stop)
    assert list(maps.iterdir()) == []
    assert len(open_cache(folder, maps)) == 2


def test_full_disk_is_reported_and_leaves_no_map(
    noise: Noise, make_folder: MakeFolder, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(a=noise(8, 8, 3))

    def full(value: Any, **_: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json, "dumps", full)  # while the index is written
    with pytest.raises(DataError, match="cannot be written"):
        open_cache(folder, maps)
    monkeypatch.undo()
    assert not list(maps.glob("*.json"))
    assert not list(maps.glob(".*"))
    assert len(open_cache(folder, maps)) == 1


def test_cache_folder_that_cannot_be_made_is_reported(noise: Noise, make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        open_cache(make_folder(a=noise(8, 8, 3)), tmp_path / "file" / "maps")


# -- Maps that are damaged ---------------------------------------------------------------------------------------------


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def _change_index(maps: Path, change: Callable[[Any], Any]) -> None:
    path = next(maps.glob("*.json"))
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def _moved(content: Any) -> Any:
    content["index"]["images"][1]["offset"] = 0
    return content


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "map cut": (lambda maps: os.truncate(next(maps.glob("*.bin")), 100), "the file has 100 bytes instead of 435"),
    "map empty": (lambda maps: os.truncate(next(maps.glob("*.bin")), 0), "the file has 0 bytes instead of 435"),
    "map longer": (
        lambda maps: next(maps.glob("*.bin")).open("ab").write(b"\0"),
        "the file has 436 bytes instead of 435",
    ),
    "index cut": (lambda maps: os.truncate(next(maps.glob("*.json")), 50), "they cannot be read"),
    "index empty": (lambda maps: os.truncate(next(maps.glob("*.json")), 0), "they cannot be read"),
    "index of other bytes": (lambda maps: next(maps.glob("*.json")).write_bytes(b"\xff\0"), "they cannot be read"),
    "index nested": (lambda maps: next(maps.glob("*.json")).write_text("[" * 100_000), "they cannot be read"),
    "index of another form": (lambda maps: next(maps.glob("*.json")).write_text("[]"), "the index is damaged"),
    "index without pictures": (lambda maps: next(maps.glob("*.json")).write_text("{}"), "the index is damaged"),
    "index of version 1": (lambda maps: _change_index(maps, lambda c: c["index"]), "the index is damaged"),
    "offset changed": (lambda maps: _change_index(maps, _moved), "the index is damaged"),
}


def test_what_is_left_out_of_a_folder_is_said(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    folder = make_folder(a=noise(8, 8, 3))
    (folder / "a.psd").touch()
    (folder / "more").symlink_to(folder.parent)
    notes: list[str] = []
    open_cache(folder, maps, on_note=notes.append)
    assert notes == [f"{folder}: left out: 1 .psd, 1 linked folder"]
    (folder.parent / "none").mkdir()
    (folder.parent / "none" / "a.exr").touch()
    with pytest.raises(DataError, match=r"none: contains no images; left out: 1 \.exr"):
        open_cache(folder.parent / "none", maps)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_map_is_made_again_which_is_said_in_one_line(
    noise: Noise, make_folder: MakeFolder, maps: Path, damage: str
) -> None:
    pictures = {"a": noise(8, 8, 3), "b": noise(9, 9, 3, seed=1)}
    folder = make_folder(**pictures)
    notes: list[str] = []
    open_cache(folder, maps, on_note=notes.append)
    assert notes == []
    do, reason = DAMAGES[damage]
    do(maps)
    for _ in range(2):  # said once: the second time it is whole
        cache = open_cache(folder, maps, on_note=notes.append)
        for index, pixels in enumerate(pictures.values()):
            np.testing.assert_array_equal(cache[index], pixels)
    assert len(notes) == 1
    assert notes[0].startswith(f"{folder}: its decoded images in {next(maps.glob('*.bin'))} are rebuilt, since ")
    assert reason in notes[0]
    assert "\n" not in notes[0]


def test_the_index_and_map_of_another_folder_are_not_taken_for_this_ones(
    noise: Noise, make_folder: MakeFolder, maps: Path, tmp_path: Path
) -> None:
    folder = make_folder(a=noise(8, 8, 3))
    open_cache(folder, maps)
    folder.rename(tmp_path / "first")
    folder = make_folder(a=noise(8, 8, 3, seed=1))  # of the same size: lengths do not tell
    theirs = {path.suffix: path.read_bytes() for path in maps.iterdir()}
    for path in maps.iterdir():
        path.unlink()
    open_cache(folder, maps)
    for path in maps.iterdir():
        path.write_bytes(theirs[path.suffix])
    notes: list[str] = []
    np.testing.assert_array_equal(open_cache(folder, maps, on_note=notes.append)[0], noise(8, 8, 3, seed=1))
    assert [note.endswith("since the index belongs to another folder") for note in notes] == [True]


def test_changed_bytes_in_a_map_of_the_right_length_are_never_given_as_pixels(
    noise: Noise, make_folder: MakeFolder, maps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = {"a": noise(8, 8, 3), "b": noise(9, 9, 3, seed=1)}
    folder = make_folder(**pictures)
    open_cache(folder, maps)
    _flip(next(maps.glob("*.bin")), 200)
    cache = open_cache(folder, maps)
    for _ in range(2):
        for index, pixels in enumerate(pictures.values()):
            np.testing.assert_array_equal(cache[index], pixels)
            assert not cache[index].flags.writeable
    assert caplog.messages == [f"{folder / 'b.png'}: its decoded pixels in the cache are damaged; it was decoded again"]
    cache = open_cache(folder, maps)
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: .* are damaged, and it cannot be decoded again"):
        cache[1]
    (folder / "a.png").rename(folder / "b.png")
    with pytest.raises(DataError, match=r"b\.png: .* are damaged, and the image was changed since"):
        cache[1]


@pytest.mark.parametrize("died", ["in the map", "in the index", "between them"])
def test_what_a_killed_writer_left_is_not_taken_for_whole_and_is_removed(
    noise: Noise, make_folder: MakeFolder, maps: Path, died: str
) -> None:
    folder = make_folder(a=noise(8, 8, 3), b=noise(8, 8, 3, seed=1))
    script = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from srgan_fast.data import cache\n"
        "def die(*_, **__): os._exit(9)\n"
        "died = sys.argv[3]\n"
        "if died == 'in the index': cache.json.dumps = die\n"
        "if died == 'between them': cache.asdict = die\n"
        "cache.open_cache(Path(sys.argv[1]), Path(sys.argv[2]),\n"
        "                 lambda done, _: die() if died == 'in the map' and done == 2 else None)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, folder, maps, died], check=False)
    assert done.returncode == 9
    assert list(maps.glob("*.json")) == []
    assert len(list(maps.glob(".*.tmp"))) == (0 if died == "between them" else 1)
    cache = open_cache(folder, maps)
    np.testing.assert_array_equal(cache[1], noise(8, 8, 3, seed=1))
    assert sorted(path.suffix for path in maps.iterdir()) == [".bin", ".json"]


def test_digests_are_those_of_pixels_in_the_order_of_names(
    noise: Noise, make_folder: MakeFolder, maps: Path, tmp_path: Path
) -> None:
    folder = make_folder(a=noise(8, 8, 3), b=noise(9, 9, 3, seed=1))
    digests = open_cache(folder, maps).digests()
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert open_cache(moved, maps).digests() == digests
    (moved / "b.png").rename(moved / "c.png")  # still the second
    assert open_cache(moved, maps).digests() == digests
    write_image(moved / "c.webp", Image(read_image(moved / "c.png").pixels), quality=100)
    (moved / "c.png").unlink()  # other bytes, the same pixels
    assert open_cache(moved, maps).digests() == digests
    (moved / "a.png").rename(moved / "z.png")
    assert open_cache(moved, maps).digests() != digests


# -- flat_rgb8 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_flattening_rounds_to_eight_bits_and_repeats_gray(dtype: Any, channels: int) -> None:
    top = np.iinfo(dtype).max
    values = np.arange(0, top + 1, top // 255, dtype=dtype).reshape(-1, 1, 1)
    flat = flat_rgb8(Image(np.repeat(values, channels, axis=2)))
    assert flat.dtype == np.uint8
    np.testing.assert_array_equal(flat, np.broadcast_to(np.arange(256).reshape(-1, 1, 1), (256, 1, 3)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flattening_lays_transparency_on_white(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    alpha = np.array([[0, top // 255 * 51, top]], dtype)
    flat = flat_rgb8(Image(np.zeros((1, 3, 3), dtype), alpha))
    np.testing.assert_array_equal(flat[0, :, 0], [255, 204, 0])


def test_transparent_and_sixteen_bit_images_are_mapped_flat(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    images = {
        "clear": Image(noise(6, 7, 3), noise(6, 7, seed=1)),
        "deep": Image(noise(5, 4, 1, dtype=np.uint16)),
        "gray": Image(noise(9, 9, 1)),
    }
    cache = open_cache(make_folder(**images), maps)
    for index, image in enumerate(images.values()):
        np.testing.assert_array_equal(cache[index], flat_rgb8(image))
