"""docs/gpu-roofline.md: what is predicted, in tables, and how far that is off where something was measured."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from srgan_fast.bench.gpu.roofline.calls import Call, InferCall, Pass
from srgan_fast.bench.gpu.roofline.ceilings import CEILINGS, H200, KIB, Ceiling
from srgan_fast.bench.gpu.roofline.floors import Floor, floor_of
from srgan_fast.bench.gpu.roofline.fused import fused_passes
from srgan_fast.bench.gpu.roofline.measured import LAYERS_BATCH, STEP_BATCH, Measured, Upscaled, read_measured
from srgan_fast.bench.gpu.roofline.plans import LibraryPlan, Plan, Planner
from srgan_fast.bench.gpu.roofline.trace import (
    FEATURES,
    KERNELS,
    Event,
    LayerEvents,
    trace_inference,
    trace_layers,
    trace_step,
)
from srgan_fast.bench.gpu.roofline.unfused import unfused_passes
from srgan_fast.bench.training.rows import GENERATOR_PRESET
from srgan_fast.errors import UsageError

HR = 96
PICTURES = ((128, 128), (180, 320), (256, 256))
SHOWN = CEILINGS[1]  # whose bytes stand in tables that have room for one device's tiles
NETWORKS = ("G", "D", "VGG")
_DIRECTIONS = {"forward": "forward", "dgrad": "data gradient", "wgrad": "weight gradient"}
_PLACES = {"head": "head", "conv": "features", "block": "residual block", "tail": "tail"}
_NAMES = _DIRECTIONS | _PLACES


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to predict.

    Attributes:
        name: for tables.
        fused: what it asks with our kernels.
        stock: with PyTorch's.
    """

    name: str
    fused: list[Event]
    stock: list[Event]


class Predictor:
    """Knows the plans of all calls on all devices.

    Args:
        planner: to be asked.
        calls: that will be predicted.
    """

    def __init__(self, planner: Planner, calls: Iterable[Call | InferCall]) -> None:
        calls = list(calls)
        self._plans = {ceiling.name: planner.plan(calls, ceiling) for ceiling in (*CEILINGS, H200)}

    def plan(self, call: Call | InferCall, ceiling: Ceiling) -> Plan | LibraryPlan:
        """A call's plan."""
        return self._plans[ceiling.name][call]

    def own(self, call: Call | InferCall, ceiling: Ceiling) -> Plan:
        """The plan of a call that kernels of this package multiply for."""
        plan = self.plan(call, ceiling)
        if isinstance(plan, LibraryPlan):
            raise AssertionError("upscaling has kernels of its own throughout")
        return plan

    def floor(self, events: Iterable[Event], ceiling: Ceiling) -> Floor:
        """Of events, fused calls by their kernels."""
        return floor_of((p for event in events for p in self._passes(event.what, ceiling)), ceiling)

    def _passes(self, what: Call | InferCall | Pass, ceiling: Ceiling) -> list[Pass]:
        return [what] if isinstance(what, Pass) else fused_passes(what, self.plan(what, ceiling), ceiling)


def make_document(root: Path) -> str:
    """The whole file.

    Args:
        root: of a checkout: `csrc` is asked, `docs/cuda.md` is read.

    Raises:
        UsageError: no compiler, operators that are not built, or tables that are not there.
    """
    planner, measured = Planner(root / "csrc"), read_measured(root / "docs" / "cuda.md")
    step = Workload(
        f"GAN step, batch {STEP_BATCH}", trace_step("fused", STEP_BATCH, HR), trace_step("reference", STEP_BATCH, HR)
    )
    pictures = _upscaling([(1, height, width) for height, width in PICTURES])
    upscaled = _upscaling([(found.batch, found.height, found.width) for found in measured.upscaled])
    layers = trace_layers(LAYERS_BATCH, HR)
    events = [event for work in (step, *pictures, *upscaled) for event in work.fused]
    events += [event for layer in layers for event in layer.fused]
    predictor = Predictor(planner, (event.what for event in events if not isinstance(event.what, Pass)))
    parts = [
        _introduction(),
        _ceilings(),
        _model(),
        _totals([step, *pictures], predictor),
        _parts(step, predictor),
        *(_operators(work, predictor) for work in (step, *pictures)),
        _shapes([step], predictor),
        _upscaling_shapes(pictures, predictor),
        _comparison(step, layers, measured, predictor),
        _upscaling_comparison(upscaled, measured.upscaled, predictor),
        _doubts(),
    ]
    return "\n\n".join(parts) + "\n"


def _upscaling(sizes: Sequence[tuple[int, int, int]]) -> list[Workload]:
    sides = (trace_inference(kernels, sizes) for kernels in KERNELS)
    names = [f"Upscaling {f'{n} of ' if n > 1 else ''}{height}x{width}" for n, height, width in sizes]
    return [Workload(name, fused, stock) for name, fused, stock in zip(names, *sides, strict=True)]


# --- text


def _introduction() -> str:
    version = ".".join(torch.__version__.split(".")[:2])
    return f"""# GPU roofline: a prediction

Everything in this file is predicted, nothing measured, but for the last tables, which hold the prediction against an
H200. It is written by `python tools/gpu_roofline.py`; do not edit it. Shapes of layers come from tracing the real step
and networks without computing (PyTorch {version}), tiles and grids from `csrc/kernels/cuda/plan.h` itself, compiled
into a small program, figures of the H200 from [cuda.md](cuda.md). `python tools/gpu_roofline.py --check` says whether
this file is up to date.

The training step is `{GENERATOR_PRESET}`'s generator with 16 blocks, the patch discriminator and VGG19 `{FEATURES}`,
batch {STEP_BATCH}, crops of {HR}x{HR}, both optimisers included, maps in bfloat16. Upscaling is the bundled model, such
a generator, in float16 on one picture of that many low-resolution pixels, BatchNorms folded on both sides, with the
kernels of inference as `srgan_fast/runtime/cuda_generator.py` calls them. "Unfused" is the same with PyTorch's
operators, each in a pass of its own."""


def _ceilings() -> str:
    rows = [
        (c.name, f"{c.tflops:g}", f"{c.gb_s:g}", str(c.multiprocessors),
         f"{c.shared_block // KIB} / {c.shared_all // KIB}", c.source)
        for c in (*CEILINGS, H200)
    ]  # fmt: skip
    head = ("", "bf16 TFLOP/s, dense", "GB/s", "multiprocessors", "shared KiB, block / all", "source")
    caption = (
        "What each prediction is divided by: the makers' figures, float16 being as fast as bfloat16. Shared memory is "
        "that of the compute capability (CUDA C++ Programming Guide)."
    )
    return f"## Ceilings\n\n{_table(caption, head, rows)}"


def _model() -> str:
    return """## How it is predicted

- **GFLOP** counts the direct convolution, two operations for a product and a sum. **Multiplied** is what our tiles
  really compute for each of these, pixels outside the image and channels that fill up a block included.
- **Once** counts the bytes of every kernel with each map, weight and partial sum read or written once. **Moved** is
  what the blocks ask for: windows with their halos (cut at the image's edge), once for every block of channels; each
  tap's weights again for every tile, or once for every block where blocks keep them; of the weight gradient both maps
  for every block of channels and, of 5x5 filters, for every row of taps. Both include side outputs, packing and
  padding, partial sums and the kernels that merge them.
- Where torch's library multiplies, as `uses_library` in `plan.h` says, its products read and write everything once and
  share the image's operations evenly, and our passes around them are counted as they are launched. What both gradients
  of a convolution take is made by one pass, which stands among what is not fused. Weights are taken to be cast once for
  each forward call, though a step casts D's once and VGG's never.
- Upscaling's head unfolds the picture, 54 values to a pixel of 64 channels, which are written and read again, and
  multiplies ten rows of taps instead of nine. Its tail is a 5x5 convolution before the shuffle instead of the 9x9 one
  behind it; it multiplies 60 columns as 64, and of a block's 32 columns of pixels four are only other blocks' halo.
  Weights are packed once for all pictures.
- The **floor** of a kernel is the longer of its products at the peak and its bytes, once, at the memory's rate; kernels
  follow each other, and starting them is free. The products of our kernels count as often as the multiprocessor with
  most tiles has to compute: a grid that does not fill the device cannot have its peak. For unfused convolutions, whose
  tiles are not known, the image's operations are spread evenly, which favours them.
- **Without a cache** is the same floor with the bytes moved: as if nothing that a block reads again were still in the
  second-level cache. The truth lies between, near the first while maps and weights fit (40 to 96 MB on these GPUs).
- A **ratio** is the unfused floor over the fused one: above 1 fusion may win.
- Unfused BatchNorm reads its map twice forward; backward it reads its two maps twice. A convolution's bias is a pass of
  its own, as PyTorch adds it behind cuDNN's convolution. In whole steps and their parts the unfused side is every
  operator that the step runs with PyTorch's kernels, in the tables of operators what the fused call stands for."""


def _totals(works: Sequence[Workload], predictor: Predictor) -> str:
    rows = []
    for work in works:
        useful = sum(e.what.flops for e in work.stock if isinstance(e.what, Pass))
        for ceiling in CEILINGS:
            fused, stock = predictor.floor(work.fused, ceiling), predictor.floor(work.stock, ceiling)
            rows.append(
                (work.name, ceiling.name, _figure(useful / 1e9), f"{fused.flops / useful:.2f}",
                 f"{_figure(fused.bytes / 1e9)} / {_figure(fused.moved / 1e9)}", _figure(stock.bytes / 1e9),
                 f"{fused.launches} / {stock.launches}",
                 f"{_figure(1e3 * fused.seconds)} / {_figure(1e3 * fused.uncached)}", _figure(1e3 * stock.seconds),
                 f"**{stock.seconds / fused.seconds:.2f}x** / {stock.seconds / fused.uncached:.2f}x")
            )  # fmt: skip
    head = (
        "", "GPU", "GFLOP", "multiplied", "fused GB, once / moved", "unfused GB", "launches, fused / unfused",
        "fused floor, ms, / without a cache", "unfused floor, ms", "predicted ratio / without a cache",
    )  # fmt: skip
    return f"""## Whole steps

{_table("Predicted: a training step and pictures.", head, rows)}

Launches count one kernel for every operator that is not fused, two for BatchNorm. Norms of gradients are counted one by
one on both sides, {_norms(works[0])} of them, where a GPU takes many at once."""


def _norms(work: Workload) -> int:
    return sum(isinstance(e.what, Pass) and e.what.name == "linalg_vector_norm" for e in work.fused)


def _parts(work: Workload, predictor: Predictor) -> str:
    rest = "losses, norms, optimisers"

    def part_of(event: Event) -> str:
        return event.part if event.network in NETWORKS else rest

    names = list(dict.fromkeys(name for e in work.fused if (name := part_of(e)) != rest))
    rows = []
    for name in (*names, rest):
        events = [[e for e in side if part_of(e) == name] for side in (work.fused, work.stock)]
        fused, stock = (predictor.floor(side, SHOWN) for side in events)
        rows.append(
            (name, _figure(stock.flops / 1e9), f"{_figure(fused.bytes / 1e6)} / {_figure(fused.moved / 1e6)}",
             _figure(stock.bytes / 1e6), f"{fused.launches} / {stock.launches}", _figure(1e6 * fused.seconds),
             _figure(1e6 * stock.seconds), f"{stock.seconds / fused.seconds:.2f}x")
        )  # fmt: skip
    head = (
        "part", "GFLOP", "fused MB, once / moved", "unfused MB", "launches, fused / unfused", "fused floor, us",
        "unfused floor, us", "predicted ratio",
    )  # fmt: skip
    return f"""## The step's parts

{_table(f"Predicted for {SHOWN.name}: the parts of a GAN step, by the names that profilers show.", head, rows)}"""


def _operators(work: Workload, predictor: Predictor) -> str:
    rows = []
    for (network, call), count in _calls([work]):
        fused = {c.name: predictor.floor([Event(network, call)], c) for c in CEILINGS}
        stock = {c.name: floor_of(unfused_passes(call), c) for c in CEILINGS}
        shown = fused[SHOWN.name]
        rows.append(
            (f"{network} {call.shape}", _NAMES[call.direction], call.around, str(count),
             _figure(call.flops / 1e9), f"{shown.flops / call.flops:.2f}",
             f"{_figure(shown.bytes / 1e6)} / {_figure(shown.moved / 1e6)}",
             _figure(stock[SHOWN.name].bytes / 1e6), f"{shown.launches} / {stock[SHOWN.name].launches}",
             " / ".join(_figure(1e6 * fused[c.name].seconds) for c in CEILINGS),
             " / ".join(f"{stock[c.name].seconds / fused[c.name].seconds:.2f}" for c in CEILINGS))
        )  # fmt: skip
    others = [e for e in work.fused if isinstance(e.what, Pass)]
    for network in dict.fromkeys(e.network if e.network in NETWORKS else "other" for e in others):
        same = [e for e in others if network == (e.network if e.network in NETWORKS else "other")]
        of_all = predictor.floor(same, SHOWN)
        rows.append(
            (f"{network}: PyTorch's operators", "", "", "", _figure(of_all.flops / 1e9), "",
             _figure(of_all.bytes / 1e6), "", str(of_all.launches),
             " / ".join(_figure(1e6 * predictor.floor(same, c).seconds) for c in CEILINGS), "")
        )  # fmt: skip
    order = " / ".join(c.name for c in CEILINGS)
    kind = "direction" if any(isinstance(event.what, Call) for event in work.fused) else "operator"
    head = (
        "convolution", kind, "with", "times", "GFLOP", "multiplied", "fused MB, once / moved", "unfused MB",
        "launches, fused / unfused", "fused floor, us", "predicted ratio",
    )  # fmt: skip
    caption = (
        f"Predicted for one call of each operator; bytes with {SHOWN.name}'s tiles; floors and ratios for {order}."
    )
    if others:
        caption += " What is not fused stands behind, all calls together."
    return f"## {work.name}: operators\n\n{_table(caption, head, rows)}"


def _shapes(works: Sequence[Workload], predictor: Predictor) -> str:
    def cell(call: Call | InferCall, ceiling: Ceiling) -> str:
        plan = predictor.plan(call, ceiling)
        if isinstance(plan, LibraryPlan):
            return f"library; passes of {plan.z_blocks} and {plan.y_blocks} blocks"
        if call.direction == "wgrad":
            tile = f"{plan.rows}x{plan.columns}, {plan.splits} shares, {plan.stages} stages"
        else:
            tile = f"{plan.rows}x{plan.columns}x{plan.channels}"
        shared, at_once = _figure(plan.shared / KIB), plan.at_once(ceiling)
        return f"{tile}; {shared} KiB; {at_once}; {plan.blocks}; {plan.waves(ceiling):.2f}"

    rows = [
        (f"{network} {call.shape}", _NAMES[call.direction], call.around, *(cell(call, c) for c in CEILINGS))
        for (network, call), _ in _calls(works)
    ]
    caption = (
        "Predicted: tile (pixels x channels; of weight gradients output x input channels, with shares of the pixels "
        "and tiles under way); shared memory of a block; blocks that a multiprocessor has at once, at least; blocks; "
        "waves, which is how often the grid fills the device."
    )
    return f"## Tiles\n\n{_table(caption, ('convolution', 'direction', 'with', *(c.name for c in CEILINGS)), rows)}"


def _upscaling_shapes(works: Sequence[Workload], predictor: Predictor) -> str:
    def cell(call: Call | InferCall, ceiling: Ceiling) -> str:
        plan = predictor.own(call, ceiling)
        tile = f"{plan.rows}x{plan.columns}x{plan.channels}{', kept' if plan.keeps else ''}"
        window, shared = _figure(plan.window / KIB), _figure(plan.shared / KIB)
        of_grid = f"{plan.blocks} for {plan.tiles * plan.grid[1]}; {plan.waves(ceiling):.2f}"
        return f"{tile}; {window} of {shared} KiB; {plan.at_once(ceiling)}; {of_grid}"

    rows = [
        (call.shape, _NAMES[call.direction], call.around, _figure(predictor.own(call, SHOWN).packed / KIB),
         *(cell(call, c) for c in CEILINGS))
        for (_, call), _ in _calls(works)
    ]  # fmt: skip
    caption = (
        "Predicted: tile (pixels x channels), and whether blocks keep their weights; the window's share of a block's "
        "shared memory; blocks that a multiprocessor has at once, at least; blocks for tiles (times blocks of "
        "channels); waves."
    )
    head = ("convolution", "operator", "with", "packed weights, KiB", *(c.name for c in CEILINGS))
    return f"## Tiles of upscaling\n\n{_table(caption, head, rows)}"


def _comparison(step: Workload, layers: list[LayerEvents], measured: Measured, predictor: Predictor) -> str:
    flat = [pair for row in measured.layers for pair in row]
    if len(flat) != len(layers):
        raise UsageError(f"docs/cuda.md has {len(flat)} times of layers, and bench/gpu/layers.py times {len(layers)}")
    rows, over, ratios = [], [], []
    for layer, times in zip(layers, flat, strict=True):
        floors = [predictor.floor(events, H200).seconds for events in (layer.fused, layer.stock)]
        rows.append((layer.layer, layer.direction, *_held(floors, times, 1e6)))
        over.append((times[0] / floors[0], times[1] / floors[1]))
        ratios.append((floors[1] / floors[0], times[1] / times[0]))
    spans = [
        f"{min(side):.1f} to {max(side):.1f} times its floor (median {statistics.median(side):.1f})"
        for side in zip(*over, strict=True)
    ]
    promised = [given for predicted, given in ratios if predicted > 1]
    kept = sum(given > 1 for given in promised)
    whole = [predictor.floor(events, H200) for events in (step.fused, step.stock)]
    taken = measured.fused_step, measured.stock_step
    gaps = [_figure(1e6 * (time - floor.seconds) / floor.launches) for time, floor in zip(taken, whole, strict=True)]
    of_layers = _table(
        f"Predicted floors and measured times, batch {LAYERS_BATCH}, microseconds; unfused is what "
        "`tools/gpu_report.py` times as PyTorch's: of gradients the convolution's and the activation's alone.",
        ("layer", "direction", *_HELD),
        rows,
    )
    of_step = _table(
        f"Predicted floor and measured time of a GAN step, batch {STEP_BATCH}, replayed from a CUDA graph, "
        "milliseconds.",
        ("", *_HELD),
        [("GAN step", *_held([floor.seconds for floor in whole], taken, 1e3))],
    )
    return f"""## Predicted against measured on an H200

{of_layers}

Measured, a layer takes {spans[0]} with our kernels,
and {spans[1]} with PyTorch's. Of {len(promised)} predicted ratios above 1,
{kept} were measured above 1.

{of_step}

What was measured beyond the predicted floor, spread over all launches, is {gaps[0]} us a kernel with ours and {gaps[1]}
us with PyTorch's. At this batch a step consists mostly of that, not of bytes or products."""


def _upscaling_comparison(works: Sequence[Workload], upscaled: Sequence[Upscaled], predictor: Predictor) -> str:
    rows, ours, stock, gaps, rates = [], [], [], [], []
    for work, found in zip(works, upscaled, strict=True):
        floors = [predictor.floor(events, H200) for events in (work.fused, work.stock)]
        compiled = "" if found.compiled is None else _figure(1e3 * found.compiled)
        rows.append((work.name, *_held([f.seconds for f in floors], (found.ours, found.eager), 1e3), compiled))
        ours.append(found.ours / floors[0].seconds)
        if found.eager is not None:
            stock.append(found.eager / floors[1].seconds)
        gaps.append(1e6 * (found.ours - floors[0].seconds) / floors[0].launches)
        rates.append(1e-12 * floors[0].flops / found.ours)
    of_ours, of_stock = (f"{min(side):.1f} to {max(side):.1f}" for side in (ours, stock))
    table = _table(
        "Predicted floors and measured times of upscaling, replayed from CUDA graphs, milliseconds; unfused is PyTorch "
        "without compilation.",
        ("", *_HELD, "torch.compile, measured"),
        rows,
    )
    return f"""{table}

Measured, upscaling takes {of_ours} times its floor with our kernels and {of_stock} times its floor
with PyTorch's. With the padding, ours multiply {_figure(min(rates))} to {_figure(max(rates))} TFLOP/s of the makers'
{H200.tflops:g}. What the first of these pictures takes beyond the floor is {_figure(gaps[0])} us a kernel."""


_HELD = (
    "predicted fused", "measured", "measured / predicted", "predicted unfused", "measured", "measured / predicted",
    "predicted ratio", "measured ratio",
)  # fmt: skip


def _held(floors: Sequence[float], times: Sequence[float | None], scale: float) -> tuple[str, ...]:
    """Cells of `_HELD`, empty where nothing was measured."""
    found: list[str] = []
    for floor, time in zip(floors, times, strict=True):
        found += [
            _figure(scale * floor),
            *(("", "") if time is None else (_figure(scale * time), f"{time / floor:.1f}")),
        ]
    fused, stock = times
    measured = "" if fused is None or stock is None else f"{stock / fused:.2f}x"
    return (*found, f"{floors[1] / floors[0]:.2f}x", measured)


def _doubts() -> str:
    return """## What the prediction does not know

- Instructions. Our kernels spend most of what they issue on addresses, prologues and epilogues (cuda.md), and
  `mma.sync` does not reach Hopper's peak, which needs `wgmma`: where many channels make the products the floor, the
  prediction is far too good for ours and nearer for cuDNN's. A predicted ratio above 1 does not say that fusion wins.
- Early starts. Kernels of upscaling begin, and fetch the weights that they keep, before the one in front of them ends;
  the floor counts them one after another.
- Latency. Grids of less than a wave, chains of short kernels and barriers between chunks cost what no floor counts.
- Caches. At batch 16 the trunk's maps have about a megabyte each, of a picture of 128x128 two, and can stay in the
  second-level cache, so that unfused passes are cheaper than their bytes say; and what is read again may miss.
- Clocks. Makers state peaks at boost clocks that dense products do not hold.
- Registers. Blocks at once are what the launch bounds promise; the compiler may leave room for more.
- cuDNN's tiles, its workspaces and transposes, and how many kernels an operator of PyTorch's really launches.
- On a GPU autocast casts a few tensors elsewhere than on a CPU, where the step was traced."""


# --- forms


def _calls(works: Sequence[Workload]) -> list[tuple[tuple[str, Call | InferCall], int]]:
    """Different calls of each network and how often they are made, by network, direction and first use."""
    counts = Counter(
        (event.network, event.what) for work in works for event in work.fused if not isinstance(event.what, Pass)
    )
    directions = list(_NAMES)
    return sorted(counts.items(), key=lambda item: (NETWORKS.index(item[0][0]), directions.index(item[0][1].direction)))


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return f"*{caption}*\n\n" + "\n".join(lines)


def _figure(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{float(f'{value:.3g}'):,.10g}".replace(",", "")
