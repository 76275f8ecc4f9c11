"""GPU self-test of the fused kernels, run before the first use of each device.

The kernels support every GPU with bfloat16 tensor cores, more than they could be run on. So each device first computes
small random cases of every operator, which are compared with PyTorch's float64 results. A device that fails is not
used, and the reason states the error. Passes are cached on disk (`ops.self_test_cache`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from srgan_fast.ops import coverage, gpu_choice, infer_checks, self_test_cache, vector_checks
from srgan_fast.ops.accuracy import CheckError, largest_error, leave_garbage, relative_error, repeated
from srgan_fast.ops.check_cases import CHECKS, TYPES, CheckCase, Gemm
from srgan_fast.ops.conv import conv, conv_reference
from srgan_fast.ops.conv_cases import Function, Inputs, call, draw, gradients, results
from srgan_fast.ops.native import why_not_on_cuda

CAPABILITY = (8, 0)  # the first with bfloat16 tensor cores and cp.async
MAP_TYPES = (*TYPES, torch.float32)  # of training; float32 convolutions are cuDNN's, in TF32 if allowed

_CONVOLUTIONS: Any = getattr(torch.backends.cudnn, "conv")  # noqa: B009 - unknown to type checkers

# Largest relative error (2-norms) of a tensor. Rounding z, the weights and the result to bfloat16 costs about 4e-3
# each; sums that nearly cancel have larger errors.
_TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 2e-3}  # TF32 has float16's precision
_OF_ONE = 3.0  # factor for the largest error of one element; a lost element is far beyond it
_REPEATS = 3  # our kernels are deterministic, but a race does not show in every run


def usable() -> bool:
    """Whether there is a CUDA device and kernels for it, regardless of the self-test; see `problem_of`."""
    return torch.cuda.is_available() and why_not_on_cuda() is None


@contextmanager
def gemm(which: Gemm) -> Iterator[None]:
    """Selects the GEMM implementation of convolutions inside, for all threads; `faster` chooses by size.

    With `library`, i.e. cuDNN, our kernels apply prologues and epilogues in separate passes. Convolutions that cuDNN
    does not support use our GEMMs all the same. Float32 maps use cuDNN, unless `own-tf32` selects our GEMMs, which
    round their inputs to TF32.

    Raises:
        RuntimeError: unknown implementation, or TF32 although `torch.backends` does not allow it.
    """
    if which == "own-tf32" and _CONVOLUTIONS.fp32_precision != "tf32":
        raise RuntimeError(
            "TF32 is not allowed for float32 maps: set torch.backends.cudnn.conv.fp32_precision to 'tf32', "
            "or use gemm 'library'"
        )
    before = torch.ops.srgan_fast.conv_products(which)
    try:
        yield
    finally:
        torch.ops.srgan_fast.conv_products(before)


# Self-test results of this process, by device index and whether for float32 maps (or 16-bit maps and inference).
_found: dict[tuple[int, bool], str | None] = {}
_lock = threading.Lock()  # the GEMM selection is global to all threads


def problem_of(device: torch.device, rerun: bool = False, float32: bool = False) -> str | None:
    """Why a CUDA device cannot use the fused kernels, in a sentence; None if it can.

    Args:
        device: CUDA device; the current one if it has no index.
        rerun: ignore cached results.
        float32: ask about float32 maps, which have a self-test of their own.
    """
    if (problem := why_not_on_cuda()) is not None:
        return problem
    index = torch.cuda.current_device() if device.index is None else device.index
    return cast("str | None", _self_test_result(index, rerun, float32))


# May be called while torch.compile traces, which must not trace the self-test.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _self_test_result(index: int, rerun: bool, float32: bool) -> str | None:
    key = index, float32
    with _lock:
        if rerun or key not in _found:
            tolerances = (_TOLERANCE, _OF_ONE, infer_checks.TOLERANCE)
            asked = (
                float32,
                CHECKS,
                coverage.TRAINING,
                infer_checks.CASES,
                coverage.INFERENCE,
                tolerances,
                _own(index),
            )
            cache_key = self_test_cache.describe(index, repr(asked))
            if not rerun and cache_key is not None and self_test_cache.is_cached(cache_key):
                _found[key] = None
            elif torch.cuda.is_current_stream_capturing():
                name = torch.cuda.get_device_name(index)
                return f"{name} has not run its self-test, which is not possible during CUDA graph capture"
            else:
                try:
                    problem = _found[key] = _self_test(index, float32)
                except torch.OutOfMemoryError:
                    # Says nothing about the kernels, so it is not cached on disk. It is cached in the process: another
                    # try in every call would take seconds, and the kernels could change in the middle of a network.
                    name = torch.cuda.get_device_name(index)
                    _found[key] = f"{name} has not enough memory free for the self-test of the fused kernels"
                    return _found[key]
                if cache_key is not None:
                    (self_test_cache.store if problem is None else self_test_cache.remove)(cache_key)
            if _found[key] is None and not float32 and _own(index):  # once, so that it does not override gemm()
                torch.ops.srgan_fast.conv_products("own")
        return _found[key]


def _own(index: int) -> bool:
    """Whether our own GEMMs were measured as the faster ones on a device, which uses them at all sizes then."""
    return gpu_choice.choice_of(torch.device("cuda", index)).gemm == "own"


def _self_test(index: int, float32: bool) -> str | None:
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if capability < CAPABILITY:
        have, need = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"fused kernels need compute capability {need}, and {name} has {have}"
    try:
        device = torch.device("cuda", index)
        cases = self_test_cases(coverage.gpu_of(index), _own(index))
        selected = [case for case in cases if case.default and (case.dtype == torch.float32) == float32]
        errors = [error for case in selected for error in case.run(device)]
    except torch.OutOfMemoryError:
        raise  # out of memory says nothing about the kernels
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
class SelfTestCase:
    """One case of the self-test.

    Attributes:
        what: description.
        dtype: of the maps.
        run: computes it on a device and returns the errors.
        compute: runs the kernels only, as far as possible without the reference.
        default: whether these kernels are ever selected by default, so that the result depends on them.
        cudnn: whether cuDNN computes the convolution.
    """

    what: str
    dtype: torch.dtype
    run: Callable[[torch.device], list[CheckError]]
    compute: Callable[[torch.device], object]
    default: bool = True
    cudnn: bool = False


def self_test_cases(gpu: coverage.Gpu | None = None, own: bool = False) -> Iterator[SelfTestCase]:
    """All cases of the self-test, for training and inference.

    Args:
        gpu: also cover the tiles that real sizes select on it; None for the device-independent cases only.
        own: whether real sizes use our own GEMMs throughout.
    """
    added = [] if gpu is None else coverage.training_cases(gpu, CHECKS, own)
    for case in (*CHECKS, *added):
        for dtype, which in case.ways():
            if case in CHECKS or dtype in TYPES:  # float32 convolutions are cuDNN's at any size
                run = partial(check, case, dtype=dtype, which=which)
                alone = partial(compute, case, dtype=dtype, which=which)
                what = f"{case}, GEMM: {which}"
                yield SelfTestCase(what, dtype, run, alone, which != "own-tf32", which == "library")
    layers = [] if gpu is None else coverage.inference_cases(gpu, infer_checks.CASES)
    for layer in (*infer_checks.CASES, *layers):
        for dtype in TYPES:
            check_layer = partial(infer_checks.check, layer, dtype=dtype)
            yield SelfTestCase(str(layer), dtype, check_layer, partial(infer_checks.compute, layer, dtype=dtype))
    for dtype in TYPES:
        recorded = partial(infer_checks.check_recorded, dtype=dtype)
        yield SelfTestCase("recorded layers", dtype, recorded, recorded)
    for dtype in MAP_TYPES:
        pooling = partial(vector_checks.check_pooling, dtype=dtype)
        yield SelfTestCase("pooling", dtype, pooling, pooling)
        yield SelfTestCase("BatchNorm", dtype, vector_checks.check_batchnorm, vector_checks.check_batchnorm)


def check(
    case: CheckCase,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    which: Gemm = "faster",
    reference: torch.device | None = None,
) -> list[CheckError]:
    """Runs a case on a device, forward and backward, and compares it with float64 in plain PyTorch.

    Args:
        case: to run.
        device: to run it on.
        dtype: of the maps.
        which: GEMM implementation, on CUDA.
        reference: where float64 is computed; on the same device by default.

    Returns:
        Errors of all results and gradients, by 2-norm and by the largest element; and for our own GEMMs on CUDA,
        whether repeated runs give the same bits.
    """
    with torch.inference_mode(False):
        given = {name: value.double() for name, value in _draw(case, reference or device, dtype).items()}
    expected = {name: value.to(device) for name, value in _run(conv_reference, given, case).items()}
    repeats = _REPEATS if device.type == "cuda" and which.startswith("own") else 1
    got: list[dict[str, Tensor]] = []
    for _ in range(repeats):
        leave_garbage(expected.values(), dtype)
        got.append(compute(case, device, dtype, which))
    errors: list[CheckError] = []
    for name, value in expected.items():
        what = f"{name} of {case}, GEMM: {which}"
        errors += [
            CheckError(what, relative_error(got[0][name], value), _TOLERANCE[dtype]),
            CheckError(f"one element of {what}", largest_error(got[0][name], value), _OF_ONE * _TOLERANCE[dtype]),
            *(repeated(what, got[0][name], again[name]) for again in got[1:]),
        ]
    return errors


def compute(
    case: CheckCase, device: torch.device, dtype: torch.dtype = torch.bfloat16, which: Gemm = "faster"
) -> dict[str, Tensor]:
    """Results and all gradients that the fused kernels compute for a case, by name."""
    with torch.inference_mode(False), _tf32_allowed(), gemm(which) if device.type == "cuda" else nullcontext():
        return _run(conv, _draw(case, device, dtype), case)


@contextmanager
def _tf32_allowed() -> Iterator[None]:
    """Allows TF32, so that the self-test does not depend on the process' settings."""
    before, _CONVOLUTIONS.fp32_precision = _CONVOLUTIONS.fp32_precision, "tf32"
    try:
        yield
    finally:
        _CONVOLUTIONS.fp32_precision = before


def _draw(case: CheckCase, device: torch.device, dtype: torch.dtype) -> Inputs:
    return {name: value.to(device) for name, value in draw(case, case.size, dtype, values="quarters").items()}


def _run(function: Function, given: Inputs, case: CheckCase) -> dict[str, Tensor]:
    # Independent of the caller's context: gradients disabled, or autocast.
    kind = given["x"].device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False):
        inputs = {
            name: value.detach().requires_grad_(
                case.wants == "both" or (case.wants == "weight") == (name in ("weight", "bias"))
            )
            for name, value in given.items()
        }
        result = call(function, case, inputs)
        found = gradients(result, inputs, values="quarters")
        return results(result) | {f"gradient of {name}": value for name, value in found.items()}
