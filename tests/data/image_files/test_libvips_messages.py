"""What libvips and GLib warn of goes to a logger, whatever bytes it holds."""

import logging

import pytest
import pyvips

from srgan_fast.data.image_files import libvips_messages


@pytest.mark.skipif(not pyvips.API_mode, reason="pyvips handles its messages itself")
def test_messages_that_are_not_utf_8_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    domain, message = (pyvips.ffi.new("char[]", text) for text in (b"VIPS", b"unknown tag \xa4\xff"))
    with caplog.at_level(logging.WARNING, "pyvips"):
        libvips_messages._log(domain, 16 | 2, message, pyvips.ffi.NULL)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "VIPS: unknown tag \\xa4\\xff")
    ]


@pytest.mark.skipif(not pyvips.API_mode, reason="pyvips handles its messages itself")
def test_warnings_of_gobject_are_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    image = pyvips.Image.black(1, 1)
    with caplog.at_level(logging.WARNING, "pyvips"):
        pyvips.gobject_lib.g_object_set_property(
            pyvips.ffi.cast("GObject*", image.pointer), b"no such property", pyvips.GValue().pointer
        )
    assert any("no such property" in record.getMessage() for record in caplog.records)
    assert capfd.readouterr().err == ""
