"""A network as a PyTorch module for inference; its first and last steps are shared with training."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.network.analysis import last_readers, scale_of
from srgan_fast.network.graph import ColourMap, Conv, Network


class _Colours(nn.Module):
    """A colour map on N, C, H, W."""

    gain: Tensor
    offset: Tensor

    def __init__(self, values: ColourMap) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor(values.gain).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(values.offset).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


class _ConvActivation(nn.Module):
    """A convolution with its activation; residuals and the shuffle are applied by `NetworkModule`."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, conv.size, padding=conv.size // 2)
        self.conv.weight = nn.Parameter(torch.from_numpy(conv.weight.copy()), requires_grad=False)
        self.conv.bias = nn.Parameter(torch.from_numpy(conv.bias.copy()), requires_grad=False)
        self.act: nn.Module
        if conv.slope is None:
            self.act = nn.Identity()
        elif not conv.slope.any():
            self.act = nn.ReLU()
        elif conv.slope.size == 1:
            self.act = nn.LeakyReLU(float(conv.slope[0]))
        else:
            self.act = nn.PReLU(conv.out_channels)
            self.act.weight = nn.Parameter(torch.from_numpy(conv.slope.copy()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.conv(x)))


class NetworkEnds(nn.Module):
    """What a network does before and after its convolutions; it has no parameters and no saved state.

    Args:
        network: the network; no reference to it is kept.

    Attributes:
        scale: upscaling factor.
        unshuffle: see `Network`, as for the other attributes.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.scale = scale_of(network)
        self.unshuffle, self.skip, self.tanh = network.unshuffle, network.skip, network.tanh
        self.input_map = None if network.input_map.is_identity else _Colours(network.input_map)
        self.output_map = None if network.output_map.is_identity else _Colours(network.output_map)

    def enter(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """The mapped image, N, C, H, W, and the same after pixel-unshuffle, which the convolutions read."""
        image = lr if self.input_map is None else self.input_map(lr)
        return image, image if self.unshuffle == 1 else F.pixel_unshuffle(image, self.unshuffle)

    def leave(self, y: Tensor, image: Tensor) -> Tensor:
        """The output, N, C, scale * H, scale * W, from the last convolution's result and the mapped image."""
        if self.skip != "none":
            y = y + self._enlarged(image)
        if self.tanh:
            y = torch.tanh(y)
        return y if self.output_map is None else cast(Tensor, self.output_map(y))

    def _enlarged(self, image: Tensor) -> Tensor:
        if self.scale == 1:
            return image
        if self.skip == "nearest":
            return F.interpolate(image, scale_factor=self.scale, mode="nearest")
        return F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)


class NetworkModule(nn.Module):
    """Executes a network's list of convolutions.

    Args:
        network: to execute; its arrays are copied.

    Attributes:
        network: as given.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._last = last_readers(network)
        self.layers = nn.ModuleList(_ConvActivation(conv) for conv in network.convs)
        self.ends = NetworkEnds(network)
        self.eval()

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales a batch.

        Args:
            lr: N, C, H, W in 0..1; H and W are multiples of the network's pixel-unshuffle.

        Returns:
            N, C, scale * H, scale * W, not clamped.
        """
        network = self.network
        image, first = self.ends.enter(lr)
        values: dict[int, Tensor] = {0: first}
        for index, (conv, layer) in enumerate(zip(network.convs, self.layers, strict=True)):
            given = [values[value] for value in conv.inputs]
            y = layer(given[0] if len(given) == 1 else torch.cat(given, 1))
            for residual in conv.residuals:
                y = torch.add(y, values[residual.value], alpha=residual.scale)
            values[index + 1] = F.pixel_shuffle(y, conv.shuffle) if conv.shuffle > 1 else y
            for value in {*conv.inputs, *(residual.value for residual in conv.residuals)}:
                if self._last[value] == index:
                    del values[value]
        return self.ends.leave(values[len(network.convs)], image)


__all__ = ["NetworkEnds", "NetworkModule"]
