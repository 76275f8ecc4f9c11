"""Small cases of pooling and BatchNorm vectors, compared with plain PyTorch; part of the GPU self-test."""

from collections.abc import Iterator

import torch
from torch import Tensor

from srgan_fast.ops.accuracy import CheckError, leave_garbage, relative_error
from srgan_fast.ops.bn import bn_follow, bn_follow_reference, bn_scale, bn_scale_reference
from srgan_fast.ops.conv import Running, conv_with_bn
from srgan_fast.ops.pool import max_pool, max_pool_reference
from srgan_fast.ops.prologue import Pending, fused_prologue, prologue_is_fused

_MAPS = ((2, 64, 12, 18), (1, 8, 2, 2), (3, 136, 10, 6), (1, 512, 6, 6))
_CHANNELS = (1, 64, 72, 512)
_TOLERANCE = 1e-5  # for float32 vectors; pooling is exact


def check_pooling(device: torch.device, dtype: torch.dtype) -> list[CheckError]:
    """Max pooling of a dtype, with equal values among the inputs, and its gradient: both are exact."""
    noise = torch.Generator().manual_seed(0)
    errors: list[CheckError] = []
    with torch.inference_mode(False), torch.enable_grad():
        for n, c, h, w in _MAPS:
            x = (torch.randint(-6, 7, (n, c, h, w), generator=noise) / 4).to(device, dtype)
            x = x.contiguous(memory_format=torch.channels_last)
            g = (torch.randint(-6, 7, (n, c, h // 2, w // 2), generator=noise) / 4).to(device, dtype)
            expected = _pooled(max_pool_reference, x.double(), g.double())
            leave_garbage(expected, dtype)
            for name, got, right in zip(("y", "gradient of x"), _pooled(max_pool, x, g), expected, strict=True):
                errors.append(CheckError(f"{name} of pooling {tuple(x.shape)}", relative_error(got, right), _TOLERANCE))
    return errors


def _pooled(pool: object, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    y = max_pool(leaf) if pool is max_pool else max_pool_reference(leaf)
    y.backward(g)  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return y.detach(), leaf.grad


def check_batchnorm(device: torch.device) -> list[CheckError]:
    """BatchNorm scales with their gradients, and running statistics after two batches."""
    noise = torch.Generator().manual_seed(0)
    errors: list[CheckError] = []

    def drawn(c: int) -> Tensor:
        return (torch.rand(c, generator=noise) + 0.1).to(device)

    def check(what: str, got: Tensor, right: Tensor) -> None:
        errors.append(CheckError(f"{what} of {got.numel()} channels", relative_error(got, right), _TOLERANCE))

    with torch.inference_mode(False), torch.enable_grad():
        for c in _CHANNELS:
            var, weight, g = drawn(c), drawn(c), drawn(c)
            for eps, weights in ((1e-5, weight), (0.8, None)):
                ours, theirs = ([t.requires_grad_() for t in _copies((var, weights), kind)] for kind in _KINDS)
                for scale, inputs in ((bn_scale, ours), (bn_scale_reference, theirs)):
                    y = scale(inputs[0], inputs[1] if len(inputs) > 1 else None, eps)
                    y.backward(g.to(y.dtype))  # type: ignore[no-untyped-call]
                    inputs.append(y.detach())
                check("BatchNorm's scale", ours.pop(), theirs.pop())
                for own, right in zip(ours, theirs, strict=True):
                    assert own.grad is not None
                    assert right.grad is not None
                    check("gradient of BatchNorm's scale", own.grad, right.grad)
            for momentum in (0.1, None):
                given = (drawn(c), drawn(c), drawn(c), drawn(c))
                ours, theirs = (_copies(given, kind) for kind in _KINDS)
                batches = [torch.zeros((), dtype=torch.int64, device=device) for _ in _KINDS]
                for _ in range(2):
                    bn_follow(*_four(ours), batches[0], momentum, 30)
                    bn_follow_reference(*_four(theirs), batches[1], momentum, 30)
                for name, own, right in zip(("mean", "variance"), ours[2:], theirs[2:], strict=True):
                    check(f"running {name}", own, right)
                check("number of batches", batches[0], batches[1])
        for name, own, right in (*_with_moments(device, noise), *_with_sums(device, noise)):
            check(name, own, right)
    return errors


def _with_moments(device: torch.device, noise: torch.Generator) -> Iterator[tuple[str, Tensor, Tensor]]:
    """BatchNorm's vectors from the kernel that merges moments, and from those of their own."""
    channels = 64
    x, weight = (torch.rand(2, channels, 9, 7, generator=noise), torch.rand(channels, channels, 3, 3, generator=noise))
    x = x.to(device).contiguous(memory_format=torch.channels_last)
    gamma, mean, var = (torch.rand(channels, generator=noise).to(device) for _ in range(3))
    running = Running(mean, var, torch.zeros((), dtype=torch.int64, device=device), 0.1)
    expected = [t.clone() for t in running[:3]]
    with torch.no_grad():
        source, weight = Pending(x), weight.to(device)
        result, scale = conv_with_bn(source, weight, None, stride=1, gamma=gamma, eps=1e-5, running=running)
    bn_follow(result.mean, result.var, expected[0], expected[1], expected[2], 0.1, x[:, 0].numel())
    yield "scale with the moments", scale, bn_scale(result.var, gamma, 1e-5)
    names = ("running mean", "running variance", "number of batches")
    for name, own, right in zip(names, running[:3], expected, strict=True):
        yield f"{name} with the moments", own, right


def _with_sums(device: torch.device, noise: torch.Generator) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Gradients of a BatchNorm and of one slope from the kernel that merges sums, and from those of their own."""
    channels = 72
    x = (torch.rand(2, channels, 9, 7, generator=noise) - 0.5).to(device).contiguous(memory_format=torch.channels_last)
    center, shift, var, gamma = ((torch.rand(channels, generator=noise) - 0.5).to(device) for _ in range(4))
    var, slope = var.abs(), torch.full((1,), 0.25, device=device)
    if not prologue_is_fused(Pending(x, center, var, shift, slope)):
        return  # on a CPU
    found: list[list[Tensor]] = []
    for together in (True, False):
        own_var, own_gamma, own_slope = (t.clone().requires_grad_() for t in (var, gamma, slope))
        scale = bn_scale(own_var, own_gamma, 1e-3)
        slopes = own_slope if together else own_slope.expand(channels)
        source = Pending(x, center, scale, shift, slopes)
        if together:
            source = source._replace(scale=scale.detach(), var=own_var, gamma=own_gamma, eps=1e-3)
        z = fused_prologue(source)
        z.sum().backward()  # type: ignore[no-untyped-call]
        found.append([t.grad for t in (own_var, own_gamma, own_slope) if t.grad is not None])
    for name, own, right in zip(("variance", "weight", "one slope"), *found, strict=True):
        yield f"gradient of {name} with the sums", own, right


_KINDS = (torch.float32, torch.float64)


def _copies(values: tuple[Tensor | None, ...], dtype: torch.dtype) -> list[Tensor]:
    return [value.to(dtype, copy=True) for value in values if value is not None]


def _four(values: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, var, running_mean, running_var = values
    return mean, var, running_mean, running_var
