"""The map of decoded pixels: complete or absent, rebuilt when pictures change, honest about what it left out."""

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray

from srgan_fast.data import cache as module
from srgan_fast.data.cache import flat_rgb8, open_cache
from srgan_fast.data.images import Image, read_image
from srgan_fast.errors import DataError

Noise = Callable[..., NDArray[Any]]
MakeFolder = Callable[..., Path]


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Where the maps go."""
    return tmp_path / "maps"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were decoded, in order."""
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


def test_folders_with_equal_pictures_have_maps_of_their_own(noise: Noise, make_folder: MakeFolder, maps: Path) -> None:
    folder = make_folder(a=noise(8, 8, 3))
    open_cache(folder, maps)
    folder.rename(folder.with_name("other"))
    open_cache(folder.with_name("other"), maps)
    assert len(list(maps.glob("*.json"))) == 2


def test_unreadable_pictures_are_left_out_and_each_named_once(
    noise: Noise, make_folder: MakeFolder, maps: Path
) -> None:
    folder = make_folder(a=noise(8, 8, 3), z=noise(5, 6, 3, seed=1))
    (folder / "m.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "n.jpg").write_bytes(b"text")
    (folder / "o.png").symlink_to(folder / "nowhere.png")
    for _ in range(2):
        cache = open_cache(folder, maps)
        assert [image.path for image in cache.images] == ["a.png", "z.png"]
        assert [Path(line.split(":")[0]).name for line in cache.skipped] == ["m.png", "n.jpg", "o.png"]
        np.testing.assert_array_equal(cache[1], noise(5, 6, 3, seed=1))


def test_a_picture_whose_codec_is_missing_never_becomes_black_pixels(
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


def test_folders_without_pictures_are_refused(tmp_path: Path, maps: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no pictures"):
        open_cache(tmp_path, maps)
    with pytest.raises(DataError, match="no such folder"):
        open_cache(tmp_path / "gone", maps)


def test_folder_of_unreadable_pictures_is_refused_with_the_first(tmp_path: Path, maps: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"text")
    for _ in range(2):
        with pytest.raises(DataError, match=r"none of its 2 pictures can be read; first: .*a\.png: cannot be read"):
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

    def full(value: Any) -> str:
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


def test_transparent_and_sixteen_bit_pictures_are_mapped_flat(
    noise: Noise, make_folder: MakeFolder, maps: Path
) -> None:
    images = {
        "clear": Image(noise(6, 7, 3), noise(6, 7, seed=1)),
        "deep": Image(noise(5, 4, 1, dtype=np.uint16)),
        "gray": Image(noise(9, 9, 1)),
    }
    cache = open_cache(make_folder(**images), maps)
    for index, image in enumerate(images.values()):
        np.testing.assert_array_equal(cache[index], flat_rgb8(image))
