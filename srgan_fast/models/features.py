"""VGG features for the content loss: of one layer, after which the network is cut, or of several layers in one pass.

The network is from Simonyan & Zisserman 2014, its use from Ledig et al. 2017: `vggIJ` is the feature map of the J-th
convolution before the I-th pooling layer, after its ReLU. Wang et al. 2018 (ESRGAN) use the map before the ReLU, Wang
et al. 2021 (Real-ESRGAN) those of five layers with weights: `DEFAULT_LAYERS`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from srgan_fast.architectures.srgan import IMAGENET_NORMALISED
from srgan_fast.errors import ModelError
from srgan_fast.models.generator import Affine
from srgan_fast.network.graph import ColourMap
from srgan_fast.ops.modules import can_take_two, vgg_features, vgg_features_of_two
from srgan_fast.ops.switch import Switched

VggName = Literal["vgg19", "vgg16"]

# Number of convolutions in each of the five groups; a pooling layer ends a group.
_GROUPS: dict[VggName, tuple[int, ...]] = {"vgg19": (2, 2, 4, 4, 4), "vgg16": (2, 2, 3, 3, 3)}
_WIDTHS = (64, 128, 256, 512, 512)

# The last convolution of each group, with Real-ESRGAN's weights (Wang et al. 2021, section 4.1), which are for VGG19,
# with four convolutions in the last three groups.
DEFAULT_LAYERS: dict[VggName, dict[str, float]] = {
    vgg: {
        f"conv{group}_{convolutions}": weight
        for group, (convolutions, weight) in enumerate(zip(counts, (0.1, 0.1, 1.0, 1.0, 1.0), strict=True), start=1)
    }
    for vgg, counts in _GROUPS.items()
}

# Keras' VGG16 weights expect BGR in 0..255 minus these means.
_KERAS_MEANS_BGR = (103.939, 116.779, 123.68)


def feature_layers(vgg: VggName) -> list[str]:
    """Names of the layers in torchvision's `features` of a VGG, in order: `conv3_1`, `relu3_1`, ..., `pool3`."""
    layers: list[str] = []
    for group, convolutions in enumerate(_GROUPS[vgg], start=1):
        for k in range(1, convolutions + 1):
            layers += [f"conv{group}_{k}", f"relu{group}_{k}"]
        layers.append(f"pool{group}")
    return layers


def cut_index(vgg: VggName, cut: str, activated: bool = True) -> int:
    """Number of layers of torchvision's `features` up to a cut.

    Args:
        vgg: name of the network.
        cut: `vggIJ` or `convI_J`, or `features[:n]`, where n counts the layers of this network.
        activated: whether to include the ReLU after the named convolution; has no effect on `features[:n]`.

    Raises:
        ModelError: the network has no such layer; the message lists its layers.
    """
    layers = feature_layers(vgg)
    if match := re.fullmatch(r"features\[:(\d+)\]", cut):
        count = int(match[1])
        if not 1 <= count <= len(layers):
            raise ModelError(f"{cut}: {vgg} has features[:1] to features[:{len(layers)}]")
        return count
    match = re.fullmatch(r"vgg(\d)(\d)|conv(\d)_(\d)", cut)
    name = f"conv{match[1] or match[3]}_{match[2] or match[4]}" if match else ""
    if name not in layers:
        convolutions = [layer.replace("conv", "vgg").replace("_", "") for layer in layers if layer.startswith("conv")]
        raise ModelError(f"{cut!r} is not a layer of {vgg}; use features[:n], or one of {', '.join(convolutions)}")
    return layers.index(name) + (2 if activated else 1)


def layer_index(vgg: VggName, name: str) -> int:
    """Index of a layer in torchvision's `features`, by name: `conv3_3`, `relu3_3`, `pool3`.

    Unlike for a cut, `conv3_3` means the convolution itself, before its ReLU.

    Raises:
        ModelError: the network has no such layer; the message lists its layers.
    """
    layers = feature_layers(vgg)
    if name not in layers:
        raise ModelError(f"{name!r} is not a layer of {vgg}; it has {', '.join(layers)}")
    return layers.index(name)


class FeatureExtractor(Switched):
    """The first layers of a VGG trained on ImageNet.

    Args:
        cut: last layer; see `cut_index`. `vgg54` for the paper's loss, `features[:18]` for pytorch-gan's.
        layers: names of the layers whose features are returned, instead of a cut; see `layer_index`.
        activated: whether a cut that names a convolution includes its ReLU, as in the paper.
        weights: `"torchvision"` to download the weights; `"random"` for an untrained network, for tests and
            benchmarks; or path of a state dict with torchvision's key names, `.safetensors` or `.pth`.
        vgg: name of the network. VGG16 can replace VGG19 if its weights are not available; layer numbers differ.
        input_map: colour map from images in 0..1 to the range that the weights were trained on; torchvision's
            normalisation by default (for Keras' weights see `from_keras_vgg16`).
        trainable: whether the parameters get gradients and the mode follows `train()`; frozen by default.

    Attributes:
        layer: VGG name of the last layer, e.g. `relu3_3`.
        layers: names of the layers whose features are returned.

    Raises:
        ModelError: a layer is unknown or named twice, or the weights cannot be read or do not match.
    """

    def __init__(
        self,
        cut: str = "vgg54",
        *,
        layers: Sequence[str] = (),
        activated: bool = True,
        weights: Literal["torchvision", "random"] | Path = "torchvision",
        vgg: VggName = "vgg19",
        input_map: ColourMap = IMAGENET_NORMALISED,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        self._several = bool(layers)
        wanted = [layer_index(vgg, name) for name in layers] or [cut_index(vgg, cut, activated) - 1]
        if len(set(wanted)) < len(wanted):
            raise ModelError(f"layers are {', '.join(layers)}; name each once")
        count = max(wanted) + 1
        self.vgg, self.trainable = vgg, trainable
        self._wanted = tuple(wanted)
        self.layers = tuple(feature_layers(vgg)[index] for index in wanted)
        self.layer = feature_layers(vgg)[count - 1]
        self.input_map = Affine(input_map)
        self.features = nn.Sequential(*_build(vgg)[:count])
        if weights != "random":
            state = _torchvision_state(vgg) if weights == "torchvision" else _file_state(Path(weights))
            self._load(state, weights)
        self.requires_grad_(trainable)
        if not trainable:
            self.eval()

    @classmethod
    def from_keras_vgg16(
        cls, path: Path, cut: str = "conv5_3", *, layers: Sequence[str] = (), trainable: bool = False
    ) -> "FeatureExtractor":
        """Loads VGG16 with Keras' ImageNet weights, stored under torchvision's names.

        These weights expect BGR in 0..255 minus a mean. The first convolution is converted to RGB, and the range
        becomes part of `input_map`, so that all extractors take RGB in 0..1.

        Args:
            path: `.safetensors` file with `features.N.weight` and `features.N.bias`.
            cut: last layer, in VGG16's numbering: VGG19's `features[:18]` corresponds to `features[:16]`.
            layers: see the class; names of VGG16's layers.
            trainable: see the class.
        """
        b, g, r = _KERAS_MEANS_BGR
        extractor = cls(
            cut,
            layers=layers,
            weights=path,
            vgg="vgg16",
            input_map=ColourMap((255.0, 255.0, 255.0), (-r, -g, -b)),
            trainable=trainable,
        )
        first = cast(nn.Conv2d, extractor.features[0])
        with torch.no_grad():
            first.weight.copy_(first.weight.flip(1))
        return extractor

    def _load(self, state: dict[str, Tensor], source: object) -> None:
        ours = {name: tensor for name, tensor in self.state_dict().items() if name.startswith("features.")}
        for name, tensor in ours.items():
            if name not in state:
                raise ModelError(f"{source}: has no {name}, which {self.vgg} up to {self.layer} needs")
            if state[name].shape != tensor.shape:
                raise ModelError(
                    f"{source}: {name} has shape {tuple(state[name].shape)}, {self.vgg} needs {tuple(tensor.shape)}"
                )
        self.load_state_dict({name: state[name].float() for name in ours}, strict=False)

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Sets the mode; a frozen network stays in eval mode."""
        return super().train(mode and self.trainable)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Computes the features of N, 3, H, W images in 0..1.

        Returns:
            Features of the cut's layer, N, C, h, w; if `layers` were given, a list with one tensor for each, in order.

        Raises:
            ModelError: another shape, or images too small for the pooling layers.
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise ModelError(f"a feature extractor takes N, 3, H, W images, got a tensor of shape {tuple(image.shape)}")
        pools = sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)
        if min(image.shape[2:]) < 2**pools:
            raise ModelError(
                f"images of {image.shape[3]}x{image.shape[2]} are too small; {self.layer} needs {2**pools}"
            )
        x = self.input_map(image)
        maps = vgg_features(self.features, x, self._wanted) if self._fuses(image) else self._plain(x)
        return [maps[index] for index in self._wanted] if self._several else maps[self._wanted[0]]

    def of_two(self, still: Tensor, moving: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of two batches, in one pass where the fused kernels can, so that weights are read once.

        Args:
            still: N, 3, H, W in 0..1; its features have no gradient.
            moving: N, 3, H, W in 0..1.

        Returns:
            Features of both, each a list with one tensor per layer.

        Raises:
            ModelError: see `forward`.
        """
        together = self._fuses(moving) and can_take_two(self.features, still, moving)
        if not together or moving.dim() != 4 or moving.shape[1] != 3:
            with torch.no_grad():
                first = self(still)
            second = self(moving)
            return (first, second) if self._several else ([first], [second])
        with torch.no_grad():
            still = self.input_map(still)
        maps = vgg_features_of_two(self.features, still, self.input_map(moving), self._wanted)
        return [maps[0][i] for i in self._wanted], [maps[1][i] for i in self._wanted]

    def _plain(self, x: Tensor) -> dict[int, Tensor]:
        maps: dict[int, Tensor] = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._wanted:
                maps[index] = x
        return maps


def _build(vgg: VggName) -> list[nn.Module]:
    layers: list[nn.Module] = []
    in_channels = 3
    for convolutions, width in zip(_GROUPS[vgg], _WIDTHS, strict=True):
        for _ in range(convolutions):
            layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


def _torchvision_state(vgg: VggName) -> dict[str, Tensor]:
    try:
        from torchvision import models  # noqa: PLC0415 (needed only for these weights)
    except ImportError:
        raise ModelError("VGG weights come from torchvision: pip install 'srgan_fast[train]'") from None
    weights = models.VGG19_Weights.DEFAULT if vgg == "vgg19" else models.VGG16_Weights.DEFAULT
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # OSError: no network; RuntimeError: wrong checksum
        raise ModelError(
            f"{vgg} weights could not be downloaded ({error}); give a local file: weights=Path('vgg19.pth')"
        ) from None
    return state


def _file_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the two parsers raise many types
        raise ModelError(
            f"{path}: not readable VGG weights; it is damaged, or contains more than the tensors of a state dict"
        ) from None
    if not isinstance(state, dict):
        raise ModelError(f"{path}: contains a {type(state).__name__}, not a state dict")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
