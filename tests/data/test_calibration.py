"""int8 is calibrated on photographs: those of a folder, else the samples."""

from pathlib import Path

import numpy as np
import pytest

from srgan_fast.data import calibration
from srgan_fast.data.images import Image, write_image
from srgan_fast.errors import ImageError, UsageError


def test_int8_is_calibrated_on_the_images_of_a_folder(tmp_path: Path) -> None:
    for i, shape in enumerate([(20, 30), (200, 90), (300, 400)]):
        write_image(tmp_path / f"{i}.png", Image(np.full((*shape, 3), 51, np.uint8)))
    found = calibration.calibration_images(tmp_path)
    assert [picture.shape for picture in found] == [(1, 3, 20, 30), (1, 3, 128, 90), (1, 3, 128, 128)]
    np.testing.assert_allclose(found[0], 0.2)
    assert len(calibration.calibration_images(None)) == 4


def test_a_folder_without_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="contains no images for calibration"):
        calibration.calibration_folder(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        calibration.calibration_folder(tmp_path / "none")
    monkeypatch.setattr(calibration, "samples_folder", lambda: None)
    assert calibration.calibration_folder(None) is None
    with pytest.raises(UsageError, match="--calibration FOLDER"):
        calibration.calibration_images(None)
