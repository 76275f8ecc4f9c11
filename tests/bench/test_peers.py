"""Every installed peer computes our network from our weights, whatever the variant."""

from pathlib import Path

import numpy as np
import pytest

from srgan_fast.bench.accuracy import TOLERANCES, compare, compute_reference
from srgan_fast.bench.candidates import PEERS, Job
from srgan_fast.bench.options import Size
from srgan_fast.bench.pictures import lr_image
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.models import ModelFile


@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_float64(name: str, tiny_file: ModelFile, tmp_path: Path) -> None:
    row = PEERS[name]
    if missing := row.missing():
        pytest.skip(f"{' and '.join(missing)} not installed")
    size = Size(21, 34)
    lr, _ = lr_image(size)
    job = Job(tiny_file, size, 2, tmp_path, calibration_folder(None))
    row.prepare(job)
    loaded = row.load(job, lr)
    kept = loaded.array(loaded.run())
    reference, _ = compute_reference(tiny_file, lr, 2)
    assert kept.dtype == np.float32
    assert compare(kept, reference).problem(TOLERANCES[row.precision]) is None
    expected = kept.copy()
    loaded.run()
    np.testing.assert_array_equal(kept, expected, "the array must be a copy")


def test_converting_for_mnn_installs_nothing(
    tiny_file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PEERS["mnn-fp32"]
    if missing := row.missing():
        pytest.skip(f"{' and '.join(missing)} not installed")
    called, pip = tmp_path / "called", tmp_path / "bin" / "pip"
    pip.parent.mkdir()
    pip.write_text(f"#!/bin/sh\ntouch {called}\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", str(pip.parent), prepend=":")
    row.prepare(Job(tiny_file, Size(8, 8), 1, tmp_path, None))
    assert not called.exists()
