"""What compute-sanitizer finds is counted, and whatever keeps it from its end is told; a stand-in plays its part."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from srgan_fast.bench.gpu import GpuOptions, GpuReport
from srgan_fast.ops import coverage, cuda, sanitizer
from srgan_fast.ops.sanitizer import TOOLS, SanitizerResult, compute_cases, find_sanitizer, sanitize

DEVICE = torch.device("cuda", 0)

# What the tools of CUDA 13 print: racecheck counts hazards.
CLEAN = """
echo "========= COMPUTE-SANITIZER"
if [ "$2" = racecheck ]; then
    echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
else
    echo "========= ERROR SUMMARY: 0 errors"
fi
"""
ERRORS = """
echo "========= COMPUTE-SANITIZER"
if [ "$2" = racecheck ]; then
    echo "========= Error: Race reported between Write access at conv_kernel+0x80 and Read access at conv_kernel+0x90"
    echo "========= RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warning)"
elif [ "$2" = memcheck ]; then
    echo "========= Invalid __global__ read of size 4 bytes"
    echo "=========     at conv_kernel+0x80"
    echo "========= ERROR SUMMARY: 1 error"
    exit 1
else
    echo "========= ERROR SUMMARY: 0 errors"
fi
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only one on the path besides the system's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(sanitizer, "_TOOLKIT", str(tmp_path / "toolkit"))
    return tmp_path


def install(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    program.chmod(0o755)
    return program


def passes(found: list[SanitizerResult]) -> bool:
    report = GpuReport(GpuOptions(), "cuda:0", sanitizer=[asdict(row) for row in found])
    return not report.wrong()


def test_a_clean_run_is_clean_under_every_tool(folder: Path) -> None:
    install(folder, CLEAN)
    found = sanitize(DEVICE)
    assert [(row.tool, row.status, row.errors) for row in found] == [(tool, "clean", 0) for tool in TOOLS]
    assert all(row.seconds is not None and row.reason is None for row in found)
    assert passes(found)


def test_errors_and_hazards_are_counted_and_quoted_and_fail_the_report(folder: Path) -> None:
    install(folder, ERRORS)
    found = {row.tool: row for row in sanitize(DEVICE)}
    assert [(row.status, row.errors) for row in found.values()] == [
        ("errors", 1),
        ("errors", 3),
        ("clean", 0),
        ("clean", 0),
    ]
    assert found["memcheck"].findings == ["Invalid __global__ read of size 4 bytes", "at conv_kernel+0x80"]
    assert found["racecheck"].findings[0].startswith("Error: Race reported between Write")
    assert not passes(list(found.values()))


def test_one_that_hangs_is_ended_with_all_that_it_started(folder: Path) -> None:
    install(folder, f"sleep 60 & echo $! >> {folder}/children; wait")
    began = time.monotonic()
    found = sanitize(DEVICE, limit_s=0.3)
    assert time.monotonic() - began < 20
    assert {(row.status, row.errors, row.reason) for row in found} == {("not run", None, "stopped after 0.3 s")}
    children = (folder / "children").read_text().split()
    assert len(children) == len(TOOLS)
    for child in children:  # a busy machine takes a moment to end what was killed
        state, patience = Path(f"/proc/{child}/stat"), time.monotonic() + 10
        while state.exists() and state.read_text().split()[2] != "Z":
            assert time.monotonic() < patience
            time.sleep(0.05)
    assert passes(found)


def test_without_one_each_tool_says_so(folder: Path) -> None:
    assert find_sanitizer() is None
    found = sanitize(DEVICE)
    assert [row.tool for row in found] == list(TOOLS)
    assert {(row.status, row.seconds, row.reason) for row in found} == {
        ("not run", None, "compute-sanitizer is not installed")
    }
    assert passes(found)


def test_it_is_found_on_the_path_in_cuda_home_and_in_the_toolkit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = install(folder / "toolkit", CLEAN)
    assert find_sanitizer() == toolkit
    home = install(folder / "home" / "bin", CLEAN)
    monkeypatch.setenv("CUDA_HOME", str(folder / "home"))
    assert find_sanitizer() == home
    path = install(folder, CLEAN)
    assert find_sanitizer() == path


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("echo no device", "not run", "no summary; last line: no device"),
        ("", "not run", "no summary; last line: no output"),
        (
            "echo 'RuntimeError: no kernels'; echo '========= ERROR SUMMARY: 0 errors'; exit 3",
            "failed",
            "the cases ended with status 3: RuntimeError: no kernels",
        ),
    ],
)
def test_one_that_comes_to_no_end_says_why(folder: Path, script: str, status: str, reason: str) -> None:
    install(folder, script)
    found = sanitize(DEVICE)
    assert {(row.status, row.reason) for row in found} == {(status, reason)}
    assert passes(found) == (status == "not run")


def test_one_that_cannot_be_started_says_why(folder: Path) -> None:
    (folder / "compute-sanitizer").write_bytes(b"\x7fELF of another processor")
    (folder / "compute-sanitizer").chmod(0o755)
    found = sanitize(DEVICE)
    assert {row.status for row in found} == {"not run"}
    assert all(row.reason and row.reason.startswith(f"{folder}/compute-sanitizer: ") for row in found)


def test_it_is_given_the_cases_with_every_tensor_in_memory_of_its_own(folder: Path) -> None:
    install(folder, f'shift 2; echo "$PYTORCH_NO_CUDA_MEMORY_CACHING $3" >> {folder}/given; {CLEAN}')
    sanitize(torch.device("cuda", 1))
    code = "from srgan_fast.ops.sanitizer import compute_cases; compute_cases('cuda:1'"
    *others, initcheck = (folder / "given").read_text().splitlines()
    assert others == [f"1 {code})"] * 3
    assert initcheck == f"1 {code}, own=True)"  # which does not see what cuDNN writes


@pytest.mark.skipif(not hasattr(torch.ops.srgan_fast, "kernel_plan"), reason="no CUDA kernels built")
def test_the_cases_are_all_that_a_gpu_is_examined_with(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[tuple[str, torch.dtype]] = []
    real = cuda.self_test_cases
    asked: list[object] = []

    def noted(gpu: coverage.Gpu | None) -> Iterator[cuda.SelfTestCase]:
        asked.append(gpu)
        for case in real(gpu):
            note = partial(computed.append, (case.what, case.dtype))
            yield replace(case, compute=lambda device, note=note: note())

    gpu = coverage.Gpu(132, 227 * 1024)
    monkeypatch.setattr(cuda, "self_test_cases", noted)
    monkeypatch.setattr(coverage, "gpu_of", lambda index: gpu)
    compute_cases("cuda:1")
    assert asked == [gpu]
    assert computed == [(case.what, case.dtype) for case in real(gpu)]
    computed.clear()
    compute_cases("cuda:1", own=True)
    assert computed == [(case.what, case.dtype) for case in real(gpu) if "GEMM: library" not in case.what]


def test_results_are_plain_data(folder: Path) -> None:
    install(folder, ERRORS)
    rows = [asdict(row) for row in sanitize(DEVICE)]
    assert json.loads(json.dumps(rows)) == rows


@pytest.mark.fuzz
@pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels")
def test_the_kernels_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if find_sanitizer() is None:
        pytest.skip("not installed: compute-sanitizer")
    found = sanitize(torch.device("cuda", torch.cuda.current_device()))
    assert [(row.tool, row.status) for row in found] == [(tool, "clean") for tool in TOOLS], found
