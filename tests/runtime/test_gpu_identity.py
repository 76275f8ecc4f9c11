"""A GPU is described by nvidia-smi and PyTorch; what they do not tell is unknown, and nothing fails."""

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from srgan_fast.runtime import gpu_identity as identity
from srgan_fast.runtime.gpu_identity import UNKNOWN, machine_code, throttling

DEVICE = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only one on the path besides the system's; a GPU that PyTorch knows."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    known = SimpleNamespace(name="a GPU", uuid="12ab", major=8, minor=9, multi_processor_count=24, total_memory=8 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: known)
    return tmp_path


def install(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


# Each field's own name as its value; some are not told, and older drivers do not know one of them.
ANSWERS = r"""
case "$2" in
  *clocks_event_reasons*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;;
  *clocks_throttle_reasons.active) echo 0x0000000000000024; exit;;
esac
echo "$2" | sed 's/--query-gpu=//; s/,/, /g; s/power.draw/[N\/A]/; s/mig.mode.current/[Not Supported]/'
"""


def test_what_nvidia_smi_knows_is_said_and_the_rest_is_unknown(folder: Path) -> None:
    install(folder, ANSWERS)
    found, state = identity.gpu_identity(DEVICE), identity.gpu_state(DEVICE)
    assert (found["driver"], found["power limit"], found["MIG"]) == ("driver_version", "power.limit", UNKNOWN)
    assert (found["name"], found["compute capability"], found["memory"]) == ("a GPU", "8.9", "8.0 GiB")
    assert {"PyTorch", "CUDA of PyTorch", "cuDNN", "machine code of our kernels"} <= found.keys()
    assert (state["SM clock"], state["power"]) == ("clocks.sm", UNKNOWN)
    assert state["throttling"] == "power cap, thermal (software)"


@pytest.mark.parametrize("script", [None, "exit 9", "echo", "echo one, two", "sleep 60"])
def test_without_a_working_nvidia_smi_its_values_are_unknown(
    folder: Path, script: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_TIMEOUT_S", 0.3)
    if script is not None:
        install(folder, script)
    assert set(identity.gpu_state(DEVICE).values()) == {UNKNOWN}
    assert identity.gpu_identity(DEVICE)["driver"] == UNKNOWN


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("0x0000000000000000", "none"),
        ("0x0000000000000001", "idle"),
        ("0x00000000000000c0", "thermal (hardware), power brake"),
        ("0x0000000000010000", "0x0000000000010000"),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_reasons_for_throttling_have_names(mask: str, words: str) -> None:
    assert throttling(mask) == words


def library(folder: Path, *code: tuple[int, int]) -> Path:
    """A library with a group of code: kind (1 PTX, 2 machine code) and architecture."""
    entries = b"".join(struct.pack("<HHIQ12xI32x", kind, 0, 64, 8, arch) + b"contents" for kind, arch in code)
    path = folder / "library.so"
    path.write_bytes(b"\x7fELF..." + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries + b"rest")
    return path


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((8, 0), "cubin sm_80"),
        ((8, 6), "cubin sm_86"),
        ((8, 7), "cubin sm_86"),
        ((9, 0), "cubin sm_90"),
        ((12, 0), "cubin sm_120"),
        ((13, 0), "PTX compute_120, compiled by the driver"),
        ((10, 0), "none for this GPU"),
        ((7, 5), "none for this GPU"),
    ],
)
def test_the_machine_code_that_a_gpu_runs_is_read_from_the_library(
    folder: Path, capability: tuple[int, int], expected: str
) -> None:
    found = library(folder, (2, 80), (2, 86), (2, 90), (2, 120), (1, 120))
    assert machine_code(capability, found) == expected


@pytest.mark.parametrize("damage", [0, 20, 40, 70])
def test_a_library_that_cannot_be_taken_apart_is_unknown(folder: Path, damage: int) -> None:
    path = library(folder, (2, 80))
    path.write_bytes(path.read_bytes()[:damage])
    assert machine_code((8, 0), path) in (UNKNOWN, "cubin sm_80")
    assert machine_code((8, 0), folder / "missing.so") == UNKNOWN


def test_without_kernels_their_machine_code_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "why_not_on_cuda", lambda: "none")
    assert identity.machine_code((8, 0)) == UNKNOWN


def test_the_built_library_has_code_that_is_recognised() -> None:
    if identity.why_not_on_cuda() is None:
        code: Any = set(identity._entries(identity.cuda_library().read_bytes()))
        assert {kind for kind, _ in code} & {"cubin", "PTX"}
        assert all(80 <= arch <= 130 for _, arch in code)
