"""Shows that training with the fused kernels is equivalent to training with PyTorch's.

usage: python tools/compare_kernels.py IMAGES -o OUT [--steps 300] [--validation FOLDER] [--pretrain-steps 300]

Training is chaotic: a difference in the last digit grows until two runs follow the same course with different numbers.
The distance between equivalent runs is therefore measured. A small SRGAN (and, with --validation, a small SRResNet) is
trained from one seed on the same crops with PyTorch's kernels, several times with PyTorch's from weights with a
relative perturbation of 1e-6, and once with the fused kernels. Then

- first step: losses must agree to rounding. No layer's gradient may differ from PyTorch's by more than three times the
  effect of the perturbation, which is about 1e-3, since rounding flips the sign of a few activations, whose gradients
  jump. Nor may its length along PyTorch's differ by more than half a percent. This detects gradients that are wrong by
  a few percent: Adam cancels constant factors, and the spread of the curves hides the rest.
- curves: for each smoothed curve, the fused run's rms distance over all steps from the mean of PyTorch's runs must be
  at most 1.5 times the largest distance of one of PyTorch's runs from the mean of the others. A sixth equivalent run
  exceeds this in 0.5 to 4 % of cases (normal curves of 8 to 2 degrees of freedom); without the factor in one of six.

Writes OUT.json and OUT.png; the exit code is 1 if the trainings differ.
"""

import argparse
import io
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from srgan_fast.models import Generator
from srgan_fast.ops import Kernels
from srgan_fast.training import SilentObserver, TrainConfig, Trainer
from srgan_fast.training.validation import Scores

PERTURBATION = 1e-6  # of weights, relative: about sixteen times fp32's rounding
REFERENCES = 5  # runs with PyTorch's kernels, the first of them unperturbed
WINDOW = 20  # steps that a point of a smoothed curve is the mean of: crops differ more than steps do
SLACK = 1.5  # see the module docstring
LOSS_LIMIT = 1e-5  # relative; fp32 Winograd convolutions are off by about 1e-6, and a loss averages over many pixels
GRADIENT_SLACK = 3.0  # see the module docstring
GRADIENT_FLOOR = 1e-2  # always allowed: in a narrow network a single flipped activation has that effect
SCALE_LIMIT = 5e-3  # flipped activations change a gradient's direction more than its length
FIRST = 5  # steps whose differences are listed
GAN_CURVES = ("content", "adversarial", "discriminator")
PSNR = "psnr_y"
TITLES = {
    "content": "SRGAN: content loss",
    "adversarial": "SRGAN: adversarial loss of G",
    "discriminator": "SRGAN: loss of D",
    PSNR: "SRResNet: validation PSNR-Y",
}
NARROW = ("content", PSNR)
COLOURS = 64

Sections = dict[str, dict[str, Any]]


def gan_sections(images: Path, steps: int) -> Sections:
    """A small SRGAN; VGG is random, since the meaning of features does not matter for rounding."""
    return {
        "generator": {"blocks": 4, "start": "random"},
        "data": {"train": images, "crop": 64, "batch": 4},
        # A random VGG attenuates; scaled, its content loss outweighs the adversarial term as a trained one's does.
        "gan": {"steps": steps, "feature_scale": 30.0, "features": {"weights": "random", "cut": "vgg22"}},
        "run": {"device": "cpu", "save_every": steps},
    }


def pretrain_sections(images: Path, validation: Path, steps: int) -> Sections:
    """A small SRResNet with the recipe of configs/srresnet-x4.toml."""
    return {
        "generator": {"blocks": 4, "start": "random"},
        "data": {"train": images, "validation": validation, "crop": 64, "batch": 8},
        "pretrain": {"steps": steps, "loss": "l1", "learning_rate": 5e-4, "schedule": {"kind": "cosine"}},
        "run": {"device": "cpu", "ema": 0.99, "save_every": steps, "validate_every": max(1, steps // 15)},
    }


@dataclass
class Run:
    """Recorded figures of a run.

    Attributes:
        steps: step of each point of each curve.
        curves: values by name: losses, and PSNR-Y on the validation images.
        gradients: gradients of the first step, by layer.
    """

    steps: dict[str, list[int]] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        """Appends a point to a curve."""
        self.steps.setdefault(name, []).append(step)
        self.curves.setdefault(name, []).append(value)


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of the fused run and its limit.

    Attributes:
        name: name of the figure.
        value: value of the fused run.
        limit: largest acceptable value.
        references: the same figure for each perturbed run (rounding) or each of PyTorch's runs (curves).
    """

    name: str
    value: float
    limit: float
    references: list[float]

    @property
    def passed(self) -> bool:
        """Whether the fused run is within the limit."""
        return self.value <= self.limit  # false for NaN


class _Watcher(SilentObserver):
    """Perturbs the weights of a run's networks before the training starts; records the run.

    Args:
        run: record of the run.
        perturbation: seed of the perturbation; 0 for none.
    """

    def __init__(self, run: Run, perturbation: int) -> None:
        self.run, self.perturbation = run, perturbation
        self.networks: dict[str, nn.Module] = {}

    def placed(self, network: nn.Module) -> None:
        """Keeps and perturbs a network; see `Trainer`'s `on_network`."""
        trained = [p for p in network.parameters() if p.requires_grad]
        if not trained:  # the VGG
            return
        self.networks["generator" if isinstance(network, Generator) else "discriminator"] = network
        if self.perturbation:
            source = torch.Generator().manual_seed(self.perturbation)
            with torch.no_grad():
                for p in trained:
                    p.mul_(1 + PERTURBATION * torch.randn(p.shape, generator=source))

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.run.add(name, step, value)
        if step == 1:
            for name, network in self.networks.items():
                self.run.gradients |= _gradients(name, network)

    def validated(self, step: int, scores: Scores) -> None:
        self.run.add(PSNR, step, scores.psnr_y)


def _gradients(name: str, network: nn.Module) -> dict[str, Tensor]:
    """Flattened gradients of a network's layers, each large enough to be judged by its norm.

    Weight and bias are combined: a bias before a BatchNorm has a gradient of 0, of which only rounding noise is
    computed. PReLUs with one slope are combined: positive and negative parts may cancel in each of them.
    """
    layers: dict[str, list[Tensor]] = {}
    for layer, part in network.named_modules():
        own = [p.grad.flatten().double() for p in part.parameters(recurse=False) if p.grad is not None]
        key = "slopes" if sum(g.numel() for g in own) == 1 else layer
        layers.setdefault(f"{name}.{key}", []).extend(own)
    return {layer: torch.cat(own) for layer, own in layers.items() if own}


def conduct(sections: Sections, kernels: Kernels, perturbation: int = 0) -> Run:
    """Trains once and returns only the figures.

    Args:
        sections: sections of a configuration.
        kernels: kernels to use.
        perturbation: seed of the perturbation of the weights; 0 for none.
    """
    run = Run()
    with tempfile.TemporaryDirectory() as folder:
        changed = sections | {"run": sections["run"] | {"output": folder, "kernels": kernels}}
        watcher = _Watcher(run, perturbation)
        Trainer(TrainConfig.model_validate(changed), watcher, on_network=watcher.placed).run()
    return run


def conduct_all(sections: Sections) -> tuple[list[Run], Run]:
    """PyTorch's runs, and the fused one."""
    runs = []
    plan: list[tuple[Kernels, int]] = [("reference", number) for number in range(REFERENCES)]
    for kernels, perturbation in [*plan, ("fused", 0)]:
        began = time.monotonic()
        runs.append(conduct(sections, kernels, perturbation))
        seconds = time.monotonic() - began
        print(f"  {kernels}{f', perturbed ({perturbation})' * bool(perturbation)}: {seconds:.0f} s", flush=True)
    return runs[:-1], runs[-1]


def judge(references: Sequence[Run], fused: Run, curves: Sequence[str]) -> list[Finding]:
    """Judges whether a run could be one of PyTorch's.

    Args:
        references: PyTorch's runs, the unperturbed one first.
        fused: the run to judge.
        curves: names of the curves to compare.
    """
    plain, *perturbed = references
    losses = [name for name in curves if name != PSNR]
    usual = [max(gradient_differences(run, plain).values()) for run in perturbed]
    scales = [max(_scale_differences(run, plain)) for run in perturbed]
    findings = [
        Finding(
            "losses of step 1",
            _loss_difference(fused, plain, losses, 0),
            LOSS_LIMIT,
            [_loss_difference(run, plain, losses, 0) for run in perturbed],
        ),
        Finding(
            "gradients of step 1",
            max(gradient_differences(fused, plain).values()),
            max(GRADIENT_FLOOR, GRADIENT_SLACK * max(usual)),
            usual,
        ),
        Finding("their lengths", max(_scale_differences(fused, plain)), SCALE_LIMIT, scales),
    ]
    for name in curves:
        smoothed = [smooth(run.curves[name], _window(name)) for run in references]
        distances = [_distance(curve, smoothed[:i] + smoothed[i + 1 :]) for i, curve in enumerate(smoothed)]
        mine = _distance(smooth(fused.curves[name], _window(name)), smoothed)
        findings.append(Finding(name, mine, SLACK * max(distances), distances))
    return findings


def _loss_difference(run: Run, plain: Run, losses: Sequence[str], step: int) -> float:
    """Largest relative difference of a step's losses."""
    return max(abs(run.curves[name][step] / plain.curves[name][step] - 1) for name in losses)


def gradient_differences(run: Run, plain: Run) -> dict[str, float]:
    """Norm of the difference of the first step's gradients, relative to the gradient's norm, by layer."""
    return {
        layer: ((run.gradients[layer] - gradient).norm() / gradient.norm()).item()
        for layer, gradient in plain.gradients.items()
    }


def _scale_differences(run: Run, plain: Run) -> list[float]:
    """Relative difference in length of each layer's gradient along PyTorch's."""
    pairs = [(run.gradients[layer], gradient) for layer, gradient in plain.gradients.items()]
    return [abs((ours.dot(theirs) / theirs.dot(theirs)).item() - 1) for ours, theirs in pairs]


def _window(name: str) -> int:
    return 1 if name == PSNR else WINDOW


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Running mean; point n is that of values n to n + window - 1."""
    window = min(window, len(values))
    return np.convolve(values, np.full(window, 1 / window), "valid")


def _distance(curve: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> float:
    """Root mean square, over the steps, of the distance from the mean of the others."""
    return math.sqrt(np.mean((curve - np.mean(others, axis=0)) ** 2))


def inside(references: Sequence[Run], fused: Run, name: str) -> float:
    """Fraction of a smoothed curve's steps at which the run is between the lowest and the highest of PyTorch's.

    For a sixth equivalent run the expected fraction is 4 / 6.
    """
    smoothed = np.stack([smooth(run.curves[name], _window(name)) for run in references])
    mine = smooth(fused.curves[name], _window(name))
    return float(np.mean((smoothed.min(0) <= mine) & (mine <= smoothed.max(0))))


def draw(parts: Sequence[tuple[Sequence[Run], Run, Sequence[str]]], path: Path) -> None:
    """Curves of all runs: PyTorch's as thin lines in a band from lowest to highest, the fused run's on top.

    If the band is too narrow to be seen beside the curve, a second panel shows the differences from its centre.
    """
    panels = [
        (references, fused, name, differences)
        for references, fused, names in parts
        for name in names
        for differences in (False, True)
        if name in (TITLES.keys() if not differences else NARROW)
    ]
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(8.6, 0.4 + 2.5 * rows), layout="constrained")
    for number, (references, fused, name, differences) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, 2, number)
        window = _window(name)
        steps = fused.steps[name][min(window, len(fused.steps[name])) - 1 :]
        theirs = np.stack([smooth(run.curves[name], window) for run in references])
        middle = theirs.mean(0) if differences else np.zeros(len(steps))
        theirs, mine = theirs - middle, smooth(fused.curves[name], window) - middle
        label = f"PyTorch's kernels, {len(references)} runs"
        axes.fill_between(steps, theirs.min(0), theirs.max(0), color="#a9c0dc", linewidth=0, label=label)
        axes.plot(steps, theirs.T, color="#4a6fa5", linewidth=0.6)
        axes.plot(steps, mine, color="#c8501e", linewidth=1.6, label="fused kernels")
        axes.set_title(TITLES[name] + ", less PyTorch's mean" * differences, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        unit = "dB" if name == PSNR else f"mean of {window} steps"
        axes.set_ylabel(unit, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if number == 1:
            handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # A palette reduces the file to a third.
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def report(references: Sequence[Run], fused: Run, curves: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    """The comparison as plain data."""
    plain, *perturbed = references
    losses = [name for name in curves if name != PSNR]
    first = range(min(FIRST, len(fused.curves[losses[0]])))
    return {
        "criteria": [asdict(finding) | {"passed": finding.passed} for finding in findings],
        "inside": {name: inside(references, fused, name) for name in curves},
        "relative differences of the first steps' losses": {
            name: {
                "fused": [_loss_difference(fused, plain, [name], step) for step in first],
                "perturbed, largest": [
                    max(_loss_difference(r, plain, [name], step) for r in perturbed) for step in first
                ],
            }
            for name in losses
        },
        "gradients of step 1": gradient_differences(fused, plain),
        "curves": {
            name: {
                "steps": fused.steps[name],
                "reference": [[round(v, 6) for v in run.curves[name]] for run in references],
                "fused": [round(v, 6) for v in fused.curves[name]],
            }
            for name in curves
        },
    }


def print_report(title: str, values: dict[str, Any]) -> None:
    """Prints the comparison."""
    print(f"{title}: relative differences of the losses of steps 1 to {FIRST}")
    for name, rows in values["relative differences of the first steps' losses"].items():
        for who, row in rows.items():
            print(f"  {name:14} {who:18} " + " ".join(f"{value:8.1e}" for value in row))
    print(f"  {'criterion':22} {'fused':>9} {'limit':>9}   PyTorch's runs")
    for finding in values["criteria"]:
        others = " ".join(f"{value:8.1e}" for value in finding["references"])
        verdict = "" if finding["passed"] else "  DIFFERS"
        print(f"  {finding['name']:22} {finding['value']:9.1e} {finding['limit']:9.1e}   {others}{verdict}")
    for name, share in values["inside"].items():
        curve = values["curves"][name]
        tail = slice(-_window(name), None)
        ends = [fmean(run[tail]) for run in curve["reference"]]
        mine = fmean(curve["fused"][tail])
        print(
            f"  {name}: {share:.0%} of the steps inside PyTorch's runs; ends at {mine:.4f}, "
            f"they at {min(ends):.4f} to {max(ends):.4f}"
        )


def main() -> None:
    """Trains, judges, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--validation", type=Path, metavar="FOLDER", help="folder of originals; without it SRResNet is not trained"
    )
    parser.add_argument("--pretrain-steps", type=int, default=300)
    args = parser.parse_args()
    plans: list[tuple[str, Sections, Sequence[str]]] = [("SRGAN", gan_sections(args.images, args.steps), GAN_CURVES)]
    if args.validation:
        plan = pretrain_sections(args.images, args.validation, args.pretrain_steps)
        plans.append(("SRResNet", plan, ("pixel", PSNR)))
    results: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    parts: list[tuple[Sequence[Run], Run, Sequence[str]]] = []
    passed = True
    for title, sections, curves in plans:
        print(title, flush=True)
        references, fused = conduct_all(sections)
        findings = judge(references, fused, curves)
        results[title] = report(references, fused, curves, findings)
        print_report(title, results[title])
        parts.append((references, fused, curves))
        passed = passed and all(finding.passed for finding in findings)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_name(args.output.name + ".json").write_text(json.dumps(results) + "\n")
    draw(parts, args.output.with_name(args.output.name + ".png"))
    print("the same training" if passed else "NOT the same training")
    sys.exit(not passed)


if __name__ == "__main__":
    main()
