"""Prints how close each layer of the native engine comes to the processor's peak.

usage: python tools/roofline.py [--size 128x128] [--precision fp32|bf16] [--threads N] [--rounds 15] [--model MODEL]

GFLOP/s count direct convolutions (two operations per multiply-add), so a Winograd layer may exceed the peak: F(4x4,
3x3) needs a quarter of the multiplications, the tail's F(4x4, 5x5) about a quarter of those of the 9x9 form including
padding. The last column counts actual multiplications. The peak is measured in the same process, with the instruction
set in use (SRGAN_FAST_ISA).
"""

import argparse
import re
import statistics

import numpy as np

from srgan_fast.models import DEFAULT_MODEL, read_model
from srgan_fast.runtime.native_backend import NativeBackend
from srgan_fast.runtime.registry import usable_cpus


def multiplied(layer: str) -> float:
    """Multiplications of a layer (such as `9x9, 3 to 64`) relative to its direct form."""
    if re.search(r"\b(3x3|9x9), [134] to", layer):  # the image itself
        return 1.0
    if "9x9" in layer:
        # 64 points for 16 pixels before the shuffle and 4 C channels to 16, versus 81 * 3 * C for each of 64 pixels.
        return 64 * 4 * 16 / (64 * 81 * 3)
    return 36 / (9 * 16)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="128x128", metavar="HxW")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.split("x"))
    file = read_model(args.model)
    backend = NativeBackend(file, args.precision, args.threads)
    lr = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    backend.run(lr)
    times: list[list[tuple[str, float, float]]] = []
    for _ in range(args.rounds):
        backend.run(lr)
        times.append(backend.layer_times())
    peak = 2e-9 * backend.peak()
    print(f"{file.name}, {args.size}, {args.precision}, {args.threads} threads, {backend.isa}")
    print(f"fp32 multiply-adds alone: {peak:.0f} GFLOP/s")
    print(f"{'layer':30} {'ms':>8} {'share':>6} {'GFLOP/s':>8} {'of the peak':>12} {'multiplied':>11}")
    medians = [statistics.median(t[i][1] for t in times) for i in range(len(times[0]))]
    for (layer, _, macs), seconds in zip(times[0], medians, strict=True):
        rate = 2e-9 * macs / seconds
        real = rate * multiplied(layer)
        share = seconds / sum(medians)
        print(f"{layer:30} {1e3 * seconds:8.2f} {share:6.0%} {rate:8.0f} {rate / peak:12.0%} {real / peak:11.0%}")


if __name__ == "__main__":
    main()
