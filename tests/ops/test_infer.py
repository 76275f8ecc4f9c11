"""The operators of inference on a GPU; without one, what can be said without one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from srgan_fast.ops import infer, infer_checks
from srgan_fast.ops.native import why_not_on_cuda

needs_library = pytest.mark.skipif(why_not_on_cuda() is not None, reason="no CUDA kernels built")
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or why_not_on_cuda() is not None, reason="no GPU, or no CUDA kernels built"
)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def test_packed_weights_are_the_weights() -> None:
    weight = torch.randn(72, 40, 3, 3)
    packed = infer.pack_conv(weight, torch.float32)
    assert packed.shape == (9, 128, 64)
    assert infer.pack_conv(weight[:, :, :1, :1], torch.float32).shape == (1, 128, 64)
    assert packed.is_contiguous()
    torch.testing.assert_close(packed[5, :72, :40], weight[:, :, 1, 2])
    assert packed.abs().sum() == pytest.approx(float(weight.abs().sum()), rel=1e-5)
    head = torch.randn(24, 3, 9, 9)
    packed = infer.pack_head(head, torch.float32)
    assert packed.shape == (5, 128, 64)
    torch.testing.assert_close(packed[2, :24, 27 + 3 * 4 + 1], head[:, 1, 5, 4])  # row 5 is the second of its pair
    assert packed.abs().sum() == pytest.approx(float(head.abs().sum()), rel=1e-5)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", infer_checks.CASES, ids=str)
def test_operators_are_their_references(case: infer_checks.InferCase, dtype: torch.dtype, device: torch.device) -> None:
    for error in infer_checks.check(case, device, dtype):
        assert error.excess <= 1.0, error


@needs_gpu
def test_equal_calls_give_equal_bits(device: torch.device) -> None:
    for case in infer_checks.CASES:
        first, second = (infer_checks.compute(case, device, torch.float16)[0] for _ in range(2))
        assert torch.equal(first, second), case


def _calls(device: torch.device, dtype: torch.dtype = torch.float16) -> list[tuple[Any, tuple[Any, ...]]]:
    """Each operator with arguments that it takes."""

    def features(*shape: int) -> Tensor:
        return torch.rand(shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)

    def vector(size: int) -> Tensor:
        return torch.rand(size, device=device)

    conv, head, tail = (
        infer.pack_conv(torch.rand(64, 64, 3, 3, device=device), dtype),
        infer.pack_head(torch.rand(64, 3, 9, 9, device=device), dtype),
        infer.pack_tail(torch.rand(3, 16, 9, 9, device=device), dtype),
    )
    pictures, x, wider = torch.rand(2, 3, 7, 9, device=device), features(2, 64, 7, 9), features(2, 80, 7, 9)
    ops = torch.ops.srgan_fast
    return [
        (ops.infer_head.default, (pictures, [1.0] * 3, [0.0] * 3, head, vector(64), vector(64))),
        (ops.infer_conv.default, (x, conv, vector(64), vector(64), [], [], 1)),
        (ops.infer_conv.default, (x, conv, vector(64), None, [features(2, 64, 7, 9)] * 2, [1.0, 0.2], 1)),
        (ops.infer_conv.default, (wider[:, 8:72], conv, vector(64), vector(64), [], [], 2)),
        (ops.infer_block.default, (x, conv, vector(64), vector(64), conv, vector(64))),
        (ops.infer_picture.default, (x, conv, vector(48), None, 3, 4)),
        (ops.infer_conv_into.default, (x, conv, vector(64), None, [], [], 1, True, features(2, 96, 7, 9)[:, 8:72])),
        (ops.infer_tail.default, (x, tail, vector(3))),
    ]


@needs_gpu
def test_operators_keep_the_rules_of_torch(device: torch.device) -> None:
    for operator, arguments in _calls(device):
        torch.library.opcheck(operator, arguments)


@needs_library
def test_shapes_are_known_without_a_gpu() -> None:
    with torch.inference_mode():
        got = [operator(*arguments) for operator, arguments in _calls(torch.device("meta"))]
    assert [None if y is None else tuple(y.shape) for y in got] == [
        (2, 64, 7, 9),
        (2, 64, 7, 9),
        (2, 64, 7, 9),
        (2, 16, 14, 18),
        (2, 64, 7, 9),
        (2, 3, 28, 36),
        None,
        (2, 3, 14, 18),
    ]
    assert [y.dtype for y in got if y is not None] == [torch.float16] * 5 + [torch.float32] * 2


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 3, 5), (2, 13, 19), (1, 64, 64), (3, 70, 130)], ids=str)
@pytest.mark.parametrize("way", range(-1, 4))
def test_a_block_is_its_two_convolutions(
    device: torch.device, way: int, size: tuple[int, int, int], dtype: torch.dtype
) -> None:
    if way >= 0 and torch.cuda.get_device_properties(device).shared_memory_per_block_optin < 227 * 1024:
        pytest.skip("too little shared memory for both convolutions' weights")
    torch.manual_seed(0)
    n, height, width = size
    x = torch.randn(n, 64, height, width, device=device).to(dtype, memory_format=torch.channels_last)
    first, second = (infer.pack_conv(torch.randn(64, 64, 3, 3, device=device) / 24, dtype) for _ in range(2))
    bias, slope, outer_bias = (torch.randn(64, device=device) for _ in range(3))
    found = infer.block(x, first, bias, slope, second, outer_bias, way=way)
    expected = infer.conv(infer.conv(x, first, bias, slope), second, outer_bias, residuals=[x], scales=[1.0])
    # Gemm are added up in the same order, warpgroups' too as it seems; the last bit may differ somewhere.
    torch.testing.assert_close(found, expected, rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


@needs_gpu
def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    (head, head_arguments), (conv, conv_arguments), *_, last = _calls(device)
    (picture, picture_arguments), (into, into_arguments), (tail, tail_arguments) = *_[-2:], last

    def refused(operator: Any, arguments: tuple[Any, ...], place: int, value: Any, why: str) -> None:
        with pytest.raises(RuntimeError, match=why):
            operator(*arguments[:place], value, *arguments[place + 1 :])

    refused(head, head_arguments, 0, torch.rand(2, 4, 7, 9, device=device), "takes N, 3, H, W images of float32")
    refused(head, head_arguments, 1, [1.0], "a value for each colour")
    refused(head, head_arguments, 5, torch.rand(8, device=device), "slope must be 64 values of float32")
    refused(conv, conv_arguments, 0, torch.rand(2, 64, 7, 9, device=device), "takes maps of bfloat16 or float16")
    refused(conv, conv_arguments, 0, torch.rand(2, 60, 7, 9, device=device).half(), "no multiples of 8")
    refused(conv, conv_arguments, 0, torch.rand(0, 64, 7, 9, device=device).half(), "not empty")
    refused(conv, conv_arguments, 1, torch.rand(9, 64, 64, device=device).half(), "not packed for it")
    refused(conv, conv_arguments, 2, torch.rand(64), "bias must be 64 values of float32 on the map's device")
    refused(conv, (*conv_arguments[:5], [1.0], 1), 4, [torch.rand(2, 64, 7, 8, device=device).half()], "residual of")
    refused(conv, conv_arguments, 4, [conv_arguments[0]], "1 residuals with 0 scales")
    refused(conv, conv_arguments, 6, 17, "a shuffle by 17")
    refused(into, into_arguments, 8, torch.rand(2, 64, 7, 9, device=device).half(), "a result must be NHWC")
    refused(into, into_arguments, 8, torch.rand(2, 64, 7, 8, device=device).half(), "result of shape")
    refused(picture, picture_arguments, 4, 17, "17 colours")
    refused(tail, tail_arguments, 2, torch.rand(4, device=device), "bias must be 3 values")


def _as_on_a_gpu(operator: Any, *arguments: Any) -> None:
    """Calls what is registered for CUDA with tensors of the CPU: a call is checked before the GPU is asked."""
    operator.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *arguments)


@needs_library
def test_what_does_not_fit_is_refused_before_the_gpu_is_asked() -> None:
    calls = _calls(torch.device("cpu"))
    (conv, (x, *given)), (picture, pictured), (into, written) = calls[1], calls[5], calls[6]

    def refused(why: str, operator: Any, *arguments: Any) -> None:
        with pytest.raises(RuntimeError, match=why):
            _as_on_a_gpu(operator, *arguments)

    refused("takes maps of bfloat16 or float16", conv, x.float(), *given)
    refused("1 residuals with 0 scales", conv, x, *given[:3], [x], [], 1)
    refused("3 residuals with 3 scales; at most 2", conv, x, *given[:3], [x] * 3, [1.0] * 3, 1)
    refused("a residual and a shuffle exclude each other", conv, x, *given[:3], [x], [1.0], 2)
    refused("residual of shape", conv, x, *given[:3], [x[..., 1:]], [1.0], 1)
    refused("a shuffle by 17", conv, x, *given[:5], 17)
    refused("no multiples of 8 for each of the pixels", conv, x, *given[:5], 3)
    refused("expected k \\* k, O, C with k odd", conv, x, given[0][:8], *given[1:])
    refused("not packed for it", conv, x, given[0][:, :64], *given[1:])
    refused("17 colours", picture, *pictured[:4], 17, 1)
    refused("bias must be 12 values", picture, *pictured[:5], 2)
    y, wide = written[8], torch.zeros(2, 9, 7, 96).half()
    for wrong in (
        torch.zeros(2, 64, 9, 7).half().transpose(2, 3),  # not NHWC
        wide.permute(0, 3, 2, 1)[:, 4:68],  # from channel 4 on
        torch.zeros(2, 7, 9, 92).half().permute(0, 3, 1, 2)[:, :64],  # pixels of no multiple of 16 bytes
        y[:, :, ::2].repeat_interleave(2, 2)[:, :, :7],
    ):
        refused("a result must be NHWC", into, *written[:8], wrong)
    refused("result of shape", into, *written[:8], y[..., 1:])


@needs_library
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would be given the CPU's memory")
def test_channels_of_wider_maps_are_taken_as_they_are() -> None:
    """What is left to go wrong is that there is no GPU."""
    calls = _calls(torch.device("cpu"))
    for operator, arguments in (calls[2], calls[3], calls[5], calls[6]):
        with pytest.raises(RuntimeError) as refusal:
            _as_on_a_gpu(operator, *arguments)
        assert "srgan_fast::" not in str(refusal.value)
        assert "CUDA" in str(refusal.value)
    into, (_, *given, _) = calls[6]
    for n, h, w in ((1, 1, 1), (2, 1, 1), (2, 1, 9), (1, 7, 1)):  # of which strides say less
        x, y = (torch.rand(n, 96, h, w).half().contiguous(memory_format=torch.channels_last)[:, 8:72] for _ in range(2))
        with pytest.raises(RuntimeError, match="CUDA"):
            _as_on_a_gpu(into, x, *given, y)
