"""The processor, as far as it determines which kernels can run."""

import platform
from pathlib import Path

# CPU flags that kernel dispatch depends on.
FLAGS_THAT_MATTER = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)


def describe_processor() -> tuple[str, list[str]]:
    """Name of the processor and its relevant flags; no flags if the system does not report them."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine(), []
    values: dict[str, str] = {}
    for line in info.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    flags = set((values.get("flags") or values.get("Features") or "").split())
    return values.get("model name") or platform.machine(), [flag for flag in FLAGS_THAT_MATTER if flag in flags]
