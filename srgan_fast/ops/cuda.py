"""Whether this machine's GPUs may compute with the fused kernels: each is examined before its first use.

The kernels were written for every GPU with bfloat16 tensor cores and cannot have been run on all of them. So a device
computes small random cases of every operator, and its results are compared with PyTorch's in float64; one that differs
is not used, and the reason says by how much. That a device is right is kept on disk (`ops.verdicts`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from srgan_fast.ops import coverage, infer_checks, vector_checks, verdicts
from srgan_fast.ops.accuracy import CheckError, largest_error, leave_garbage, relative_error, repeated
from srgan_fast.ops.check_cases import CHECKS, TYPES, CheckCase, Products
from srgan_fast.ops.conv import ConvResult, conv, conv_reference
from srgan_fast.ops.native import why_not_on_cuda

CAPABILITY = (8, 0)  # the first with bfloat16 products and asynchronous copies
MAP_TYPES = (*TYPES, torch.float32)  # of training's maps; floats go through torch's library, in TF32 if it may

_CONVOLUTIONS: Any = getattr(torch.backends.cudnn, "conv")  # noqa: B009 - unknown to type checkers

# Largest relative error (2-norms) of a tensor; rounding z, the weights and the result to bfloat16 gives some 4e-3 each,
# and a sum of many such values that nearly cancels more.
_TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 2e-3}  # TF32 has float16's precision
_OF_ONE = 3.0  # an element's error over the largest element may be as many times that; a lost one is far beyond
_REPEATS = 3  # of our own kernels, whose bits are the same each time: a race may be won at first


def usable() -> bool:
    """Whether there is a CUDA device and the kernels for it, right or not; see `problem_of`."""
    return torch.cuda.is_available() and why_not_on_cuda() is None


@contextmanager
def products(which: Products) -> Iterator[None]:
    """Convolutions inside take these products, in all threads: the `faster` ones are chosen by sizes.

    With the `library`'s, which are torch's, our kernels do what stands before and behind a convolution in passes of
    their own. Convolutions that it does not suit take ours all the same. Maps of float32 take the library's, unless
    `own-tf32` asks for ours, which round what they multiply to TF32.

    Raises:
        RuntimeError: no such products, or TF32 where `torch.backends` does not allow it.
    """
    if which == "own-tf32" and _CONVOLUTIONS.fp32_precision != "tf32":
        raise RuntimeError(
            "products of float32 maps in TF32 are not allowed: set torch.backends.cudnn.conv.fp32_precision to 'tf32', "
            "or take the library's"
        )
    before = torch.ops.srgan_fast.conv_products(which)
    try:
        yield
    finally:
        torch.ops.srgan_fast.conv_products(before)


# What this process knows of its devices, by index, and whether of float32 or of 16 bits and upscaling.
_found: dict[tuple[int, bool], str | None] = {}
_examining = threading.Lock()  # whose products are taken is one setting for all threads


def problem_of(device: torch.device, anew: bool = False, floats: bool = False) -> str | None:
    """Why a CUDA device cannot compute with the fused kernels, in a sentence; None if it can.

    Args:
        device: of CUDA; the current one where it has no index.
        anew: whether it is examined even if it was found right before.
        floats: whether maps of float32 are meant, on which there is a verdict of their own.
    """
    if (problem := why_not_on_cuda()) is not None:
        return problem
    index = torch.cuda.current_device() if device.index is None else device.index
    return cast("str | None", _verdict(index, anew, floats))


# It may be asked while torch.compile traces, which must not trace the examination.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _verdict(index: int, anew: bool, floats: bool) -> str | None:
    key = index, floats
    with _examining:
        if anew or key not in _found:
            tolerances = (_TOLERANCE, _OF_ONE, infer_checks.TOLERANCE)
            asked = (floats, CHECKS, coverage.TRAINING, infer_checks.CASES, coverage.INFERENCE, tolerances)
            about = verdicts.describe(index, repr(asked))
            if not anew and about is not None and verdicts.is_kept(about):
                _found[key] = None
            elif torch.cuda.is_current_stream_capturing():
                name = torch.cuda.get_device_name(index)
                return f"{name} was not examined yet, which cannot be done while a CUDA graph is recorded"
            else:
                try:
                    problem = _found[key] = _examine(index, floats)
                except torch.OutOfMemoryError:
                    # Says nothing about the kernels, so that nothing is kept on disk; but another try at each call of a
                    # module would take seconds, and a change of mind would come in the middle of a network.
                    name = torch.cuda.get_device_name(index)
                    _found[key] = f"{name} has not enough memory free to examine the fused kernels"
                    return _found[key]
                if about is not None:
                    (verdicts.keep if problem is None else verdicts.forget)(about)
        return _found[key]


def _examine(index: int, floats: bool) -> str | None:
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if capability < CAPABILITY:
        have, need = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"fused kernels need compute capability {need}, and {name} has {have}"
    try:
        device = torch.device("cuda", index)
        examined = examination(coverage.gpu_of(index))
        cases = [case for case in examined if case.chosen and (case.dtype == torch.float32) == floats]
        errors = [error for case in cases for error in case.run(device)]
    except torch.OutOfMemoryError:
        raise  # says nothing about the kernels
    except RuntimeError as error:
        return f"the fused kernels fail on {name}: {str(error).splitlines()[0]}"
    worst = max(errors, key=lambda error: error.excess)
    if worst.excess > 1.0:
        return (
            f"the fused kernels compute wrong results on {name} ({worst.what}: relative error {worst.value:.1e}); "
            "please report this"
        )
    return None


@dataclass(frozen=True, slots=True)
class Examined:
    """What a GPU is examined with.

    Attributes:
        what: is computed.
        dtype: of maps.
        run: computes it on a device and returns the errors.
        compute: computes it alone, as far as it can be had without what it is compared with.
        chosen: whether these kernels are ever used without being asked for, so that the verdict depends on them.
        library: whether the products are those of torch's library.
    """

    what: str
    dtype: torch.dtype
    run: Callable[[torch.device], list[CheckError]]
    compute: Callable[[torch.device], object]
    chosen: bool = True
    library: bool = False


def examination(gpu: coverage.Gpu | None = None) -> Iterator[Examined]:
    """All that a GPU is examined with, training's kernels and inference's.

    Args:
        gpu: whose tiles are examined, for real sizes; without one only what is the same everywhere.
    """
    added = [] if gpu is None else coverage.training_cases(gpu, CHECKS)
    for case in (*CHECKS, *added):
        for dtype, which in case.ways():
            if case in CHECKS or dtype in TYPES:  # floats' products are the library's, whatever their size
                run = partial(check, case, dtype=dtype, which=which)
                alone = partial(compute, case, dtype=dtype, which=which)
                what = f"{case}, products: {which}"
                yield Examined(what, dtype, run, alone, which != "own-tf32", which == "library")
    layers = [] if gpu is None else coverage.inference_cases(gpu, infer_checks.CASES)
    for layer in (*infer_checks.CASES, *layers):
        for dtype in TYPES:
            check_layer = partial(infer_checks.check, layer, dtype=dtype)
            yield Examined(str(layer), dtype, check_layer, partial(infer_checks.compute, layer, dtype=dtype))
    for dtype in TYPES:
        recorded = partial(infer_checks.check_recorded, dtype=dtype)
        yield Examined("recorded layers", dtype, recorded, recorded)
    for dtype in MAP_TYPES:
        pooling = partial(vector_checks.check_pooling, dtype=dtype)
        yield Examined("pooling", dtype, pooling, pooling)
        yield Examined("BatchNorm", dtype, vector_checks.check_batchnorm, vector_checks.check_batchnorm)


def check(
    case: CheckCase, device: torch.device, dtype: torch.dtype = torch.bfloat16, which: Products = "faster"
) -> list[CheckError]:
    """Runs a case on a device, forward and backward, and in float64 in plain torch.

    Args:
        case: what is computed.
        device: where.
        dtype: of maps.
        which: whose products, on CUDA.

    Returns:
        The errors of the result's tensors and of all gradients, by 2-norms and of single elements; and on CUDA of our
        own products, whether their bits are the same each time.
    """
    with torch.inference_mode(False):
        given = {name: value.double() for name, value in _draw(case, device, dtype).items()}
    expected = _run(conv_reference, given, case)
    repeats = _REPEATS if device.type == "cuda" and which.startswith("own") else 1
    got: list[dict[str, Tensor]] = []
    for _ in range(repeats):
        leave_garbage(expected.values(), dtype)
        got.append(compute(case, device, dtype, which))
    errors: list[CheckError] = []
    for name, value in expected.items():
        what = f"{name} of {case}, products: {which}"
        errors += [
            CheckError(what, relative_error(got[0][name], value), _TOLERANCE[dtype]),
            CheckError(f"one element of {what}", largest_error(got[0][name], value), _OF_ONE * _TOLERANCE[dtype]),
            *(repeated(what, got[0][name], again[name]) for again in got[1:]),
        ]
    return errors


def compute(
    case: CheckCase, device: torch.device, dtype: torch.dtype = torch.bfloat16, which: Products = "faster"
) -> dict[str, Tensor]:
    """What the fused kernels make of a case: the result's tensors and all gradients, by name."""
    with torch.inference_mode(False), _tf32_allowed(), products(which) if device.type == "cuda" else nullcontext():
        return _run(conv, _draw(case, device, dtype), case)


@contextmanager
def _tf32_allowed() -> Iterator[None]:
    """What a case asks for is examined, and with this much tolerance, whatever the process is allowed."""
    before, _CONVOLUTIONS.fp32_precision = _CONVOLUTIONS.fp32_precision, "tf32"
    try:
        yield
    finally:
        _CONVOLUTIONS.fp32_precision = before


def _draw(case: CheckCase, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random inputs whose activations are on the same side of zero in any precision."""
    generator = torch.Generator().manual_seed(0)
    n, c, o, h, w = case.size
    channels = 4 * c if case.shuffle else c
    h, w = (h // 2, w // 2) if case.shuffle else (h, w)

    def quarters(*shape: int) -> Tensor:
        return torch.randint(-6, 7, shape, generator=generator).float() / 4

    given = {
        "x": quarters(n, channels, h, w).to(dtype).contiguous(memory_format=torch.channels_last),
        "weight": quarters(o, c, case.side, case.side) / 8,
        "bias": quarters(o) + 1 / 256,  # no result is 0, where an activation turns
    }
    if "scale" in case.prologue:
        given |= {name: quarters(channels) for name in ("center", "scale", "shift")}
    if "slope" in case.prologue:
        given["slope"] = torch.full((1,), 0.25)
    if "residual" in case.prologue:
        given["residual"] = quarters(n, c, h, w).to(dtype)
    return {name: value.to(device) for name, value in given.items()}


def _run(compute: Callable[..., ConvResult], given: dict[str, Tensor], case: CheckCase) -> dict[str, Tensor]:
    # Wherever the first use is: without gradients, or under autocast.
    kind = given["x"].device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False):
        inputs = {
            name: value.detach().requires_grad_(
                case.wants == "both" or (case.wants == "weight") == (name in ("weight", "bias"))
            )
            for name, value in given.items()
        }
        result = compute(
            **inputs, stride=case.stride, shuffle=case.shuffle, moments=case.moments, activation=case.activation
        )
        parts = {name: part for name, part in zip(ConvResult._fields, result, strict=True) if part.numel() > 0}
        factors = torch.Generator().manual_seed(1)
        total = torch.zeros((), dtype=torch.float64, device=result.y.device)
        for part in parts.values():
            weights = torch.randint(-4, 5, part.shape, generator=factors).double().to(part.device)
            share = weights * (result.y.numel() ** 0.5 if part.dim() == 1 else 1.0)
            total = total + (part.double() * share).sum()
        total.backward()  # type: ignore[no-untyped-call]
        gradients = {f"gradient of {name}": value.grad for name, value in inputs.items() if value.grad is not None}
        return {name: part.detach() for name, part in parts.items()} | gradients
