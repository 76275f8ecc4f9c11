"""What is read, written and multiplied where torch's library multiplies: csrc/torch/conv_library.cpp, counted.

Of the library's kernels no tiles are known: they read everything once, and share the image's products evenly, as
`unfused` takes them to. Vectors of channels are left out.
"""

from srgan_fast.bench.gpu.roofline.calls import FLOAT, HALF, Call, Pass
from srgan_fast.bench.gpu.roofline.plans import LibraryPlan

_VECTORS = 3  # gradients of scale, shift and slope


def library_passes(call: Call, plan: LibraryPlan) -> list[Pass]:
    """The kernels of a call, in their order."""
    passes = {"forward": _forward, "dgrad": _data_gradient, "wgrad": _weight_gradient}
    return passes[call.direction](call, plan)


def dy_pass(pixels: int, channels: int, sums: bool, blocks: int) -> list[Pass]:
    """From a gradient and the result to the gradient that products take, and its sums.

    Args:
        pixels: of y, in the batch.
        channels: of y.
        sums: whether those of each channel are taken, which are the bias' gradient.
        blocks: of the pass.
    """
    parts = blocks * channels * FLOAT if sums else 0
    passes = [Pass("gradient, made", 3 * pixels * channels * HALF + parts)]
    return [*passes, Pass("sum over blocks", parts)] if sums else passes


def _forward(call: Call, plan: LibraryPlan) -> list[Pass]:
    y = _y(call)
    parts = plan.y_blocks * 2 * call.out * FLOAT if call.moments else 0
    passes = [*_prologue(call), _cast(call), _product(call, "convolution")]
    if call.bias or call.activation or call.moments:
        passes.append(Pass("epilogue", y * (2 if call.bias or call.activation else 1) + parts))
    return [*passes, Pass("merge of moments", parts)] if call.moments else passes


def _data_gradient(call: Call, plan: LibraryPlan) -> list[Pass]:
    z = _z(call)
    passes = dy_pass(call.out_pixels, call.out, False, plan.y_blocks) if call.two_gradients else []
    passes.append(_product(call, "data gradient"))
    if call.transforms or call.shuffle:
        parts = plan.z_blocks * _VECTORS * call.channels * FLOAT if call.transforms else 0
        # dz and dx; x; the sum's gradient; the residual's.
        moved = z * (2 + call.transforms + call.sum_gradient + call.residual) + parts
        passes.append(Pass("prologue's gradient", moved))
        if parts:
            passes.append(Pass("sum over blocks", parts))
    return passes


def _weight_gradient(call: Call, plan: LibraryPlan) -> list[Pass]:
    passes = []
    if call.two_gradients:
        passes += dy_pass(call.out_pixels, call.out, call.bias, plan.y_blocks)
    elif call.bias:
        parts = plan.y_blocks * call.out * FLOAT
        passes += [Pass("gradient of the bias", _y(call) + parts), Pass("sum over blocks", parts)]
    to_float = Pass("weight gradient to 32 bits", call.weights * (HALF + FLOAT))
    return [*passes, *_prologue(call), _product(call, "weight gradient"), to_float]


def _prologue(call: Call) -> list[Pass]:
    if not (call.transforms or call.shuffle):
        return []
    return [Pass("prologue", _z(call) * (3 if call.residual else 2))]


def _product(call: Call, name: str) -> Pass:
    return Pass(name, _z(call) + _y(call) + call.weights * HALF, call.flops)


def _cast(call: Call) -> Pass:
    """Forward they are cast for all directions."""
    return Pass("weights to 16 bits", call.weights * (FLOAT + HALF))


def _z(call: Call) -> int:
    return call.pixels * call.channels * HALF


def _y(call: Call) -> int:
    return call.out_pixels * call.out * HALF
