"""Small cases of the CUDA inference kernels, compared with their float64 references; part of the GPU self-test."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srgan_fast.ops import infer
from srgan_fast.ops.accuracy import CheckError, largest_error, leave_garbage, relative_error, repeated

# For 2-norms. Inputs are exact in 16 bits, so the only error is rounding of the result; the tail's is not rounded.
_OF_ONE = 3.0  # factor for the largest error of one element
_OF_NETWORK = 4.0  # factor for ten consecutive layers, each of which rounds
_REPEATS = 3
_RECORDED_SIZES = ((1, 32, 32), (2, 9, 17), (1, 40, 52))
_SCALES = [1.0, -0.5]  # of residuals
_COLOURS = ((2.0, 1.0, 0.5), (-1.0, 0.0, 0.25))  # gain and offset of the head's colour map
TOLERANCE = {torch.bfloat16: 5e-3, torch.float16: 7e-4, torch.float32: 1e-5}


@dataclass(frozen=True, slots=True)
class InferCase:
    """A small call of a layer.

    Attributes:
        layer: `head`, `conv`, `block`, `picture` or `tail`.
        size: N, C, O, H, W.
        behind: options: for `conv` any of `slope`, `residual`, `second` (another residual), `shuffle`, `slices`
            (channel slices of wider maps); for `picture` any of `slope` and `slices`.
        side: kernel side of a `conv` or `picture`.
        shuffle: factor of the pixel shuffle, if any; `picture` always has one.
    """

    layer: str
    size: tuple[int, int, int, int, int]
    behind: tuple[str, ...] = ()
    side: int = 3
    shuffle: int = 2


# Every kernel, odd sizes, channel counts that do not fill a block; tiles depend on the device.
CASES = (
    InferCase("head", (2, 3, 64, 13, 19)),
    InferCase("head", (1, 3, 24, 1, 1)),
    InferCase("conv", (2, 64, 64, 13, 19), ("slope",)),
    InferCase("conv", (16, 64, 64, 66, 70), ("residual",)),
    InferCase("conv", (2, 64, 256, 9, 17), ("slope", "shuffle")),
    InferCase("conv", (1, 40, 96, 5, 33), ("slope",)),
    InferCase("conv", (8, 136, 72, 40, 31), ("residual",)),
    InferCase("conv", (1, 96, 96, 7, 6), ("slope", "shuffle")),
    InferCase("block", (1, 64, 64, 13, 19)),
    InferCase("block", (3, 64, 64, 130, 70)),
    InferCase("tail", (1, 256, 3, 21, 40)),
    InferCase("tail", (2, 32, 3, 3, 61)),
    # Networks other than SRGAN: dense blocks, other kernel sides, images from a single convolution.
    InferCase("conv", (1, 160, 32, 13, 19), ("slope", "slices")),
    InferCase("conv", (2, 192, 64, 9, 17), ("residual", "second", "slices")),
    InferCase("conv", (1, 64, 72, 11, 9), ("slope", "shuffle"), shuffle=3),
    InferCase("conv", (1, 64, 64, 9, 33), ("slope",), side=1),
    InferCase("conv", (1, 24, 40, 9, 7), ("slope",), side=5),
    InferCase("conv", (1, 16, 24, 10, 20), (), side=9),
    InferCase("picture", (1, 64, 3, 21, 40), (), shuffle=1),
    InferCase("picture", (2, 64, 48, 9, 19), ("slices",), shuffle=4),
    InferCase("picture", (1, 24, 1, 5, 7), ("slope",), side=1, shuffle=1),
)


def check(case: InferCase, device: torch.device, dtype: torch.dtype) -> list[CheckError]:
    """Runs a case on a CUDA device and in float64 in plain PyTorch; returns the errors of its result."""
    got, expected = compute(case, device, dtype)
    tolerance = TOLERANCE[torch.float32 if case.layer in ("picture", "tail") else dtype]
    largest = largest_error(got, expected)
    errors = [
        CheckError(f"{case}", relative_error(got, expected), tolerance),
        CheckError(f"one element of {case}", largest, _OF_ONE * tolerance),
    ]
    for _ in range(_REPEATS - 1):
        leave_garbage([got], dtype)
        errors.append(repeated(str(case), got, compute(case, device, dtype)[0]))
    return errors


def check_recorded(device: torch.device, dtype: torch.dtype) -> list[CheckError]:
    """Runs a small network as upscaling does: early kernel starts, graph capture, replays on other images.

    The result must equal the same calls with a synchronisation after each, bit for bit, and float64 within tolerance.
    """
    errors: list[CheckError] = []
    with torch.inference_mode(), on_device(device):
        network = _Network(device, dtype)
        wait(device)  # kernels prefetch weights while their predecessors still run
        for n, h, w in _RECORDED_SIZES:
            images = [network.draw(n, 3, h, w) for _ in range(_REPEATS)]
            alone = [network(x, lambda: wait(device), weights_are_constant=False) for x in images]
            given = torch.empty_like(images[0])
            graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            wait(device)
            with (
                torch.cuda.stream(stream),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                result = network(given)
            for turn in range(2 * _REPEATS):
                given.copy_(images[turn % _REPEATS])
                graph.replay()
                what = f"recorded layers, {n} of {h}x{w}, replay {turn}"
                errors.append(repeated(what, alone[turn % _REPEATS], result.clone()))
            tolerance = _OF_NETWORK * TOLERANCE[dtype]
            for x, got in zip(images, alone, strict=True):
                error = relative_error(got, network.reference(x.double()))
                errors.append(CheckError(f"recorded layers, {n} of {h}x{w}", error, tolerance))
    return errors


class _Network:
    """Head, three residual blocks, end of the trunk, two upsamplers and a tail, with random weights."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._device, self._dtype = device, dtype
        c = infer.BLOCK_CHANNELS
        self._head = self._layer(infer.pack_head, c, 3, 9)
        self._blocks = [(self._layer(infer.pack_conv, c, c, 3), self._layer(infer.pack_conv, c, c, 3)) for _ in "123"]
        self._fuse = self._layer(infer.pack_conv, c, c, 3)
        self._up = [self._layer(infer.pack_conv, 4 * c, c, 3) for _ in "12"]
        self._tail = self._layer(infer.pack_tail, 3, c, 9)

    def draw(self, *shape: int) -> Tensor:
        """Values in 0..1, float32."""
        return torch.rand(shape, generator=self._generator).to(self._device)

    def _layer(self, pack: Callable[..., Tensor], out: int, channels: int, side: int) -> "_RandomLayer":
        # He's initialisation, so that activations neither grow nor vanish.
        spread = (2.0 / (channels * side * side)) ** 0.5
        weight = (torch.randn(out, channels, side, side, generator=self._generator) * spread).to(self._device)
        bias = (torch.randn(out, generator=self._generator) / 8).to(self._device)
        return _RandomLayer(weight, pack(weight, self._dtype), bias, torch.full((out,), 0.25, device=self._device))

    def __call__(
        self, x: Tensor, after: Callable[[], None] = lambda: None, weights_are_constant: bool = True
    ) -> Tensor:
        def done(y: Tensor) -> Tensor:
            after()
            return y

        head, fuse, tail = self._head, self._fuse, self._tail
        first = done(
            infer.head(x, *_COLOURS, head.packed, head.bias, head.slope, weights_are_constant=weights_are_constant)
        )
        x = first
        for a, b in self._blocks:
            x = done(
                infer.block(x, a.packed, a.bias, a.slope, b.packed, b.bias, weights_are_constant=weights_are_constant)
            )
        x = done(
            infer.conv(
                x, fuse.packed, fuse.bias, residuals=[first], scales=[1.0], weights_are_constant=weights_are_constant
            )
        )
        for up, shuffle in zip(self._up, (2, 1), strict=True):
            x = done(
                infer.conv(x, up.packed, up.bias, up.slope, shuffle=shuffle, weights_are_constant=weights_are_constant)
            )
        return done(infer.tail(x, tail.packed, tail.bias))

    def reference(self, x: Tensor) -> Tensor:
        """The same in float64, with weights rounded to the kernels' dtype."""

        def of(layer: _RandomLayer) -> tuple[Tensor, Tensor, Tensor]:
            return layer.weight.to(self._dtype).double(), layer.bias.double(), layer.slope.double()

        first = x = infer.head_reference(x, *_COLOURS, *of(self._head))
        for a, b in self._blocks:
            x = infer.block_reference(x, *of(a), *of(b)[:2])
        x = infer.conv_reference(x, *of(self._fuse)[:2], residuals=[first], scales=[1.0])
        for up, shuffle in zip(self._up, (2, 1), strict=True):
            x = infer.conv_reference(x, *of(up), shuffle=shuffle)
        return infer.tail_reference(x, *of(self._tail)[:2])


@dataclass(frozen=True, slots=True)
class _RandomLayer:
    weight: Tensor
    packed: Tensor
    bias: Tensor
    slope: Tensor


def wait(device: torch.device) -> None:
    """Synchronises a CUDA device."""
    torch.cuda.synchronize(device)


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one."""
    return torch.cuda.device(device)


def compute(case: InferCase, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Result of the kernels for a case, and the float64 reference."""
    generator = torch.Generator().manual_seed(0)
    n, c, o, h, w = case.size

    def quarters(*shape: int) -> Tensor:
        return (torch.randint(-6, 7, shape, generator=generator).float() / 4).to(device)

    with torch.inference_mode():
        arguments, call, reference = _problem(case.layer, quarters, n, c, o, h, w, case.side)
        given, weight, *vectors = arguments
        extras: dict[str, Any] = {}
        if case.layer in ("conv", "picture"):
            extras["slope"] = quarters(o) if "slope" in case.behind else None
        if case.layer == "picture":
            extras |= {"colours": o // case.shuffle**2, "shuffle": case.shuffle}
        elif case.layer == "conv":
            extras["shuffle"] = case.shuffle if "shuffle" in case.behind else 1
            extras["residuals"] = [quarters(n, o, h, w) for which in ("residual", "second") if which in case.behind]
            extras["scales"] = _SCALES[: len(extras["residuals"])]
        place = _sliced if "slices" in case.behind else _whole
        sent = dict(extras)
        if case.layer == "conv":
            sent["residuals"] = [place(value.to(dtype)) for value in extras["residuals"]]
            if "slices" in case.behind:
                sent["out"] = _sliced(torch.zeros(n, o, h, w, dtype=dtype, device=device))
        pack = {"head": infer.pack_head, "tail": infer.pack_tail}.get(case.layer, infer.pack_conv)
        packed = [pack(v, dtype) if v.dim() == 4 else v for v in (weight, *vectors)]
        got = call(given if case.layer == "head" else place(given.to(dtype)), *packed, **sent)
        wide = {name: _doubled(value) for name, value in extras.items()}
        return got, reference(given.double(), weight.double(), *(v.double() for v in vectors), **wide)


def _whole(values: Tensor) -> Tensor:
    return values


def _sliced(values: Tensor) -> Tensor:
    """The same values as a channel slice of a wider map whose other channels are NaN."""
    n, c, h, w = values.shape
    wider = values.new_full((n, c + 3 * infer.UNIT, h, w), float("nan")).contiguous(memory_format=torch.channels_last)
    return wider[:, infer.UNIT : infer.UNIT + c].copy_(values)


def _doubled(value: Any) -> Any:
    if isinstance(value, list):
        return [_doubled(one) for one in value]
    return value.double() if isinstance(value, Tensor) else value


def _problem(
    layer: str, quarters: Callable[..., Tensor], n: int, c: int, o: int, h: int, w: int, side: int
) -> tuple[list[Tensor], Callable[..., Tensor], Callable[..., Tensor]]:
    """Input, weights and vectors of a layer, its operator, and its reference."""
    if layer in ("conv", "picture"):
        tensors = [quarters(n, c, h, w), quarters(o, c, side, side) / 8, quarters(o)]
        if layer == "picture":
            return tensors, infer.picture, infer.picture_reference
        return tensors, infer.conv, infer.conv_reference
    if layer == "block":
        first, second = ([quarters(o, c, 3, 3) / 8, quarters(o)] for _ in range(2))
        return [quarters(n, c, h, w), *first, quarters(o), *second], infer.block, infer.block_reference
    if layer == "tail":
        return [quarters(n, c, h, w), quarters(o, c // 4, 9, 9) / 8, quarters(o)], infer.tail, infer.tail_reference

    def head(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        return infer.head(x, *_COLOURS, weight, bias, slope)

    def head_reference(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        return infer.head_reference(x, *_COLOURS, weight, bias, slope)

    return [quarters(n, c, h, w), quarters(o, c, 9, 9) / 8, quarters(o), quarters(o)], head, head_reference
