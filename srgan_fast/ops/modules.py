"""The building blocks of all networks, each in plain torch and with fused kernels; one switch, the same parameters.

`forward` takes and gives tensors, either way; under autocast the fused form gives them in autocast's type throughout.
`pending` is the fused form for a network that chains blocks: BatchNorm, activation and residual wait for the next
convolution (see `ops.pending`).
"""

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.ops.conv import tail_weight
from srgan_fast.ops.native import on_cuda
from srgan_fast.ops.pending import batch_statistics, conv_bn, convolve, convolve_two, normalise
from srgan_fast.ops.pool import max_pool, max_pool_of_two, pools
from srgan_fast.ops.prologue import UNIT, Pending, phase_major
from srgan_fast.ops.spectral import conv3x3
from srgan_fast.ops.switch import Switched, autocast_map

LEAKY_SLOPE = 0.2


def start(x: Tensor) -> Pending:
    """A tensor as the beginning of a fused chain."""
    return Pending(autocast_map(x))


class Block(Switched):
    """A block in two forms that compute the same: plain torch, and fused."""

    def forward(self, x: Tensor) -> Tensor:
        """N, C_in, H, W to N, C_out, H', W', as the block says."""
        return self.pending(start(x)).finish() if self._fuses(x) else self.plain(x)

    def plain(self, x: Tensor) -> Tensor:
        """The block in plain torch."""
        raise NotImplementedError

    def pending(self, source: Pending) -> Pending:
        """The block with fused kernels; what follows its last convolution is deferred."""
        raise NotImplementedError


def _slope(act: nn.Module, like: Tensor, kept: Tensor | None = None) -> Tensor:
    """The slope of a PReLU, LeakyReLU or ReLU as a vector of a map's arithmetic.

    Args:
        act: the activation.
        like: the map.
        kept: the slope, as its module keeps it; a new tensor would be a launch in every step.
    """
    wide = like.dtype if like.dtype == torch.float64 else torch.float32
    if isinstance(act, nn.PReLU):
        return act.weight.to(wide)
    if kept is not None and wide == kept.dtype == torch.float32 and kept.device == like.device:
        return kept  # in another type it may have been rounded
    value = act.negative_slope if isinstance(act, nn.LeakyReLU) else 0.0
    return torch.full((1,), value, dtype=wide, device=like.device)


class ConvAct(Block):
    """9x9 convolution and PReLU, the head of the generator."""

    def __init__(self, in_channels: int, out_channels: int, slopes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 9, padding=4)
        self.act = nn.PReLU(slopes)

    def plain(self, x: Tensor) -> Tensor:
        """N, 3, H, W to N, C, H, W."""
        return cast(Tensor, self.act(self.conv(x)))

    def pending(self, source: Pending) -> Pending:
        """On a CPU the convolution is torch's in this form, too."""
        if on_cuda(source.raw):
            raw = convolve(source, self.conv.weight, self.conv.bias).y
        else:
            raw = self.conv(source.finish().contiguous(memory_format=torch.channels_last))
        return Pending(raw, slope=_slope(self.act, raw))


class ConvBN(Block):
    """3x3 convolution and BatchNorm, what closes the generator's trunk."""

    def __init__(self, channels: int, bias: bool, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn = nn.BatchNorm2d(channels, eps=eps)

    def plain(self, x: Tensor) -> Tensor:
        """N, C, H, W to the same shape."""
        return cast(Tensor, self.bn(self.conv(x)))

    def pending(self, source: Pending) -> Pending:
        """The fused form."""
        return conv_bn(source, self.conv, self.bn)[0]


class ConvBNPReLU(Block):
    """3x3 convolution, BatchNorm, PReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = False, eps: float = 1e-5, slopes: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels, eps=eps)
        self.act = nn.PReLU(slopes)

    def plain(self, x: Tensor) -> Tensor:
        """N, C_in, H, W to N, C_out, H, W."""
        return cast(Tensor, self.act(self.bn(self.conv(x))))

    def pending(self, source: Pending) -> Pending:
        """The fused form."""
        return conv_bn(source, self.conv, self.bn, _slope(self.act, source.raw))[0]


class ResidualBlock(Block):
    """`x + bn2(conv2(prelu(bn1(conv1(x)))))`."""

    def __init__(self, channels: int, bias: bool, eps: float, slopes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(channels, eps=eps)
        self.act = nn.PReLU(slopes)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(channels, eps=eps)

    def plain(self, x: Tensor) -> Tensor:
        """N, C, H, W to the same shape."""
        return cast(Tensor, x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))

    def pending(self, source: Pending) -> Pending:
        """The fused form: the first convolution ends the block before, and writes the sum that this one adds to."""
        if source.residual is None and not source.done:
            source = Pending(source.finish())
        middle, first = conv_bn(source, self.conv1, self.bn1, _slope(self.act, source.raw))
        skip = source.raw if source.done else first.sum
        return conv_bn(middle, self.conv2, self.bn2)[0]._replace(residual=skip)


class UpsampleBlock(Block):
    """`prelu(pixel_shuffle(bn(conv(x))))`, the BatchNorm being optional."""

    def __init__(self, channels: int, with_bn: bool, eps: float, slopes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(4 * channels, eps=eps) if with_bn else None
        self.shuffle = nn.PixelShuffle(2)
        self.act = nn.PReLU(slopes)

    def plain(self, x: Tensor) -> Tensor:
        """N, C, H, W to N, C, 2H, 2W."""
        y = self.conv(x)
        if self.bn is not None:
            y = self.bn(y)
        return cast(Tensor, self.act(self.shuffle(y)))

    def pending(self, source: Pending) -> Pending:
        """The fused form; the shuffle waits, too. PReLU and shuffle change places, which changes nothing."""
        bias = None if self.conv.bias is None else phase_major(self.conv.bias)
        moments = self.bn is not None and batch_statistics(self.bn)
        result = convolve(source, phase_major(self.conv.weight), bias, moments=moments)
        pending = Pending(result.y) if self.bn is None else normalise(result, self.bn, permuted=True)
        slope = _slope(self.act, source.raw)
        return pending._replace(slope=slope.repeat(4) if slope.numel() > 1 else slope, shuffled=True)


class ConvBNLeakyReLU(Block):
    """3x3 convolution of stride 1 or 2, spectrally normalised or not, BatchNorm if wanted, LeakyReLU 0.2."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        with_bn: bool,
        *,
        spectral: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, out_channels, stride, bias, spectral)
        self.bn = nn.BatchNorm2d(out_channels) if with_bn else None
        self.act = nn.LeakyReLU(LEAKY_SLOPE)
        self.slope: Tensor
        self.register_buffer("slope", torch.full((1,), LEAKY_SLOPE, dtype=torch.float32), persistent=False)

    def plain(self, x: Tensor) -> Tensor:
        """N, C_in, H, W to N, C_out, ceil(H / stride), ceil(W / stride)."""
        y = self.conv(x)
        if self.bn is not None:
            y = self.bn(y)
        return cast(Tensor, self.act(y))

    def pending(self, source: Pending) -> Pending:
        """The fused form; without a BatchNorm nothing has to wait."""
        if self.bn is not None:
            return conv_bn(source, self.conv, self.bn, _slope(self.act, source.raw, self.slope))[0]
        conv = self.conv
        stride, slope = conv.stride[0], self.act.negative_slope
        return Pending(convolve(source, conv.weight, conv.bias, stride=stride, activation=slope).y)


class ConvReLU(Block):
    """3x3 convolution and ReLU, as in a VGG; its weights may be frozen."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.act = nn.ReLU()

    def plain(self, x: Tensor) -> Tensor:
        """N, C_in, H, W to N, C_out, H, W."""
        return cast(Tensor, self.act(self.conv(x)))

    def pending(self, source: Pending) -> Pending:
        """The fused form."""
        return Pending(convolve(source, self.conv.weight, self.conv.bias, activation=0.0).y)


def vgg_features(layers: nn.Sequential, x: Tensor, wanted: Collection[int]) -> dict[int, Tensor]:
    """A VGG's convolutions, ReLUs and pooling layers with fused kernels, in one pass.

    A convolution whose raw result is wanted leaves its ReLU to the next convolution, which applies it while it reads;
    pooling in between takes the largest raw value, whose ReLU is the largest of the ReLUs. So a wanted map costs no
    memory of its own.

    Args:
        layers: 3x3 convolutions, ReLUs, poolings.
        x: N, 3, H, W.
        wanted: indices of layers.

    Returns:
        The maps after those layers, N, C, h, w, by index.
    """
    source, steps, maps = start(x), list(layers), dict[int, Tensor]()
    for i, layer in enumerate(steps):
        if isinstance(layer, nn.Conv2d):
            fuses = i not in wanted and i + 1 < len(steps) and isinstance(steps[i + 1], nn.ReLU)
            source = Pending(convolve(source, layer.weight, layer.bias, activation=0.0 if fuses else None).y)
        elif isinstance(layer, nn.ReLU):
            if i - 1 in wanted:  # else the convolution applied it
                source = source._replace(slope=_slope(layer, source.raw))
        else:
            pooled = max_pool(source.raw) if pools(layer, source.raw) else layer(source.raw)
            source = source._replace(raw=pooled)
        if i in wanted:
            source = Pending(source.finish())
            maps[i] = source.raw
    return maps


def vgg_features_of_two(
    layers: nn.Sequential, still: Tensor, moving: Tensor, wanted: Collection[int]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """`vgg_features` of two batches in one, which reads each layer's weights once.

    Args:
        layers: see `vgg_features`.
        still: N, 3, H, W, without gradient.
        moving: the same shape, with gradient.
        wanted: see `vgg_features`.

    Returns:
        The maps of both batches; those of the first have no gradient.
    """
    steps, n = list(layers), len(still)
    own = start(moving)
    with torch.no_grad():
        both = Pending(torch.cat([autocast_map(still), own.raw]).contiguous(memory_format=torch.channels_last))
    maps: tuple[dict[int, Tensor], dict[int, Tensor]] = {}, {}
    for i, layer in enumerate(steps):
        if isinstance(layer, nn.Conv2d):
            fuses = i not in wanted and i + 1 < len(steps) and isinstance(steps[i + 1], nn.ReLU)
            y, of_both = convolve_two(own, both.raw, layer.weight, layer.bias, 0.0 if fuses else None)
            own, both = Pending(y), Pending(of_both)
        elif isinstance(layer, nn.ReLU):
            if i - 1 in wanted:  # else the convolution applied it
                slope = _slope(layer, own.raw)
                own, both = own._replace(slope=slope), both._replace(slope=slope)
        else:
            y, of_both = max_pool_of_two(own.raw, both.raw)
            own, both = own._replace(raw=y), both._replace(raw=of_both)
        if i in wanted:
            with torch.no_grad():
                both = Pending(both.finish())
            own = Pending(own.finish())
            maps[0][i], maps[1][i] = both.raw[:n], own.raw
    return maps


def can_take_two(layers: nn.Sequential, still: Tensor, moving: Tensor) -> bool:
    """Whether `vgg_features_of_two` can compute two batches, as far as their shapes and types tell."""
    pooling = [layer for layer in layers if not isinstance(layer, nn.Conv2d | nn.ReLU)]
    factor = 2 ** len(pooling)
    whole = all(side % factor == 0 for side in moving.shape[2:])
    in_floats = on_cuda(moving) and autocast_map(moving[:0]).dtype == torch.float32
    return (
        not torch.compiler.is_compiling()
        and still.shape == moving.shape
        and still.dtype == moving.dtype
        and not in_floats  # PyTorch computes the first convolution then
        and whole
        and all(pools(layer, autocast_map(moving[:1, :1].expand(-1, UNIT, -1, -1))) for layer in pooling)
    )


def tail(source: Pending, conv: nn.Conv2d) -> Tensor:
    """The generator's last 9x9 convolution.

    Args:
        source: behind a pending shuffle it is computed as a 5x5 convolution before it; else in plain torch.
        conv: C to O channels, padding 4.

    Returns:
        N, O, H, W.
    """
    if not source.shuffled:
        return cast(Tensor, conv(source.finish()))
    weight, bias = tail_weight(conv.weight), None if conv.bias is None else conv.bias.repeat_interleave(4)
    colours = weight.shape[0]
    if on_cuda(weight):  # whose kernels want channels in eights
        more = -colours % UNIT
        weight, bias = F.pad(weight, (0,) * 7 + (more,)), None if bias is None else F.pad(bias, (0, more))
    y = convolve(source._replace(shuffled=False), weight, bias).y
    return F.pixel_shuffle(y[:, :colours], 2)
