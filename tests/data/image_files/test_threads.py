"""Several threads decode at once: what is said about a file is about that file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from srgan_fast.data.images import Image, encode_image, image_header, read_file
from srgan_fast.errors import ImageError


def _files(folder: Path) -> list[Path]:
    """Good ones, ones that are cut off and ones that are no image, of three formats."""
    made = []
    for i in range(24):
        fmt = ("png", "jpg", "tif")[i % 3]
        pixels = np.random.default_rng(i).integers(0, 256, (90, 80, 3), np.uint8)
        data = encode_image(Image(pixels), fmt)  # type: ignore[arg-type]
        data = data if i % 4 < 2 else data[: len(data) // 2] if i % 4 == 2 else b"no image"
        made.append(folder / f"{i:02}.{fmt}")
        made[-1].write_bytes(data)
    return made


def _said(path: Path) -> str:
    try:
        header = image_header(path)
        file = read_file(path)
    except ImageError as error:
        return str(error)
    assert (header.height, header.width) == (90, 80)
    return f"{int(file.frames[0].pixels.astype(np.int64).sum())}"


def test_messages_and_pixels_are_those_of_one_thread(tmp_path: Path) -> None:
    files = _files(tmp_path)
    expected = [_said(path) for path in files]
    assert sum("cannot be read" in said for said in expected) >= 10
    for path, said in zip(files, expected, strict=True):
        if "cannot be read" in said:
            assert said.startswith(f"{path}: cannot be read as an image (")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(6):
            assert list(pool.map(_said, files)) == expected


def test_messages_are_whole_beside_encoders(tmp_path: Path) -> None:
    files = _files(tmp_path)
    expected = [_said(path) for path in files]
    image = Image(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))

    def encode_and_read(path: Path) -> str:
        encode_image(image, "png")
        return _said(path)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(12):
            assert list(pool.map(encode_and_read, files)) == expected
