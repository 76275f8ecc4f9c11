"""What a GIF holds besides its frames is kept, or said; a file that ends inside a block is found."""

import io
import struct

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from srgan_fast.data.image_files.gif import is_cut
from srgan_fast.data.images import encode, read_file

SRGB = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
PACKET = b"<?xpacket?><x:xmpmeta xmlns:x='adobe:ns:meta/'>Gr\xc3\xbc\xc3\x9fe</x:xmpmeta>"


def _gif(*extensions: bytes, ratio: int = 0, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(file, "GIF", **options)
    data = bytearray(file.getvalue())
    data[12] = ratio
    start = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    return bytes(data[:start]) + b"".join(extensions) + bytes(data[start:])


def _blocks(data: bytes) -> bytes:
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _application(name: bytes, rest: bytes) -> bytes:
    return b"!\xff" + bytes([len(name)]) + name + rest


def test_comments_are_kept() -> None:
    file = read_file(_gif(b"!\xfe" + _blocks("Zweiter für zwei".encode()), comment=b"of waves"))
    for kept in (file, read_file(encode(file, "png").data)):
        assert [text.text for text in kept.frames[0].metadata.texts] == ["Zweiter für zwei", "of waves"]
    assert encode(file, "gif").notes == ("comments (Comment, Comment)",)


def test_xmp_and_profile_are_kept() -> None:
    xmp = _application(b"XMP DataXMP", PACKET + b"\x01" + bytes(range(255, -1, -1)) + b"\0")
    file = read_file(_gif(xmp, _application(b"ICCRGBG1012", _blocks(SRGB))))
    assert file.notes == ()
    assert file.frames[0].metadata.xmp == PACKET
    assert file.frames[0].metadata.icc == SRGB
    assert PIL.Image.open(io.BytesIO(encode(file, "png").data)).info["icc_profile"] == SRGB


def test_what_is_dropped_is_said() -> None:
    text = b"!\x01\x0c" + struct.pack("<4H4B", 0, 0, 8, 6, 8, 8, 0, 1) + _blocks(b"drawn")
    file = read_file(_gif(_application(b"MGK8BIM0000", _blocks(b"8BIM")), text, b"!\x77" + _blocks(b"?"), ratio=17))
    assert file.notes == (
        "data of MGK8BIM0000",
        "text drawn by the viewer",
        "extension 0x77",
        "shape of its pixels (0.5:1 instead of square)",
    )


def test_an_animation_says_nothing_about_its_loops() -> None:
    frames = [PIL.Image.fromarray(np.full((6, 8, 3), 40 * i, np.uint8)) for i in range(1, 4)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=40, loop=3)
    assert read_file(file.getvalue()).notes == ()


@pytest.mark.parametrize("left_out", [2, 5, 20])
def test_a_file_that_ends_inside_a_block_is_cut(left_out: int) -> None:
    data = _gif(comment=b"of waves")
    assert not is_cut(io.BytesIO(data))
    assert not is_cut(io.BytesIO(data[:-1])), "the trailer alone is missing"
    assert is_cut(io.BytesIO(data[:-left_out]))


def test_chunks_that_webp_does_not_define_are_said() -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(file, "WEBP", lossless=True)
    data = file.getvalue() + b"CAMS" + struct.pack("<I", 3) + b"abc\0"
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert read_file(data).notes == ("CAMS chunk",)
    assert read_file(file.getvalue()).notes == ()
