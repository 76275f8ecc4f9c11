"""Convolutions whose weight is divided by its largest singular value (Miyato et al. 2018, "Spectral normalization").

A discriminator of such layers cannot become arbitrarily steep, and needs no BatchNorm for that. The singular value is
estimated by power iteration, whose two vectors are carried from step to step as buffers. PyTorch's own module iterates
in every forward pass in training mode; here a training step does it once (`power_iteration`), so that real and
generated images meet the same discriminator and a pass that is computed again gives the same bits.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-12
# From random vectors, before the first step; torch's parametrisation does as many.
_FIRST_ITERATIONS = 15


class SpectralConv2d(nn.Module):
    """`nn.Conv2d` with a spectrally normalised weight; zero padding.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: side of the kernel.
        stride: in both directions.
        padding: on all sides.
        bias: whether there is one.

    Attributes:
        weight_orig: what is trained, C_out, C_in, side, side.
        weight_u: estimate of the left singular vector of `weight_orig` as a C_out by C_in * side^2 matrix.
        weight_v: of the right one.
        bias: C_out; None for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        plain = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = plain.kernel_size, plain.stride, (padding, padding)
        self.weight_orig = plain.weight
        self.bias: nn.Parameter | None
        self.register_parameter("bias", cast(nn.Parameter | None, plain.bias))
        matrix = self.weight_orig.detach().flatten(1)
        self.weight_u: Tensor
        self.weight_v: Tensor
        self.register_buffer("weight_u", F.normalize(matrix.new_empty(matrix.shape[0]).normal_(), dim=0, eps=_EPS))
        self.register_buffer("weight_v", F.normalize(matrix.new_empty(matrix.shape[1]).normal_(), dim=0, eps=_EPS))
        for _ in range(_FIRST_ITERATIONS):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One power iteration (Miyato et al. 2018, algorithm 1): `v = W^T u / |W^T u|`, `u = W v / |W v|`."""
        matrix = self.weight_orig.flatten(1)
        with _full_precision(matrix):
            self.weight_v.copy_(F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=_EPS))
            self.weight_u.copy_(F.normalize(torch.mv(matrix, self.weight_v), dim=0, eps=_EPS))

    @property
    def weight(self) -> Tensor:
        """`weight_orig / (u^T weight_orig v)`, in its own precision; gradients regard the vectors as constants."""
        with _full_precision(self.weight_orig):
            sigma = torch.dot(self.weight_u, torch.mv(self.weight_orig.flatten(1), self.weight_v))
            return self.weight_orig / sigma

    def forward(self, x: Tensor) -> Tensor:
        """N, C_in, H, W to N, C_out, H', W' as `nn.Conv2d` sizes them."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Sizes, as printed for a network."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}"
        )


def _full_precision(weight: Tensor) -> AbstractContextManager[object]:
    """Autocast would multiply in half precision."""
    kind = weight.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def power_iteration(module: nn.Module) -> None:
    """One power iteration of every spectral norm inside a module in training; at the start of a training step."""
    if not module.training:
        return
    for part in module.modules():
        if isinstance(part, SpectralConv2d):
            part.iterate()


def conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, bias: bool = True, spectral: bool = False
) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size but for its stride, spectrally normalised or not."""
    if spectral:
        # It has what an nn.Conv2d is asked for: weight, bias, stride.
        return cast(nn.Conv2d, SpectralConv2d(in_channels, out_channels, 3, stride, 1, bias))
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)
