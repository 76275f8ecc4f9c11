"""The losses of SRGAN and its relatives, each with its formula and source.

All take batches and return a scalar, the mean over the batch, so that the loss of a large batch is the mean of the
losses of its equal parts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.models.presets import Adversarial, Distance
from srgan_fast.training.distributed import mean_over_processes


def distance(kind: Distance, a: Tensor, b: Tensor) -> Tensor:
    """`mean |a - b|` (l1) or `mean (a - b)^2` (mse), in float32 or better."""
    a, b = _wide(a), _wide(b)
    return F.l1_loss(a, b) if kind == "l1" else F.mse_loss(a, b)


def content_loss(kind: Distance, sr_features: Tensor, hr_features: Tensor, scale: float = 1.0) -> Tensor:
    """Distance of VGG features, `d(scale * phi(SR), scale * phi(HR))`.

    Ledig et al. 2017, equation 5, with mse. Their section 3.2 scales the features by 1 / 12.75, so that the loss has
    the magnitude of a pixel loss.
    """
    factor = abs(scale) if kind == "l1" else scale**2
    loss = distance(kind, sr_features, hr_features)
    return loss if factor == 1 else loss * factor


def layered_content_loss(
    kind: Distance,
    sr_features: Sequence[Tensor],
    hr_features: Sequence[Tensor],
    weights: Sequence[float],
    scale: float = 1.0,
) -> Tensor:
    """`sum_k weights[k] * content_loss(SR's layer k, HR's layer k)`; layers of weight 0 are left out.

    Johnson et al. 2016, equation 2, over several layers as in Wang et al. 2021 (Real-ESRGAN).
    """
    layers = zip(sr_features, hr_features, weights, strict=True)
    terms = [(content_loss(kind, sr, hr, scale), weight) for sr, hr, weight in layers if weight]
    return sum(
        (loss if weight == 1 else loss * weight for loss, weight in terms[1:]),
        start=terms[0][0] if terms[0][1] == 1 else terms[0][0] * terms[0][1],
    )


def total_variation(image: Tensor) -> Tensor:
    """`mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|`, the anisotropic form (Rudin, Osher, Fatemi 1992)."""
    image = _wide(image)
    rows, columns = image.diff(dim=2).abs(), image.diff(dim=3).abs()
    return (rows.mean() if rows.numel() else image.sum() * 0) + (columns.mean() if columns.numel() else image.sum() * 0)


def checkerboard(image: Tensor, target: Tensor, period: int) -> Tensor:
    """Mean square of the pattern that repeats every `period` pixels in the difference of two batches.

    For each image and channel, the pattern is the mean of all pixels at the same place of the period, without their
    mean. A generator upscales every place of its input alike, so where a content loss rewards texture that it cannot
    predict, it draws dots with the period of its scale; they add up here, while detail that differs from place to place
    averages out.

    Args:
        image: N, C, H, W.
        target: likewise.
        period: scale of the generator; divides H and W.
    """
    difference = _wide(image) - _wide(target)
    cells = F.pixel_unshuffle(difference, period).mean((2, 3)).view(*image.shape[:2], period**2)
    return (cells - cells.mean(2, keepdim=True)).square().mean()


def needs_real_logits(kind: Adversarial) -> bool:
    """Whether the generator's loss depends on D's logits of real images too."""
    return kind == "ragan"


def generator_loss(kind: Adversarial, fake: Tensor, real: Tensor | None = None) -> Tensor:
    """Adversarial loss of the generator.

    * `bce`: `-log sigmoid(D(fake))` (Ledig et al. 2017, equation 6).
    * `lsgan`: `(D(fake) - 1)^2` (Mao et al. 2017, "Least squares generative adversarial networks", equation 9).
    * `ragan`: the relativistic average loss (Jolicoeur-Martineau 2018; Wang et al. 2018, ESRGAN, equation 2),
      `(bce(D(real) - mean D(fake), 0) + bce(D(fake) - mean D(real), 1)) / 2`.

    Args:
        kind: kind of loss.
        fake: logits of generated images.
        real: logits of real images, detached; only for `ragan`.
    """
    fake = _wide(fake)
    if kind == "lsgan":
        return F.mse_loss(fake, torch.ones_like(fake))
    if kind == "bce":
        return _bce(fake, 1.0)
    if real is None:
        raise ValueError("the relativistic loss needs the logits of real images")
    real = _wide(real)
    return (_bce(real - mean_over_processes(fake), 0.0) + _bce(fake - mean_over_processes(real), 1.0)) / 2


def discriminator_losses(kind: Adversarial, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the discriminator on real and on generated images; see `generator_loss`.

    The caller adds them, or takes their mean.
    """
    real, fake = _wide(real), _wide(fake)
    if kind == "lsgan":
        return F.mse_loss(real, torch.ones_like(real)), F.mse_loss(fake, torch.zeros_like(fake))
    if kind == "bce":
        return _bce(real, 1.0), _bce(fake, 0.0)
    return _bce(real - mean_over_processes(fake), 1.0), _bce(fake - mean_over_processes(real), 0.0)


def _bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _wide(x: Tensor) -> Tensor:
    """Converts half precision to float32, because losses are never computed in half precision."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
