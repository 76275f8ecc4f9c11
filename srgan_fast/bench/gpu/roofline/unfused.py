"""What the same layers read and write where each operator makes its own pass, as PyTorch computes them on a GPU.

In favour of that side: its convolutions read everything once and multiply nothing but the image, its BatchNorms take
two passes each way, and vectors of channels cost nothing.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from srgan_fast.bench.gpu.roofline.calls import FLOAT, HALF, Call, InferCall, Pass


def unfused_passes(call: Call | InferCall) -> list[Pass]:
    """The passes that a fused call stands for, each map read or written once in a pass."""
    if isinstance(call, InferCall):
        return _inference(call)
    z, y = call.pixels * call.channels * HALF, call.out_pixels * call.out * HALF
    product = z + y + call.weights * HALF
    if call.direction == "wgrad":
        passes = [("weight gradient", product, True), ("gradient of the bias", y, call.bias)]
    elif call.direction == "forward":
        passes = [
            ("BatchNorm, applied", 2 * z, call.normalises),
            ("activation before", 2 * z, call.activates),
            ("addition", 3 * z, call.residual),
            ("pixel shuffle", 2 * z, call.shuffle),
            ("convolution", product, True),
            ("bias", 2 * y, call.bias),
            ("BatchNorm, statistics", y, call.moments),
            ("activation behind", 2 * y, call.activation),
        ]
    else:
        passes = [
            ("BatchNorm's gradient, applied", 3 * y, call.moments),
            ("activation's gradient behind", 3 * y, call.activation),
            ("data gradient", product, True),
            ("sum of gradients", 3 * z, call.sum_gradient),
            ("pixel shuffle", 2 * z, call.shuffle),
            ("activation's gradient before", 3 * z, call.activates),
            ("BatchNorm's gradient, sums", 2 * z, call.normalises),
        ]
    products = ("convolution", "data gradient", "weight gradient")
    return [Pass(name, size, call.flops if name in products else 0) for name, size, there in passes if there]


def _inference(call: InferCall) -> list[Pass]:
    if call.direction == "block":
        return [one for conv in call.convolutions for one in _inference(conv)]
    values = call.pixels * call.channels
    x, y = values * HALF, call.out_values * HALF
    passes = [
        ("picture to 16 bits", values * (FLOAT + HALF), call.direction == "head"),
        ("pixel shuffle before", 2 * x, call.direction == "tail"),
        ("convolution", x + y + call.weights * HALF, True),
        ("bias", 2 * y, True),
        ("pixel shuffle", 2 * y, call.shuffle),
        ("activation", 2 * y, call.activates),
        ("addition", 3 * y, call.residual),
        ("picture to 32 bits", call.out_values * (HALF + FLOAT), call.direction == "tail"),
    ]
    return [Pass(name, size, call.flops if name == "convolution" else 0) for name, size, there in passes if there]


def operator_passes(operator: Any, arguments: dict[str, Any], result: Any) -> list[Pass]:
    """The passes of one of PyTorch's operators, as a dispatcher sees it.

    Args:
        operator: a `torch._ops.OpOverload`.
        arguments: by name.
        result: tensor, tensors or nothing.

    Returns:
        None for views and memory that nobody writes; several for BatchNorm, convolutions with bias and their gradients;
        else one that reads every tensor and writes every result.
    """
    name = operator.name().partition("::")[2].partition(".")[0]
    if operator.is_view or "empty" in name or name == "_unsafe_view":
        return []
    if name == "convolution":
        return _convolution(arguments, result)
    if name == "convolution_backward":
        return _convolution_backward(arguments)
    if name == "native_batch_norm":
        x = _bytes([arguments["input"]])
        applied = Pass("BatchNorm, applied", 2 * x)
        return [Pass("BatchNorm, statistics", x), applied] if arguments["training"] else [applied]
    if name == "native_batch_norm_backward":
        x = _bytes([arguments["input"]])
        return [Pass("BatchNorm's gradient, sums", 2 * x), Pass("BatchNorm's gradient, applied", 3 * x)]
    schema = operator._schema
    written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    unread = set(arguments) if name.endswith("_like") else set(written if name == "copy_" else ())
    reads = _bytes([value for key, value in arguments.items() if key not in unread])
    writes = _bytes([arguments[key] for key in written if key in arguments])
    fresh = [r.alias_info is None for r in schema.returns]
    results = result if isinstance(result, tuple | list) and len(fresh) > 1 else [result]
    return [Pass(name, reads + writes + _bytes([r for r, new in zip(results, fresh, strict=False) if new]))]


def _convolution(arguments: dict[str, Any], y: Tensor) -> list[Pass]:
    x, weight, bias = arguments["input"], arguments["weight"], arguments["bias"]
    passes = [Pass("convolution", _bytes([x, weight, y]), 2 * y.numel() * weight[0].numel())]
    return passes if bias is None else [*passes, Pass("bias", 2 * _bytes([y]))]


def _convolution_backward(arguments: dict[str, Any]) -> list[Pass]:
    g, x, weight = arguments["grad_output"], arguments["input"], arguments["weight"]
    flops = 2 * g.numel() * weight[0].numel()
    product = _bytes([g, x, weight])
    passes = (
        Pass("data gradient", product, flops),
        Pass("weight gradient", product, flops),
        Pass("gradient of the bias", _bytes([g])),
    )
    return [p for p, wanted in zip(passes, arguments["output_mask"], strict=True) if wanted]


def _bytes(values: Sequence[Any]) -> int:
    """Of all tensors among values, lists of them included."""
    total = 0
    for value in values:
        if isinstance(value, Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, list | tuple):
            total += _bytes(value)
    return total
