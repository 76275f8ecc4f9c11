"""Describes an NVIDIA GPU: name, clocks, power, throttling, driver and libraries, and the machine code that it runs.

A value that the system does not report is "unknown"; nothing here raises because a tool is missing or too old.
"""

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from srgan_fast.ops.native import cuda_library, why_not_on_cuda

UNKNOWN = "unknown"
_TIMEOUT_S = 20
# What nvidia-smi calls them; `*` marks those that change while the GPU works.
_FIELDS = {
    "name": "name",
    "uuid": "uuid",
    "driver": "driver_version",
    "memory total": "memory.total",
    "MIG": "mig.mode.current",
    "power limit": "power.limit",
    "largest SM clock": "clocks.max.sm",
    "SM clock*": "clocks.sm",
    "memory clock*": "clocks.mem",
    "power*": "power.draw",
    "temperature*": "temperature.gpu",
    "memory used*": "memory.used",
    "throttling*": "clocks_event_reasons.active",
}
_BEFORE_535 = "clocks_throttle_reasons.active"  # name of the last one in older drivers
# nvml.h, nvmlClocksEventReason*, from the lowest bit.
_REASONS = (
    *("idle", "application clocks", "power cap", "hardware slowdown", "sync boost", "thermal (software)"),
    *("thermal (hardware)", "power brake", "display clocks"),
)
# Layout of fatbinaries: a header per group, then an entry per architecture. Entry: kind (1 PTX, 2 machine code) at 0,
# size of its own header at 4, of its contents at 8, architecture at 28.
_GROUP, _GROUP_HEADER = b"\x50\xed\x55\xba", struct.Struct("<4sHHQ")
_ENTRY = struct.Struct("<HHIQ12xI")
_KINDS = {1: "PTX", 2: "cubin"}


def gpu_identity(device: torch.device) -> dict[str, str]:
    """Name and value of everything that is known about a CUDA device, in words."""
    properties: Any = torch.cuda.get_device_properties(device)
    capability = (properties.major, properties.minor)
    return _by_nvidia_smi(_id_of(properties), changing=False) | {
        "name": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "shared memory of a block": f"{getattr(properties, 'shared_memory_per_block_optin', 0) // 1024} KiB",
        "L2 cache": f"{getattr(properties, 'L2_cache_size', 0) / 2**20:.0f} MiB",
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "PyTorch": torch.__version__,
        "CUDA of PyTorch": torch.version.cuda or UNKNOWN,
        "cuDNN": str(torch.backends.cudnn.version() or UNKNOWN),  # type: ignore[no-untyped-call]
        "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", "not set"),
        "machine code of our kernels": machine_code(capability),
    }


def gpu_state(device: torch.device) -> dict[str, str]:
    """What changes while it works: clocks, power, temperature, memory in use, reasons for throttling."""
    return _by_nvidia_smi(_id_of(torch.cuda.get_device_properties(device)), changing=True)


def _id_of(properties: Any) -> str:
    return f"GPU-{getattr(properties, 'uuid', '')}"


def _by_nvidia_smi(gpu: str, changing: bool) -> dict[str, str]:
    wanted = {name.rstrip("*"): field for name, field in _FIELDS.items() if name.endswith("*") == changing}
    # All at once; if a driver does not know one of the fields, nvidia-smi refuses them all.
    found = _ask(gpu, list(wanted.values())) or [next(iter(_ask(gpu, [f]) or []), UNKNOWN) for f in wanted.values()]
    values = dict(zip(wanted, found, strict=True))
    if changing:
        if values["throttling"] == UNKNOWN:
            values["throttling"] = next(iter(_ask(gpu, [_BEFORE_535]) or []), UNKNOWN)
        values["throttling"] = throttling(values["throttling"])
    return values


def _ask(gpu: str, fields: list[str]) -> list[str] | None:
    command = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in done.stdout.strip().split(",")]
    if done.returncode != 0 or len(values) != len(fields):
        return None
    return [UNKNOWN if not value or value.startswith("[") else value for value in values]  # [N/A], [Not Supported]


def throttling(mask: str) -> str:
    """Names of the bits of nvidia-smi's mask of reasons."""
    try:
        bits = int(mask, 16)
    except ValueError:
        return UNKNOWN
    named = [name for place, name in enumerate(_REASONS) if bits >> place & 1]
    return ", ".join(named) or ("none" if bits == 0 else mask)


def machine_code(capability: tuple[int, int], library: Path | None = None) -> str:
    """Which code of the library a GPU of that compute capability runs: `cubin sm_90`, PTX that the driver compiles, ...

    A cubin runs on GPUs of its own major version from its minor version on, PTX on all newer ones.
    """
    if library is None and why_not_on_cuda() is not None:
        return UNKNOWN
    try:
        code = set(_entries((library or cuda_library()).read_bytes()))
    except (OSError, struct.error):
        return UNKNOWN
    major, minor = capability
    cubins = [arch for kind, arch in code if kind == "cubin" and arch // 10 == major and arch % 10 <= minor]
    ptx = [arch for kind, arch in code if kind == "PTX" and arch <= 10 * major + minor]
    if cubins:
        return f"cubin sm_{max(cubins)}"
    if ptx:
        return f"PTX compute_{max(ptx)}, compiled by the driver"
    return "none for this GPU" if code else UNKNOWN


def _entries(library: bytes) -> Iterator[tuple[str, int]]:
    """Kind and architecture of all code in a library's fatbinaries."""
    place = library.find(_GROUP)
    while place >= 0:
        _, _, header, size = _GROUP_HEADER.unpack_from(library, place)
        entry, end = place + header, place + header + size
        while header and entry + _ENTRY.size <= min(end, len(library)):
            kind, _, entry_header, entry_size, arch = _ENTRY.unpack_from(library, entry)
            if kind not in _KINDS or not entry_header:
                break
            yield _KINDS[kind], arch
            entry += entry_header + entry_size
        place = library.find(_GROUP, place + 4)
