"""Measures how many training batches per second one CPU core prepares.

usage: python tools/bench_feeder.py IMAGES [--batch 16] [--crop 96] [--scale 4] [--seconds 5]

Prints one JSON line per kind of low-resolution image: clean, and degraded (blur, noise, JPEG).
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from srgan_fast.data.cache import open_cache
from srgan_fast.data.crops import CropSampler
from srgan_fast.data.degradations import Degradations

KINDS = {
    "clean": Degradations(),
    "degraded": Degradations(blur=(0.2, 1.5), noise=(1.0, 10.0), jpeg=(40, 95)),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    cache = open_cache(args.images)
    for kind, degradations in KINDS.items():
        sampler = CropSampler(cache, args.crop, args.scale, args.batch, seed=0, degradations=degradations)
        times: list[float] = []
        sampler(0)  # pages of the map, lazy imports
        until = time.perf_counter() + args.seconds
        while time.perf_counter() < until:
            began = time.thread_time()
            sampler(len(times) + 1)
            times.append(time.thread_time() - began)
        median = statistics.median(times)
        line = {
            "feeder": kind,
            "batch": args.batch,
            "crop": args.crop,
            "batches": len(times),
            "median_ms": round(median * 1e3, 3),
            "batches_per_core_second": round(1 / median, 1),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
