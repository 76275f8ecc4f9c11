"""What the real networks and the real step ask of a GPU, recorded without computing: tensors are fake, shapes are true.

The step runs as `kernels` says under autocast to bfloat16, on fake tensors of a CPU, whose operators are those of a
GPU but for two: weights are packed beforehand on a CPU (left out here, since on CUDA each call packs), and autocast's
casts may stand elsewhere. Upscaling runs on tensors without memory, in float16.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode

from srgan_fast.bench.gpu.layers import LAYERS, layer_calls
from srgan_fast.bench.gpu.roofline.calls import Call, Direction, InferCall, Pass, Place, padded
from srgan_fast.bench.gpu.roofline.library import dy_pass
from srgan_fast.bench.gpu.roofline.unfused import operator_passes
from srgan_fast.bench.training.rows import Work, make_gan_step, make_networks
from srgan_fast.errors import UsageError
from srgan_fast.models import DEFAULT_MODEL, read_model
from srgan_fast.network.torch_module import NetworkModule
from srgan_fast.ops import infer, use_kernels
from srgan_fast.ops.native import why_not
from srgan_fast.runtime.cuda_generator import CudaGenerator

Kernels = Literal["fused", "reference"]
KERNELS: tuple[Kernels, Kernels] = ("fused", "reference")
FEATURES = "features[:18]"
_OUTSIDE = "other"
_DIRECTIONS: dict[str, Direction] = {"conv_forward": "forward", "conv_dgrad": "dgrad", "conv_wgrad": "wgrad"}
_VECTORS = ("center", "scale", "shift")
_TAIL = 5  # side of its filters


@dataclass(frozen=True, slots=True)
class Event:
    """One call or pass.

    Attributes:
        part: of the step, as `training.step` names it for profilers.
        what: that happened.
    """

    part: str
    what: Call | InferCall | Pass

    @property
    def network(self) -> str:
        """The first word of the part: `G`, `D`, `VGG`; or what is outside of them."""
        found = re.match(r"\w+", self.part)
        return found[0] if found else _OUTSIDE


def trace_step(kernels: Kernels, batch: int, hr: int) -> list[Event]:
    """An adversarial step of `bench.training`, optimisers included.

    Raises:
        UsageError: the operators are not built.
    """
    _check()
    with FakeTensorMode():
        work = Work("gan", batch, hr, FEATURES, threads=1)
        networks = make_networks(work)
        if networks.discriminator is None or networks.features is None:
            raise AssertionError("an adversarial stage has all networks")
        for network in networks.all().values():
            use_kernels(network, kernels)
        of_generator, of_discriminator = (
            Adam(n.parameters(), fused=True) for n in (networks.generator, networks.discriminator)
        )
        step = make_gan_step(
            networks.generator, networks.discriminator, networks.features, of_generator, of_discriminator,
            partial(torch.autocast, "cpu", torch.bfloat16),
        )  # fmt: skip
        images = work.images()
        hr_images, lr_images = (i.contiguous(memory_format=torch.channels_last) for i in images)

        def once() -> None:
            step.compute([(hr_images, lr_images)])
            of_generator.step()
            of_discriminator.step()

        with warnings.catch_warnings():
            # A CPU's store of packed weights looks at addresses, of which fake tensors have none.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor", UserWarning)
            once()  # optimisers make their state in the first step
            return _record(once)


def trace_inference(kernels: Kernels, sizes: Sequence[tuple[int, int, int]]) -> list[list[Event]]:
    """The bundled model in float16, BatchNorm folded: `CudaGenerator`, or PyTorch's module.

    Args:
        kernels: which of them.
        sizes: pictures at once, their height and width.

    Returns:
        The events of each size.
    """
    file = read_model(DEFAULT_MODEL)
    upscale: Callable[[Tensor], Tensor]
    if kernels == "fused":
        upscale = CudaGenerator(file.network, file.name, torch.float16, torch.device("cpu")).compute
    else:
        network = NetworkModule(file.network).half().to("meta")

        def upscale(lr: Tensor) -> Tensor:
            return cast(Tensor, network(lr.half())).float()

    found = []
    for batch, height, width in sizes:
        lr, recorder = torch.empty(batch, 3, height, width, device="meta"), _Recorder()
        with torch.no_grad(), _operators_recorded(recorder.events), recorder:
            upscale(lr)
        found.append([replace(event, part="G") for event in recorder.events])
    return found


def _operators_recorded(events: list[Event]) -> AbstractContextManager[object]:
    """Puts others in the place of `ops.infer`'s operators, which exist on CUDA alone: they note shapes only."""

    def note(place: Place, x: Tensor, out: int, *parts: bool) -> tuple[int, int, int]:
        batch, channels, height, width = x.shape
        events.append(Event(_OUTSIDE, InferCall(place, batch, channels, out, height, width, *parts)))
        return batch, height, width

    def head(
        pictures: Tensor, gain: Any, offset: Any, weights: Tensor, bias: Tensor, slope: Tensor, settled: bool = False
    ) -> Tensor:
        batch, height, width = note("head", pictures, len(bias), True)
        return pictures.new_empty((batch, len(bias), height, width), dtype=weights.dtype)

    def conv(
        x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor | None = None, residual: Tensor | None = None,
        shuffle: bool = False, settled: bool = False,
    ) -> Tensor:  # fmt: skip
        batch, height, width = note("conv", x, len(bias), slope is not None, residual is not None, shuffle)
        phases, scale = (4, 2) if shuffle else (1, 1)
        return x.new_empty((batch, len(bias) // phases, scale * height, scale * width))

    def block(
        x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor, outer_weights: Tensor, outer_bias: Tensor,
        settled: bool = False,
    ) -> Tensor:  # fmt: skip
        note("block", x, len(outer_bias), True, True)
        return x.new_empty(x.shape)

    def tail(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        batch, height, width = note("tail", x, len(bias))
        return x.new_empty((batch, len(bias), 2 * height, 2 * width), dtype=torch.float32)

    return patch.multiple(infer, head=head, conv=conv, block=block, tail=tail)


@dataclass(frozen=True, slots=True)
class LayerEvents:
    """A direction of one of the layers that `tools/gpu_report.py` times.

    Attributes:
        layer: its name.
        direction: `forward`, `data gradient` or `weight gradient`.
        fused: what our operator is asked.
        stock: PyTorch's passes for what it is compared with.
    """

    layer: str
    direction: str
    fused: list[Event]
    stock: list[Event]


def trace_layers(batch: int, hr: int) -> list[LayerEvents]:
    """All timed layers, in their order.

    Raises:
        UsageError: the operators are not built.
    """
    _check()
    with FakeTensorMode():
        return [
            LayerEvents(layer.name, direction, _record(fused), _record(stock))
            for layer in LAYERS
            for direction, fused, stock, _ in layer_calls(layer, batch, hr, torch.device("cpu"))
        ]


def _check() -> None:
    problem = why_not()
    if problem is not None:
        raise UsageError(f"predictions trace the fused operators: {problem}")


def _record(work: Callable[[], object]) -> list[Event]:
    recorder = _Recorder()
    with recorder:
        work()
    return recorder.events


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps shapes only: a tensor that is kept would change what autograd copies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self._parts: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        namespace, _, name = func.name().partition("::")
        if namespace == "profiler":
            if "enter" in name:
                self._parts.append(args[0])
            else:
                self._parts.pop()
        elif namespace != "prim" and name != "conv_pack":
            names = [argument.name for argument in func._schema.arguments]
            arguments = dict(zip(names, args, strict=False)) | (kwargs or {})
            part = self._parts[0] if self._parts else _OUTSIDE
            if name in _DIRECTIONS:
                self._add(part, _call(_DIRECTIONS[name], arguments))
            else:
                self.events += [Event(part, p) for p in operator_passes(func, arguments, result)]
        return result

    def _add(self, part: str, call: Call) -> None:
        """A call; what CUDA makes once for both gradients of a convolution becomes a pass before them (`ops.conv`)."""
        # Between the two are sums of the vectors' gradients.
        place = max((i for i, event in enumerate(self.events) if isinstance(event.what, Call)), default=None)
        before = None if place is None else self.events[place].what
        if (
            place is not None
            and call.direction == "wgrad"
            and call.two_gradients
            and isinstance(before, Call)
            and before.direction == "dgrad"
            and (before.two_gradients, before.shape, before.batch) == (True, call.shape, call.batch)
            and call.out == padded(call.out)
        ):
            blocks = 0  # whose sums are some kilobytes
            self.events[place : place + 1] = [
                *(Event(part, p) for p in dy_pass(call.out_pixels, call.out, call.bias, blocks)),
                Event(part, replace(before, moments=False, activation=False)),
            ]
            call = replace(call, moments=False, activation=False, bias=False)
        self.events.append(Event(part, call))


def _call(direction: Direction, arguments: dict[str, Any]) -> Call:
    def given(*names: str) -> bool:
        return any(arguments.get(name) is not None for name in names)

    x, weight = arguments["x"], arguments["weight"]
    shuffle = bool(arguments["shuffle"])
    factor = 2 if shuffle else 1
    forward = direction == "forward"
    bias, taps = arguments.get("bias"), weight.shape[-1]
    # The tail's four pixels of three colours are filled up to whole units on CUDA (`ops.modules.tail`).
    out = padded(weight.shape[0]) if taps == _TAIL else weight.shape[0]
    return Call(
        direction,
        x.shape[0], weight.shape[1], out, factor * x.shape[2], factor * x.shape[3],
        taps, arguments["stride"],
        bias=bias if isinstance(bias, bool) else bias is not None,
        normalises=given(*_VECTORS), activates=given("slope"), residual=given("residual"), shuffle=shuffle,
        moments=bool(arguments["moments"]) if forward else given("mean"),
        activation=given("activation"), sum_gradient=given("sum_gradient"),
    )  # fmt: skip
