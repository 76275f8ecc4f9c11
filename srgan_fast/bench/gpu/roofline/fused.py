"""What the CUDA kernels read, write and multiply for a call: the launches of csrc/torch/*_cuda.cpp, counted.

Vectors of channels are left out: they are some kilobytes.
"""

from srgan_fast.bench.gpu.roofline.calls import FLOAT, HALF, Call, InferCall, Pass, padded
from srgan_fast.bench.gpu.roofline.ceilings import Ceiling
from srgan_fast.bench.gpu.roofline.library import library_passes
from srgan_fast.bench.gpu.roofline.plans import LibraryPlan, Plan

_VECTORS = 3  # gradients of scale, shift and slope


def fused_passes(call: Call | InferCall, plan: Plan | LibraryPlan, ceiling: Ceiling) -> list[Pass]:
    """The kernels of a call, in their order."""
    if isinstance(plan, LibraryPlan):
        if isinstance(call, InferCall):
            raise AssertionError("upscaling has kernels of its own throughout")
        return library_passes(call, plan)
    if isinstance(call, InferCall):
        return _inference(call, plan, ceiling)
    passes = {"forward": _forward, "dgrad": _data_gradient, "wgrad": _weight_gradient}
    return passes[call.direction](call, plan, ceiling)


def _inference(call: InferCall, plan: Plan, ceiling: Ceiling) -> list[Pass]:
    """Weights are packed when a generator is made; bias and PReLU are vectors."""
    if call.direction == "block":
        if plan.inner:
            return [_block(call, plan, ceiling)]
        return [one for conv in call.convolutions for one in _inference(conv, plan, ceiling)]
    height, channels, passes = call.height, call.channels, []
    results = call.out_values * (2 if call.residual else 1) * HALF
    if call.direction == "head":
        # Pixels become channels of a map with a row more, and are read for two of its rows.
        height, channels = call.height + 1, plan.weight_columns
        picture, unfolded = call.pixels * call.channels * FLOAT, call.batch * height * call.width * channels * HALF
        passes.append(Pass("unfolding", picture + unfolded, moved=2 * picture + unfolded))
    elif call.direction == "tail":
        results = call.out_values * FLOAT
    source = call.batch * height * call.width * channels * HALF
    windows = _windows((height, call.width), (call.height, call.width), call.batch, plan) * channels * HALF
    return [*passes, _product("convolution", plan, ceiling, source, windows, results)]


def _block(call: InferCall, plan: Plan, ceiling: Ceiling) -> Pass:
    """A kernel of infer_block.cuh: the map between its convolutions, halo included, is no device memory's."""
    pixel = call.channels * HALF
    windows = _windows((call.height, call.width), (call.height, call.width), call.batch, plan) * pixel
    weights, results = plan.packed, call.pixels * pixel
    of_tile = 2 * (plan.inner + plan.rows * plan.columns) * call.weights // 2
    return Pass(
        "residual block",
        call.pixels * pixel + weights + results,
        of_tile * plan.tiles,
        windows + weights * plan.blocks + results,
        of_tile * plan.rounds(ceiling),
    )


def _forward(call: Call, plan: Plan, ceiling: Ceiling) -> list[Pass]:
    maps = 2 if call.residual else 1
    source = call.pixels * padded(call.channels) * HALF * maps
    results = call.out_pixels * call.out * HALF
    if call.residual:
        results += call.pixels * call.channels * HALF  # the sum, a side output
    parts = plan.grid[0] * 2 * call.out * FLOAT if call.moments else 0
    computed = call.out_height, call.out_width
    windows = _windows((call.height, call.width), computed, call.batch, plan) * padded(call.channels) * HALF * maps
    passes = [] if call.shuffle else maps * _pad(call.pixels, call.channels)
    passes += [_pack(call, plan), _product("convolution", plan, ceiling, source, windows, results + parts)]
    if call.moments:
        passes.append(Pass("merge of moments", parts + 2 * call.out * FLOAT))
    return passes


def _data_gradient(call: Call, plan: Plan, ceiling: Ceiling) -> list[Pass]:
    maps = 2 if call.two_gradients else 1
    source = call.out_pixels * padded(call.out) * HALF * maps
    given = call.out_height, call.out_width
    windows = _windows(given, (call.height, call.width), call.batch, plan) * padded(call.out) * HALF * maps
    z = call.pixels * call.channels * HALF
    # dx; x for the prologue's gradients; the sum's gradient; the residual's gradient.
    results = z * (1 + call.transforms + call.sum_gradient + call.residual)
    values = _VECTORS * call.channels * (4 if call.shuffle else 1)
    parts = plan.grid[0] * plan.grid[2] * values * FLOAT if call.transforms else 0
    passes = maps * _pad(call.out_pixels, call.out)
    passes += [_pack(call, plan), _product("data gradient", plan, ceiling, source, windows, results + parts)]
    if call.transforms:
        passes.append(Pass("sum over tiles", parts + values * FLOAT))
    return passes


def _weight_gradient(call: Call, plan: Plan, ceiling: Ceiling) -> list[Pass]:
    gradients, sources = (2 if call.two_gradients else 1), (2 if call.residual else 1)
    gradient = call.out_pixels * padded(call.out) * HALF * gradients
    source = call.pixels * padded(call.channels) * HALF * sources
    row_blocks, column_blocks = plan.weight_rows // plan.rows, plan.weight_columns // plan.columns
    moved = gradient * column_blocks * plan.grid[2]
    columns = _covered(call.width, call.out_width, plan.side, call.stride, -(call.taps // 2), call.taps)
    for z in range(plan.grid[2]):
        first = z * plan.tap_rows - call.taps // 2
        rows = _covered(call.height, call.out_height, plan.side, call.stride, first, plan.tap_rows)
        moved += call.batch * rows * columns * padded(call.channels) * HALF * sources * row_blocks
    values = call.taps**2 * plan.weight_rows * plan.weight_columns
    parts = plan.splits * values * FLOAT
    biases = plan.splits * plan.weight_rows * FLOAT if call.bias else 0
    tiles = call.batch * -(-call.out_height // plan.side) * -(-call.out_width // plan.side)
    flops = 2 * tiles * plan.side**2 * values
    # A share has so many tiles, or one more.
    of_block = 2 * (tiles // plan.splits) * plan.side**2 * plan.tap_rows * call.taps * plan.rows * plan.columns
    passes = gradients * _pad(call.out_pixels, call.out)
    if not call.shuffle:
        passes += sources * _pad(call.pixels, call.channels)
    passes += [
        Pass(
            "weight gradient",
            gradient + source + parts + biases,
            flops,
            moved + parts + biases,
            of_block * plan.rounds(ceiling),
        ),
        Pass("sum over shares", parts + call.weights * FLOAT),
    ]
    if call.bias:
        passes.append(Pass("sum of biases", biases + call.out * FLOAT))
    return passes


def _pad(pixels: int, channels: int) -> list[Pass]:
    """Of one map, where its pixels are no multiples of 16 bytes."""
    if padded(channels) == channels:
        return []
    return [Pass("padding of channels", pixels * (channels + padded(channels)) * HALF)]


def _packed(plan: Plan, taps: int) -> int:
    """Bytes of the weights in the order of fetching."""
    return taps**2 * plan.weight_rows * plan.weight_columns * HALF


def _pack(call: Call, plan: Plan) -> Pass:
    return Pass("packing of weights", call.weights * FLOAT + _packed(plan, call.taps))


def _product(name: str, plan: Plan, ceiling: Ceiling, source: int, windows: int, results: int) -> Pass:
    """A kernel of conv_mma.cuh or infer_mma.cuh.

    Args:
        name: of the pass.
        plan: of its launch.
        ceiling: of the device.
        source: bytes of its input maps.
        windows: bytes of them that one block of channels reads, halos included.
        results: bytes that are read and written once each by the epilogue.
    """
    taps = sum(plan.taps)
    # Weights of a block (of one for each phase), which fetches them once.
    fetched = taps * plan.channels * plan.weight_columns * HALF
    of_block = 2 * plan.rows * plan.columns * plan.channels * plan.weight_columns
    return Pass(
        name,
        source + fetched * plan.grid[1] + results,
        of_block * taps * plan.tiles * plan.grid[1],
        windows * plan.grid[1] + fetched * plan.grid[0] * plan.grid[1] + results,
        # Blocks of different phases have different numbers of taps; they are taken as equal.
        of_block * taps * plan.rounds(ceiling) // plan.grid[2],
    )


def _windows(source: tuple[int, int], computed: tuple[int, int], batch: int, plan: Plan) -> int:
    """Pixels of an input that the windows of all tiles cover together, those outside left out.

    Args:
        source: height and width of the input.
        computed: of the computed map.
        batch: images.
        plan: of the launch.
    """
    top, left, rows, columns = plan.reach
    height, width = (-(-side // plan.spread) for side in computed)
    of_rows = _covered(source[0], height, plan.rows, plan.step, top, rows)
    of_columns = _covered(source[1], width, plan.columns - plan.halo, plan.step, left, columns + plan.halo)
    return batch * plan.grid[2] * of_rows * of_columns


def _covered(size: int, computed: int, tile: int, step: int, first: int, span: int) -> int:
    """The windows of all tiles in one direction, added up, cut at the image's ends.

    Args:
        size: of the input.
        computed: size of the computed map.
        tile: computed pixels of a tile.
        step: input pixels from one computed pixel to the next.
        first: tap of a pixel, from the pixel.
        span: input pixels from the first tap to behind the last.
    """
    total = 0
    for start in range(0, computed, tile):
        begin = start * step + first
        total += max(0, min(size, begin + (tile - 1) * step + span) - max(0, begin))
    return total
