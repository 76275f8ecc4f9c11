"""int8 as QuantizeLinear and DequantizeLinear around convolutions, calibrated by ONNX Runtime.

Activations and weights are symmetric, weights scaled per output channel, biases left as they are: TensorRT takes no
other graph. The layers of `kept_convs` stay in the graph's own type, since what they read or write is the image's own
path and no residual beside it; head and tail are its ends. They are a fifth of the multiplications of `srresnet-x4`.
The upsamplers are on that path, too, but the second one is a quarter of the multiplications alone: they are kept where
a graph without them is not good enough. (In `srresnet-x4`, which began as an upscaler, head, upsamplers and tail leave
30, 42, 37 and 51 dB of the fp32 image when quantised one at a time, a block's convolutions 54 to 77 dB.)
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from srgan_fast.errors import ModelError
from srgan_fast.network.analysis import readers
from srgan_fast.network.graph import Network, value_of


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Hands images over as the graph's input, one after the other."""

    def __init__(self, images: Sequence[NDArray[Any]]) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next input, or None at the end."""
        image = next(self._left, None)
        return None if image is None else {"lr": image}


def quantize(proto: Any, images: Sequence[NDArray[Any]], kept: Sequence[str]) -> Any:
    """A graph with int8 convolutions in place of all but some.

    Args:
        proto: as `build_onnx` gives it, in fp32 or fp16; what is not quantised stays so.
        images: inputs that the ranges of activations are taken from: the mean over images of the least and the
            largest value. (Against their extremes, that is 1.6 dB more on Set5, calibrated on the four samples.)
        kept: names of the convolutions that are not quantised.

    Raises:
        ModelError: none would be.
    """
    if len(kept) == sum(node.op_type == "Conv" for node in proto.graph.node):
        raise ModelError("int8 leaves out all convolutions of so small a network; take fp16")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(proto, before)
        quantize_static(
            before,
            after,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=list(kept),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "CalibMovingAverage": True,
            },
        )
        made = onnx.load(after)
    _keep_small_rows(proto, made)
    return made


def _keep_small_rows(plain: Any, quantized: Any) -> None:
    """Gives filters that are too small for a scale in the graph's own type the smallest scale that it holds.

    ONNX Runtime gives them a scale of 1, with which all their values become 0: in fp16 all filters below 0.0078.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    made = {tensor.name: tensor for tensor in quantized.graph.initializer}
    for name, weight in weights.items():
        integers, scales = made.get(f"{name}_quantized"), made.get(f"{name}_scale")
        if integers is None or scales is None or weight.ndim != 4:
            continue
        values, scale = numpy_helper.to_array(integers).copy(), numpy_helper.to_array(scales).copy()
        largest = np.abs(weight.astype(np.float64)).max(axis=(1, 2, 3))
        tiny = float(np.finfo(scale.dtype).tiny)
        small = (largest / 127 < tiny) & (largest > 0)
        values[small] = np.rint(weight[small].astype(np.float64) / tiny)
        scale[small] = tiny
        integers.CopyFrom(numpy_helper.from_array(values, integers.name))
        scales.CopyFrom(numpy_helper.from_array(scale, scales.name))


def kept_convs(network: Network, upsamplers: bool = False) -> list[str]:
    """Names of the convolutions that are not quantised: those on the image's own path.

    The first and the last; what reads the first's result; and, where that is added again to a later one's, the last
    which it is added to, with what reads that sum. In SRGAN head, the first block's first convolution, the trunk's
    end, the first upsampler and the tail.

    Args:
        network: any.
        upsamplers: keep all that end in a pixel shuffle, too.
    """
    convs, first = network.convs, value_of(0)
    kept = {0, len(convs) - 1, *(i for i, conv in enumerate(convs) if first in conv.inputs)}
    sums = [i for i, conv in enumerate(convs) if any(residual.value == first for residual in conv.residuals)]
    if sums:
        total = value_of(sums[-1])
        kept |= {sums[-1], *(i for i in readers(network)[total] if total in convs[i].inputs)}
    if upsamplers:
        kept |= {i for i, conv in enumerate(convs) if conv.shuffle > 1}
    return [convs[index].name for index in sorted(kept)]


def as_input(image: NDArray[np.float32], pixels: bool) -> NDArray[Any]:
    """An image of 1, C, H, W in 0..1 as a graph takes it."""
    if not pixels:
        return image
    return np.ascontiguousarray(np.rint(image * 255).astype(np.uint8).transpose(0, 2, 3, 1))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on the root logger how to prepare graphs that it would get on badly with."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
