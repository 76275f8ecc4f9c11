"""Runs NVIDIA's compute-sanitizer on the fused kernels: memory errors, races, barriers, uninitialised values.

Correct results do not rule out reads beyond a tensor or a race that happened to be won. A separate process runs every
case of the GPU self-test, forward and backward, in both dtypes, under each of the sanitizer's tools.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from srgan_fast.ops import coverage, cuda

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
LIMIT_S = 300.0  # per tool

_NAME = "compute-sanitizer"
_TOOLKIT = "/usr/local/cuda/bin"
_SUMMARY = re.compile(r"^=+ (?:ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: (\d+) hazards? displayed)", re.MULTILINE)
_FINDING = re.compile(r"^=+ +(?!COMPUTE-SANITIZER|.*SUMMARY)(\S.*)", re.MULTILINE)
_FINDINGS = 10  # most findings reported; the first is the most informative

Status = Literal["clean", "errors", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class SanitizerResult:
    """Result of one tool.

    Attributes:
        tool: its name.
        status: `clean`; `errors`; `failed` where the cases did not come to their end; `not run`.
        errors: number found; None if the tool did not report one.
        seconds: run time, whatever the status.
        reason: why it failed or did not run.
        findings: the first findings.
    """

    tool: str
    status: Status
    errors: int | None = None
    seconds: float | None = None
    reason: str | None = None
    findings: list[str] = field(default_factory=list)


def sanitize(device: torch.device, limit_s: float = LIMIT_S) -> list[SanitizerResult]:
    """Runs all tools in sequence.

    Args:
        device: CUDA device with an index.
        limit_s: time limit per tool.
    """
    sanitizer = find_sanitizer()
    if sanitizer is None:
        return [SanitizerResult(tool, "not run", reason=f"{_NAME} is not installed") for tool in TOOLS]
    return [_run(sanitizer, tool, device, limit_s) for tool in TOOLS]


def find_sanitizer() -> Path | None:
    """compute-sanitizer from PATH, `CUDA_HOME`, or the CUDA toolkit's default location."""
    home = os.environ.get("CUDA_HOME")
    places = [os.environ.get("PATH", os.defpath), *([f"{home}/bin"] if home else []), _TOOLKIT]
    found = shutil.which(_NAME, path=os.pathsep.join(places))
    return None if found is None else Path(found)


def compute_cases(device: str, own: bool = False) -> None:
    """Runs every case of the GPU self-test, in every dtype, forward and backward; executed under the sanitizer.

    Args:
        device: CUDA device.
        own: skip cases that cuDNN computes.
    """
    at = torch.device(device)
    for case in cuda.self_test_cases(coverage.gpu_of(at.index or 0) if at.type == "cuda" else None):
        if not (own and case.cudnn):
            case.compute(at)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _run(sanitizer: Path, tool: str, device: torch.device, limit_s: float) -> SanitizerResult:
    # cuDNN's Hopper kernels write with bulk copies (TMA), which initcheck does not track.
    own = ", own=True" if tool == "initcheck" else ""
    code = f"from {__name__} import compute_cases; compute_cases({str(device)!r}{own})"
    command = [str(sanitizer), "--tool", tool, sys.executable, "-c", code]
    # Without PyTorch's caching allocator every tensor is an allocation whose bounds the sanitizer knows.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            return SanitizerResult(tool, "not run", reason=f"{sanitizer}: {error.strerror}")
        try:
            code_of_exit = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the sanitizer and what it runs
            process.wait()
            return SanitizerResult(tool, "not run", seconds=limit_s, reason=f"stopped after {limit_s:g} s")
        output.seek(0)
        text = output.read().decode(errors="replace")
    return _read(tool, text, code_of_exit, time.perf_counter() - began)


def _read(tool: str, text: str, code: int, seconds: float) -> SanitizerResult:
    summaries = _SUMMARY.findall(text)
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip("= ")), "no output")
    if not summaries:
        return SanitizerResult(tool, "not run", seconds=seconds, reason=f"no summary; last line: {last}")
    errors = sum(int(errors or hazards) for errors, hazards in summaries)
    findings = _FINDING.findall(text)[:_FINDINGS]
    if errors > 0:
        return SanitizerResult(tool, "errors", errors, seconds, findings=findings)
    if code != 0:
        told = [line for line in text.splitlines() if line.strip() and not line.startswith("===")]
        reason = f"the cases ended with status {code}: {told[-1].strip() if told else last}"
        return SanitizerResult(tool, "failed", errors, seconds, reason)
    return SanitizerResult(tool, "clean", errors, seconds)
