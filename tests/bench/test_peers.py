"""Every installed peer computes our network from our weights, whatever the variant."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from srgan_fast.bench.accuracy import TOLERANCES, compare, compute_reference
from srgan_fast.bench.candidates import PEERS, Job
from srgan_fast.bench.options import Size
from srgan_fast.bench.pictures import lr_image
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.errors import BackendError
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
    if name == "openvino-bf16" and row.why_not_here():
        with pytest.raises(BackendError, match="OpenVINO computes in f32 on this CPU, not in bf16"):
            row.load(job, lr)
        return
    loaded = row.load(job, lr)
    kept = loaded.array(loaded.run())
    reference, _ = compute_reference(tiny_file, lr, 2)
    assert kept.dtype == np.float32
    assert compare(kept, reference).problem(TOLERANCES[row.precision]) is None
    expected = kept.copy()
    loaded.run()
    np.testing.assert_array_equal(kept, expected, "the array must be a copy")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("openvino-bf16", "OpenVINO computes in f32 on this CPU, not in bf16"),
        ("torch-nhwc-bf16", "PyTorch has no instructions for bf16 on this CPU"),
    ],
)
@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_is_measured_only_where_the_cpu_has_it(
    name: str, reason: str, has_bf16: bool, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(has_bf16)
    assert PEERS[name].why_not_here() == (None if has_bf16 else reason)
    assert PEERS[name.replace("bf16", "fp32")].why_not_here() is None


def test_openvino_is_not_taken_at_its_word_but_by_what_it_compiled(
    tiny_file: ModelFile, tmp_path: Path, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(False)
    size = Size(8, 8)
    job = Job(tiny_file, size, 1, tmp_path, None)
    PEERS["openvino-bf16"].prepare(job)
    with pytest.raises(BackendError, match="OpenVINO computes in f32 on this CPU, not in bf16"):
        PEERS["openvino-bf16"].load(job, lr_image(size)[0])


def test_a_peer_that_cannot_be_imported_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its row fails by itself, and the others are measured."""
    monkeypatch.setitem(sys.modules, "srgan_fast.bench.peers.openvino_peer", None)
    assert PEERS["openvino-bf16"].why_not_here() is None


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
