"""NVIDIA's compute-sanitizer over the fused kernels: memory, races, barriers, values that nobody wrote.

Right results say nothing of a read beyond a tensor or of a race that was won. So a process of its own computes every
case that a GPU is examined with, forward and backward, in both types, under each of the sanitizer's tools.
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
LIMIT_S = 300.0  # for one tool

_NAME = "compute-sanitizer"
_TOOLKIT = "/usr/local/cuda/bin"
_SUMMARY = re.compile(r"^=+ (?:ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: (\d+) hazards? displayed)", re.MULTILINE)
_FINDING = re.compile(r"^=+ +(?!COMPUTE-SANITIZER|.*SUMMARY)(\S.*)", re.MULTILINE)
_FINDINGS = 10  # that are kept; the first one says most

Status = Literal["clean", "errors", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class SanitizerResult:
    """What one tool found.

    Attributes:
        tool: its name.
        status: `clean`; `errors`; `failed` where the cases did not come to their end; `not run`.
        errors: how many were found; None where the tool said nothing.
        seconds: that it took, whatever came of it.
        reason: why it failed or was not run.
        findings: the first lines of what was found.
    """

    tool: str
    status: Status
    errors: int | None = None
    seconds: float | None = None
    reason: str | None = None
    findings: list[str] = field(default_factory=list)


def sanitize(device: torch.device, limit_s: float = LIMIT_S) -> list[SanitizerResult]:
    """Runs all tools, one after the other.

    Args:
        device: that computes, with an index.
        limit_s: seconds for one tool, after which it is ended.
    """
    sanitizer = find_sanitizer()
    if sanitizer is None:
        return [SanitizerResult(tool, "not run", reason=f"{_NAME} is not installed") for tool in TOOLS]
    return [_run(sanitizer, tool, device, limit_s) for tool in TOOLS]


def find_sanitizer() -> Path | None:
    """compute-sanitizer of the path, of `CUDA_HOME`, or of the usual place of the CUDA toolkit."""
    home = os.environ.get("CUDA_HOME")
    places = [os.environ.get("PATH", os.defpath), *([f"{home}/bin"] if home else []), _TOOLKIT]
    found = shutil.which(_NAME, path=os.pathsep.join(places))
    return None if found is None else Path(found)


def compute_cases(device: str, own: bool = False) -> None:
    """Every case on which a GPU is examined, in every type, forward and backward: what is run under the sanitizer.

    Args:
        device: that computes.
        own: whether cases with the products of torch's library are left out.
    """
    at = torch.device(device)
    for case in cuda.examination(coverage.gpu_of(at.index or 0) if at.type == "cuda" else None):
        if not (own and case.library):
            case.compute(at)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _run(sanitizer: Path, tool: str, device: torch.device, limit_s: float) -> SanitizerResult:
    # cuDNN's kernels for Hopper write by bulk copies, which initcheck does not see.
    own = ", own=True" if tool == "initcheck" else ""
    code = f"from {__name__} import compute_cases; compute_cases({str(device)!r}{own})"
    command = [str(sanitizer), "--tool", tool, sys.executable, "-c", code]
    # Without torch's own allocator every tensor has bounds that the sanitizer knows.
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
            return SanitizerResult(
                tool, "not run", seconds=limit_s, reason=f"it was not done in {limit_s:g} s and was ended"
            )
        output.seek(0)
        text = output.read().decode(errors="replace")
    return _read(tool, text, code_of_exit, time.perf_counter() - began)


def _read(tool: str, text: str, code: int, seconds: float) -> SanitizerResult:
    summaries = _SUMMARY.findall(text)
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip("= ")), "it printed nothing")
    if not summaries:
        return SanitizerResult(tool, "not run", seconds=seconds, reason=f"it gave no summary; its last line: {last}")
    errors = sum(int(errors or hazards) for errors, hazards in summaries)
    findings = _FINDING.findall(text)[:_FINDINGS]
    if errors > 0:
        return SanitizerResult(tool, "errors", errors, seconds, findings=findings)
    if code != 0:
        told = [line for line in text.splitlines() if line.strip() and not line.startswith("===")]
        reason = f"the cases ended with status {code}: {told[-1].strip() if told else last}"
        return SanitizerResult(tool, "failed", errors, seconds, reason)
    return SanitizerResult(tool, "clean", errors, seconds)
