"""Small cases that select the same kernels and tiles as real workloads on a given GPU.

Tiles depend on the size of a call and on the GPU (csrc/kernels/cuda/plan.h), so no fixed list of small cases covers
every kernel on every GPU. The planner tells which kernel a call selects without running it. For each kernel of the real
workloads that the fixed cases miss, we search for the smallest case that selects it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import torch

from srgan_fast.ops.check_cases import CheckCase, Wants
from srgan_fast.ops.conv_cases import Prologue
from srgan_fast.ops.infer_checks import InferCase
from srgan_fast.ops.prologue import UNIT

_BYTES = 2  # per element: float32 convolutions are cuDNN's

Key = tuple[object, ...]  # identifies a kernel and its launch configuration
_Case = TypeVar("_Case", CheckCase, InferCase)


@dataclass(frozen=True, slots=True)
class Gpu:
    """Properties of a GPU that the planner uses.

    Attributes:
        multiprocessors: number of SMs.
        shared_bytes: largest shared memory of a block.
    """

    multiprocessors: int
    shared_bytes: int


def gpu_of(index: int) -> Gpu:
    """Properties of a CUDA device."""
    properties = torch.cuda.get_device_properties(index)
    shared: int = properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return Gpu(properties.multi_processor_count, shared)


# The discriminator's first layer: gradients of the image alone, and of its weights.
_FIRST_WANTS: tuple[Wants, ...] = ("source", "weight")
_WANTS: tuple[Wants, ...] = ("source", "both")
# Layers of the generator, the discriminators and VGG19 with gradients, with the fraction of the crop's side.
_BN: Prologue = "slope"
_PRELU: Prologue = "slope alone"
_LAYERS = (
    (CheckCase((1, 3, 64, 1, 1), side=9, wants="weight"), 1 / 4),
    (CheckCase((1, 64, 64, 1, 1), prologue=_PRELU, moments=True), 1 / 4),
    (CheckCase((1, 64, 64, 1, 1), prologue=_BN, moments=True), 1 / 4),
    (CheckCase((1, 64, 64, 1, 1), prologue="residual", moments=True), 1 / 4),
    (CheckCase((1, 64, 256, 1, 1), prologue="residual"), 1 / 4),
    (CheckCase((1, 64, 256, 1, 1), prologue=_PRELU, shuffle=True), 1 / 2),
    (CheckCase((1, 256, 12, 1, 1), side=5, prologue=_PRELU), 1 / 2),
    (CheckCase((1, 64, 3, 1, 1), side=9, prologue=_PRELU), 1.0),
    *((CheckCase((1, 3, 64, 1, 1), activation=0.2, wants=wants), 1.0) for wants in _FIRST_WANTS),
    *(
        (CheckCase((1, c, o, 1, 1), stride=stride, prologue=_BN, moments=True, wants=wants), side)
        for c, o, stride, side in (
            (64, 64, 2, 1.0),
            (64, 128, 1, 1 / 2),
            (128, 128, 2, 1 / 2),
            (128, 256, 1, 1 / 4),
            (256, 256, 2, 1 / 4),
            (256, 512, 1, 1 / 8),
            (512, 512, 2, 1 / 8),
        )
        for wants in _WANTS
    ),
    *(
        (CheckCase((1, c, o, 1, 1), activation=0.0, wants="source"), side)
        for c, o, side in (
            (3, 64, 1.0),
            (64, 64, 1.0),
            (64, 128, 1 / 2),
            (128, 128, 1 / 2),
            (128, 256, 1 / 4),
            (256, 256, 1 / 4),
            (256, 512, 1 / 8),
            (512, 512, 1 / 8),
        )
    ),
)
TRAINING = tuple(
    replace(layer, size=(batch, layer.size[1], layer.size[2], round(crop * share), round(crop * share)))
    for (layer, share), batch, crop in product(_LAYERS, (1, 4, 16, 64), (96, 128, 192))
)

_IMAGES = ((1, 32, 32), (1, 64, 64), (1, 128, 128), (8, 128, 128), (1, 180, 320), (1, 256, 256), (1, 512, 512))
_LARGE = ((1, 540, 960), (1, 1080, 1920))
INFERENCE = tuple(
    case
    for n, h, w in (*_IMAGES, *_LARGE)
    for case in (
        InferCase("head", (n, 3, 64, h, w)),
        InferCase("block", (n, 64, 64, h, w)),
        InferCase("conv", (n, 64, 64, h, w), ("residual",)),
        InferCase("conv", (n, 64, 256, h, w), ("slope", "shuffle")),
        InferCase("conv", (n, 64, 256, 2 * h, 2 * w), ("slope",)),
        InferCase("tail", (n, 256, 3, 2 * h, 2 * w)),
        # Dense blocks and last convolutions of ESRGAN and Compact.
        InferCase("conv", (n, 160, 32, h, w), ("slope", "slices")),
        InferCase("conv", (n, 192, 64, h, w), ("residual", "slices")),
        InferCase("picture", (n, 64, 3, 4 * h, 4 * w), shuffle=1),
        InferCase("picture", (n, 64, 48, h, w), shuffle=4),
    )
)

# Map sizes of small cases; made odd where nothing is shuffled.
_SIDES = ((6, 10), (12, 20), (24, 24), (48, 32), (48, 48), (96, 64), (96, 96), (128, 128), (192, 128), (256, 192))
_BATCHES = (1, 2, 3, 4, 8, 16, 32, 64)


def training_cases(gpu: Gpu, fixed: Iterable[CheckCase], own: bool = False) -> list[CheckCase]:
    """Convolution cases for every kernel of `TRAINING` on a GPU that the fixed cases miss; see `training_keys`."""
    return _added(TRAINING, fixed, lambda case: training_keys(case, gpu, own), lambda case: tested_keys(case, gpu))


def inference_cases(gpu: Gpu, fixed: Iterable[InferCase]) -> list[InferCase]:
    """Layer cases for every kernel of `INFERENCE` on a GPU that the fixed cases miss."""
    return _added(INFERENCE, fixed, lambda case: inference_keys(case, gpu), lambda case: inference_keys(case, gpu))


def training_keys(case: CheckCase, gpu: Gpu, own: bool = False) -> set[Key]:
    """The kernels that a call selects, forward and backward, for 16-bit maps.

    Args:
        case: the call.
        gpu: the GPU that runs it.
        own: whether our own GEMMs are requested.
    """
    n, c, o, h, w = case.size
    affine, residual = case.prologue != "none", case.prologue == "residual"
    changed = case.moments or case.activation is not None
    # If both gradients are needed, a separate pass has already applied the gradient of what follows the convolution.
    behind = changed and (case.wants != "both" or o % UNIT != 0)

    def key(kernel: str, two: bool) -> Key:
        sizes = [n, c, o, h, w, case.side, case.stride, int(affine), int(residual), int(two)]
        plan = torch.ops.srgan_fast.kernel_plan(kernel, sizes, _BYTES, own, gpu.multiprocessors, gpu.shared_bytes)
        ending = ("moments" if case.moments else "activation") if two else ""
        return kernel, case.side, case.stride, case.prologue, case.shuffle, ending, plan

    keys = {key("forward", changed)}
    if case.wants != "weight":
        keys.add(key("dgrad", behind))
    if case.wants != "source":
        keys.add(key("wgrad", behind))
    return keys


def tested_keys(case: CheckCase, gpu: Gpu) -> set[Key]:
    """The kernels that the self-test of a case runs: our own, and cuDNN's if it supports the call."""
    own = training_keys(case, gpu, own=True)
    by_library = any(which == "library" and dtype.itemsize == _BYTES for dtype, which in case.ways())
    return own | {(*key[:-1], "library") for key in own} if by_library else own


def inference_keys(case: InferCase, gpu: Gpu) -> set[Key]:
    """The kernels that a call selects."""

    def plan(layer: str) -> str:
        name: str = torch.ops.srgan_fast.kernel_plan(
            layer, [*case.size, case.side], _BYTES, True, gpu.multiprocessors, gpu.shared_bytes
        )
        return name

    if case.layer == "block" and plan("block") == "two convolutions":
        return {("conv", behind, plan("conv")) for behind in (("slope",), ("residual",))}
    return {(case.layer, case.behind, plan(case.layer))}


@dataclass(frozen=True, slots=True)
class KernelCoverage:
    """A kernel with one launch configuration on a GPU.

    Attributes:
        kernel: `forward`, `dgrad` or `wgrad` of training, or a layer of upscaling.
        plan: tile, or `library` for cuDNN's GEMM.
        selected: number of calls of `TRAINING` and `INFERENCE` that select it.
        variants: distinct combinations of kernel side, stride, prologue and epilogue among these calls.
        tested: how many of the variants the self-test runs.
    """

    kernel: str
    plan: str
    selected: int
    variants: int
    tested: int


def coverage_of(
    gpu: Gpu, training: Iterable[CheckCase], inference: Iterable[InferCase], own: bool = False
) -> list[KernelCoverage]:
    """Which kernels real sizes select on a GPU, and which of them the given cases test; `own` as in `training_keys`."""
    tested = {key for case in training for key in tested_keys(case, gpu)}
    tested |= {key for layer in inference for key in inference_keys(layer, gpu)}
    selected = [key for case in TRAINING for key in training_keys(case, gpu, own)]
    selected += [key for layer in INFERENCE for key in inference_keys(layer, gpu)]
    rows: dict[tuple[str, str], list[Key]] = {}
    for key in selected:
        rows.setdefault((str(key[0]), str(key[-1])), []).append(key)
    return [
        KernelCoverage(kernel, plan, len(keys), len(set(keys)), len(set(keys) & tested))
        for (kernel, plan), keys in rows.items()
    ]


def _added(
    real: Iterable[_Case],
    fixed: Iterable[_Case],
    needed: Callable[[_Case], set[Key]],
    tested: Callable[[_Case], set[Key]],
) -> list[_Case]:
    covered = {key for case in fixed for key in tested(case)}
    added: list[_Case] = []
    for case in real:
        for key in sorted(needed(case) - covered, key=repr):
            if key in covered:
                continue
            small = next((c for c in _smaller(case) if key in tested(c)), case)
            added.append(small)
            covered |= tested(small)
    return added


def _smaller(case: _Case) -> Iterator[_Case]:
    """The same call with fewer pixels, smallest first."""
    n, c, o, h, w = case.size
    odd = 0 if isinstance(case, CheckCase) and case.shuffle else 1
    sizes = {(batch, height - odd, width - odd) for batch in _BATCHES for height, width in _SIDES}
    for batch, height, width in sorted(sizes, key=lambda size: (size[0] * size[1] * size[2], size)):
        if batch * height * width < n * h * w:
            yield replace(case, size=(batch, c, o, height, width))
