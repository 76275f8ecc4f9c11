"""Shows where a training step's time goes: networks, data, optimisers, and operators.

usage: python tools/profile_step.py CONFIG.toml [KEY=VALUE]... [--steps 10] [--trace FILE.json]

The run's last stage is measured after three warm-up steps. Nothing of the run is saved. The trace can be opened in
chrome://tracing or ui.perfetto.dev.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from srgan_fast.training import SilentObserver, Trainer, read_config

WARM_UP = 3  # steps: thread pools, algorithm choices, pages of the images' cache
REGIONS = (
    "G forward",
    "G backward",
    "VGG forward",
    "VGG backward, to SR",
    "D forward",
    "D backward, to SR",
    "D backward, to its weights",
    "pixel loss backward, to SR",
    "variation loss backward, to SR",
    "optimisers",
    "waiting for data",
)
OPERATORS = 8


class _Watcher(SilentObserver):
    """Profiles the steps after the warm-up."""

    def __init__(self) -> None:
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self.profiler = profile(activities=activities)
        self.began = self.seconds = 0.0

    def started(self, stage: str, step: int, steps: int) -> None:
        """See `Observer`."""
        print(f"{stage}: {steps - WARM_UP} steps")
        self.steps = steps

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """See `Observer`."""
        if step == WARM_UP:
            self.profiler.start()
            self.began = time.perf_counter()
        elif step == self.steps:
            self.seconds = time.perf_counter() - self.began
            self.profiler.stop()


def main() -> None:
    """Runs, prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--trace", type=Path)
    args = parser.parse_args()
    asked = read_config(args.config, args.overrides)
    last, other = ("gan", "pretrain") if asked.gan.steps else ("pretrain", "gan")
    watcher = _Watcher()
    with tempfile.TemporaryDirectory() as folder:
        short = [f"{last}.steps={args.steps + WARM_UP}", f"{other}.steps=0", f"run.output={folder}"]
        Trainer(read_config(args.config, [*args.overrides, *short, "data.validation="]), watcher).run()
    averages = {event.key: event for event in watcher.profiler.key_averages()}
    whole = watcher.seconds / args.steps
    print(f"{whole * 1e3:9.1f} ms a step of {asked.data.batch} crops of {asked.data.crop}x{asked.data.crop}")
    rest = whole
    for name in REGIONS:
        if name in averages:
            seconds = averages[name].cpu_time_total * 1e-6 / args.steps
            rest -= seconds
            print(f"{seconds * 1e3:9.1f} ms {seconds / whole:6.1%}  {name}")
    print(f"{rest * 1e3:9.1f} ms {rest / whole:6.1%}  the rest: losses, checks, average")
    print("operators by their own time")
    operators = [event for name, event in averages.items() if name not in REGIONS]
    for event in sorted(operators, key=lambda e: -e.self_cpu_time_total)[:OPERATORS]:
        seconds = event.self_cpu_time_total * 1e-6 / args.steps
        print(f"{seconds * 1e3:9.1f} ms {seconds / whole:6.1%}  {event.key}")
    if args.trace:
        watcher.profiler.export_chrome_trace(str(args.trace))


if __name__ == "__main__":
    main()
