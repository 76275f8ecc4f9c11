"""Which processor this is, as far as it decides which kernels can run."""

import platform
from pathlib import Path

# What decides which kernels a library can choose.
FLAGS_THAT_MATTER = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)


def describe_processor() -> tuple[str, list[str]]:
    """Its name and those of its flags that matter; no flags where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine(), []
    values: dict[str, str] = {}
    for line in info.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    flags = set((values.get("flags") or values.get("Features") or "").split())
    return values.get("model name") or platform.machine(), [flag for flag in FLAGS_THAT_MATTER if flag in flags]
