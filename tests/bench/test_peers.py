"""Every installed peer computes every family of networks that the engine runs, from our weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.architectures import recognise
from srgan_fast.architectures.base import Settings
from srgan_fast.architectures.compact import CompactSettings
from srgan_fast.architectures.edsr import EDSRSettings
from srgan_fast.architectures.rrdb import RRDBSettings
from srgan_fast.bench.accuracy import TOLERANCES, compare, compute_reference
from srgan_fast.bench.candidates import PEERS, RowJob
from srgan_fast.bench.workload import ImageSize, Workload, lr_images
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile, read_model

SIZE = ImageSize(16, 20)
NETWORKS: dict[str, Settings | None] = {
    "srgan": None,
    "compact": CompactSettings(channels=8, convolutions=2),
    "rrdb": RRDBSettings(channels=8, blocks=1, growth=4),
    "edsr": EDSRSettings(channels=8, blocks=1),
}
# Compilers and quantisation take longer than the rest of these tests together: they are tried on one network.
SLOW = {"torch-compile-fp32", "torch-compile-bf16", "zentorch-fp32", "iree-fp32", "openvino-int8"}
TRIED = [(row, network) for row in PEERS for network in NETWORKS if network == "srgan" or row not in SLOW]


@pytest.fixture(scope="module")
def files(tiny_model: Path) -> dict[str, ModelFile]:
    """A small network of each family with random weights."""

    def make(name: str, settings: Settings) -> ModelFile:
        rng = np.random.default_rng(0)
        state: dict[str, Any] = {
            key: rng.normal(0, 0.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
            for key, shape in settings.shapes().items()
        }
        found = recognise(state, settings.facts())
        assert found is not None
        return ModelFile(found.network, found.description, name, {})

    return {n: read_model(tiny_model) if settings is None else make(n, settings) for n, settings in NETWORKS.items()}


@pytest.mark.parametrize(("name", "network"), TRIED)
def test_agrees_with_float64(name: str, network: str, files: dict[str, ModelFile], tmp_path: Path) -> None:
    row = PEERS[name]
    if missing := row.missing():
        pytest.skip(f"{' and '.join(missing)} not installed")
    batch = 2 if name in ("ncnn-fp32", "opencv-fp32") else 1
    lr, _ = lr_images(SIZE, batch)
    job = RowJob(files[network], Workload(SIZE, batch, 2), tmp_path, calibration_folder(None))
    row.prepare(job)
    if name == "openvino-bf16" and row.why_not_here():
        with pytest.raises(BackendError, match="OpenVINO computes in f32 on this CPU, not in bf16"):
            row.load(job, lr)
        return
    loaded = row.load(job, lr)
    sr = loaded.array(loaded.run())
    reference, _ = compute_reference(files[network], lr, 2)
    assert sr.dtype == np.float32
    assert compare(sr, reference).problem(TOLERANCES[row.precision]) is None
    expected = sr.copy()
    loaded.run()
    np.testing.assert_array_equal(sr, expected, "the array must be a copy")


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


def test_a_peer_that_cannot_be_imported_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise ImportError(path)

    monkeypatch.setattr("srgan_fast.bench.candidates._function", broken)
    assert PEERS["openvino-bf16"].why_not_here() is None, "loading it says what is wrong"


def test_converting_for_mnn_installs_nothing(
    files: dict[str, ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNN's own tool calls pip and reports each conversion to a server; the converter that it calls does neither."""
    row = PEERS["mnn-fp32"]
    if missing := row.missing():
        pytest.skip(f"{' and '.join(missing)} not installed")
    called, pip = tmp_path / "called", tmp_path / "bin" / "pip"
    pip.parent.mkdir()
    pip.write_text(f"#!/bin/sh\ntouch {called}\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", str(pip.parent), prepend=":")
    row.prepare(RowJob(files["srgan"], Workload(SIZE), tmp_path))
    assert not called.exists()
