"""The predicted GPU roofline counts as one would by hand, asks plan.h for tiles, and its file is up to date."""

import importlib.util
import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from srgan_fast.bench.gpu.roofline import make_document
from srgan_fast.bench.gpu.roofline.calls import Call, InferCall, Pass
from srgan_fast.bench.gpu.roofline.ceilings import CEILINGS, H200, Ceiling
from srgan_fast.bench.gpu.roofline.floors import floor_of
from srgan_fast.bench.gpu.roofline.fused import fused_passes
from srgan_fast.bench.gpu.roofline.measured import read_measured
from srgan_fast.bench.gpu.roofline.plans import COMPILER, LibraryPlan, Plan, Planner
from srgan_fast.bench.gpu.roofline.trace import KERNELS, Event, trace_inference, trace_step
from srgan_fast.bench.gpu.roofline.unfused import operator_passes, unfused_passes
from srgan_fast.errors import UsageError
from srgan_fast.ops.native import available

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "gpu-roofline.md"
needs_compiler = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"not installed: {COMPILER}")
needs_operators = pytest.mark.skipif(not available(), reason="the fused operators are not built")

# A device of one multiprocessor that multiplies 1e12 times and moves 1e9 bytes a second.
SMALL = Ceiling("small", 1.0, 1.0, 1, 64 * 1024, 64 * 1024, 1024, "")
# Tiles of 8x8 pixels by 64 channels; an image of 16x16 has four.
FORWARD = Plan(
    8, 8, 128, 3, 30000, (4, 1, 1), 64, 64,
    channels=64, depth=64, step=1, spread=1, reach=(-1, -1, 3, 3), taps=(9,), tiles=4,
)  # fmt: skip
CALL = Call("forward", 1, 64, 64, 16, 16, 3, 1)


def own(plan: Plan | LibraryPlan) -> Plan:
    assert isinstance(plan, Plan)
    return plan


def by_name(passes: list[Pass]) -> dict[str, Pass]:
    return {p.name: p for p in passes}


# --- bytes and operations by hand


def test_a_forward_convolution_by_hand() -> None:
    passes = by_name(fused_passes(CALL, FORWARD, SMALL))
    assert list(passes) == ["packing of weights", "convolution"]
    weights, the_map = 9 * 64 * 64, 16 * 16 * 64 * 2
    assert passes["packing of weights"].bytes == weights * (4 + 2)
    conv = passes["convolution"]
    assert conv.bytes == the_map + weights * 2 + the_map
    # Windows of 10x10 lose the row and the column that lie outside: 9 + 9 pixels of 16 in both directions.
    assert conv.moved == 18 * 18 * 64 * 2 + 4 * weights * 2 + the_map
    assert conv.flops == CALL.flops == 2 * 16 * 16 * weights
    assert conv.busiest == conv.flops


def test_moments_a_residual_and_few_channels_add_their_passes() -> None:
    passes = by_name(fused_passes(replace(CALL, moments=True, residual=True), FORWARD, SMALL))
    the_map = 16 * 16 * 64 * 2
    plain = by_name(fused_passes(CALL, FORWARD, SMALL))["convolution"]
    # Another map is read and a sum written, and each tile leaves two moments of a channel.
    assert passes["convolution"].bytes == plain.bytes + 2 * the_map + 4 * 2 * 64 * 4
    assert passes["merge of moments"].bytes == 4 * 2 * 64 * 4 + 2 * 64 * 4
    rgb = by_name(fused_passes(replace(CALL, channels=3), replace(FORWARD, depth=16, weight_columns=16), SMALL))
    assert rgb["padding of channels"].bytes == 16 * 16 * (3 + 8) * 2
    assert rgb["convolution"].flops == 2 * 16 * 16 * 9 * 16 * 64, "channels of a chunk are multiplied, there or not"


def test_a_data_gradient_through_a_stride_by_hand() -> None:
    call = Call("dgrad", 1, 64, 64, 16, 16, 3, 2, normalises=True, activates=True, moments=True)
    # Each of four phases computes 8x8 pixels from the 8x8 of dy, to which windows of 9x9 reach; the last is outside.
    plan = replace(FORWARD, grid=(1, 1, 4), tiles=1, spread=2, reach=(0, 0, 2, 2), taps=(1, 2, 2, 4))
    passes = by_name(fused_passes(call, plan, SMALL))
    weights, dy, z = 9 * 64 * 64 * 2, 2 * 8 * 8 * 64 * 2, 16 * 16 * 64 * 2
    sums = 4 * 3 * 64 * 4
    assert passes["data gradient"].bytes == dy + weights + 2 * z + sums
    assert passes["data gradient"].moved == 4 * dy + weights + 2 * z + sums
    assert passes["data gradient"].flops == call.flops
    assert passes["sum over tiles"].bytes == sums + 3 * 64 * 4


def test_a_weight_gradient_by_hand() -> None:
    call = Call("wgrad", 1, 64, 128, 16, 16, 3, 1, bias=True)
    plan = Plan(64, 64, 256, 1, 60000, (2, 2, 1), 128, 64, tap_rows=3, side=8, splits=2, stages=2)
    passes = by_name(fused_passes(call, plan, SMALL))
    parts, dy, z = 2 * 9 * 128 * 64 * 4, 16 * 16 * 128 * 2, 16 * 16 * 64 * 2
    biases = 2 * 128 * 4
    assert passes["weight gradient"].bytes == dy + z + parts + biases
    assert passes["weight gradient"].moved == dy + 2 * 18 * 18 * 64 * 2 + parts + biases
    assert passes["weight gradient"].flops == call.flops
    assert passes["weight gradient"].busiest == call.flops
    assert passes["sum over shares"].bytes == parts + 9 * 128 * 64 * 4
    assert passes["sum of biases"].bytes == biases + 128 * 4


def test_passes_around_the_library_by_hand() -> None:
    plan = LibraryPlan(z_blocks=4, y_blocks=2)
    z, y, weights = 16 * 16 * 64 * 2, 16 * 16 * 128 * 2, 9 * 64 * 128
    call = Call("forward", 1, 64, 128, 16, 16, 3, 1, normalises=True, activates=True, moments=True, bias=True)
    passes = {p.name: p.bytes for p in fused_passes(call, plan, SMALL)}
    moments = 2 * 2 * 128 * 4
    assert passes == {
        "prologue": 2 * z,
        "weights to 16 bits": weights * 6,
        "convolution": z + y + weights * 2,
        "epilogue": 2 * y + moments,
        "merge of moments": moments,
    }
    back = replace(call, direction="dgrad", bias=False, residual=True, activates=False, sum_gradient=True)
    passes = {p.name: p.bytes for p in fused_passes(back, plan, SMALL)}
    sums = 4 * 3 * 64 * 4
    assert passes == {
        "gradient, made": 3 * y,
        "data gradient": z + y + weights * 2,
        "prologue's gradient": 5 * z + sums,  # of dz, x, the sum; to dx, the residual's
        "sum over blocks": sums,
    }
    of_weights = fused_passes(replace(call, direction="wgrad"), plan, SMALL)
    assert [p.name for p in of_weights] == [
        "gradient, made", "sum over blocks", "prologue", "weight gradient", "weight gradient to 32 bits",
    ]  # fmt: skip
    assert sum(p.flops for p in of_weights) == call.flops
    first, *_ = fused_passes(replace(call, direction="wgrad", moments=False), plan, SMALL)
    assert first.name == "gradient of the bias"


@needs_operators
def test_what_both_gradients_take_is_made_once() -> None:
    events = [event.what for event in trace_step("fused", 1, 32)]
    calls = [event for event in events if isinstance(event, Call)]
    pairs = [pair for pair in itertools.pairwise(calls) if [c.direction for c in pair] == ["dgrad", "wgrad"]]
    made = [event for event in events if isinstance(event, Pass) and event.name == "gradient, made"]
    # G's trunk, upsamplers and tail, and twice D's convolutions but the first; moments stand behind G's trunk and D.
    assert len(pairs) == 33 + 2 + 1 + 2 * 8
    assert len(made) == 33 + 2 * 7
    assert not [pair for pair in pairs if pair[0].two_gradients and pair[1].two_gradients]
    assert {call.out for call in calls if call.taps == 5} == {16}


def test_unfused_passes_by_hand() -> None:
    the_map, weights = 16 * 16 * 64 * 2, 9 * 64 * 64 * 2
    call = replace(CALL, normalises=True, activates=True, moments=True)
    passes = {p.name: p.bytes for p in unfused_passes(call)}
    assert passes == {
        "BatchNorm, applied": 2 * the_map,
        "activation before": 2 * the_map,
        "convolution": 2 * the_map + weights,
        "BatchNorm, statistics": the_map,
    }
    assert sum(p.flops for p in unfused_passes(call)) == CALL.flops


def test_operators_of_torch_are_counted_by_their_tensors() -> None:
    aten = torch.ops.aten
    x, y = torch.empty(2, 8, 4, 4), torch.empty(2, 8, 4, 4)
    assert [p.bytes for p in operator_passes(aten.add.Tensor, {"self": x, "other": y}, y)] == [3 * 4 * 256]
    assert [p.bytes for p in operator_passes(aten.add_.Tensor, {"self": x, "other": y}, x)] == [3 * 4 * 256]
    assert [p.bytes for p in operator_passes(aten.copy_.default, {"self": x, "src": y}, x)] == [2 * 4 * 256]
    assert operator_passes(aten.view.default, {"self": x, "size": [256]}, x.view(256)) == []
    weight, bias = torch.empty(16, 8, 3, 3), torch.empty(16)
    arguments = {"input": x, "weight": weight, "bias": bias}
    conv, added = operator_passes(aten.convolution.default, arguments, torch.empty(2, 16, 4, 4))
    assert (conv.bytes, conv.flops) == (4 * (256 + 16 * 72 + 512), 2 * 512 * 72)
    assert added.bytes == 2 * 4 * 512


def test_a_floor_is_the_longer_of_products_and_bytes() -> None:
    assert floor_of([Pass("bytes", 10**9), Pass("products", 1, 2 * 10**12)], SMALL).seconds == pytest.approx(3.0)
    assert floor_of([Pass("again", 10**9, moved=2 * 10**9)], SMALL).uncached == pytest.approx(2.0)
    # One of two multiprocessors has all to do.
    assert floor_of([Pass("alone", 1, 10**12, busiest=10**12)], replace(SMALL, multiprocessors=2)).seconds == 2.0


def test_blocks_at_once_are_limited_by_memory_registers_and_threads() -> None:
    assert FORWARD.at_once(SMALL) == 2
    assert replace(FORWARD, shared=1000).at_once(SMALL) == 3
    assert replace(FORWARD, shared=1000, threads=1024).at_once(SMALL) == 1
    assert FORWARD.waves(SMALL) == 2.0


def test_a_convolution_of_inference_whose_blocks_keep_their_weights_by_hand() -> None:
    call = InferCall("conv", 1, 64, 64, 16, 16, activates=True, residual=True)
    plan = replace(FORWARD, grid=(3, 1, 1), keeps=True, weight_rows=128)
    (conv,) = fused_passes(call, plan, SMALL)
    weights, the_map = 9 * 64 * 64 * 2, 16 * 16 * 64 * 2
    assert conv.bytes == weights + 3 * the_map, "the residual is read, and half of the packed rows are not"
    assert conv.moved == 18 * 18 * 64 * 2 + 3 * weights + 2 * the_map
    assert conv.flops == call.flops == CALL.flops
    assert conv.busiest == conv.flops
    on_two = fused_passes(call, plan, replace(SMALL, multiprocessors=2))[0]
    assert on_two.busiest == conv.flops // 2, "three blocks share four tiles"


def test_the_head_of_inference_by_hand() -> None:
    call = InferCall("head", 1, 3, 64, 16, 16, activates=True)
    plan = replace(FORWARD, reach=(-3, 0, 9, 1), taps=(5,), weight_rows=128)
    unfold, conv = fused_passes(call, plan, SMALL)
    picture, unfolded = 16 * 16 * 3 * 4, 17 * 16 * 64 * 2
    assert (unfold.bytes, unfold.moved) == (picture + unfolded, 2 * picture + unfolded)
    weights, features = 5 * 64 * 64 * 2, 16 * 16 * 64 * 2
    assert conv.bytes == unfolded + weights + features
    # Windows of 16 rows lose three above the 17 and four below them.
    assert conv.moved == (13 + 12) * 16 * 64 * 2 + 4 * weights + features
    assert call.flops == 2 * 16 * 16 * 64 * 3 * 81
    assert conv.flops == 2 * 16 * 16 * 64 * 5 * 64


def test_a_residual_block_by_hand() -> None:
    call = InferCall("block", 1, 64, 64, 16, 16, activates=True, residual=True)
    # Two tiles of 8 rows, each with 10 of 18 pixels between, 192 with the rest of fragments.
    plan = replace(
        FORWARD, rows=8, columns=16, grid=(2, 1, 1), tiles=2, reach=(-2, -2, 5, 5), taps=(9, 9), inner=192, keeps=True
    )
    (block,) = fused_passes(call, plan, SMALL)
    weights, the_map = 2 * 9 * 64 * 64 * 2, 16 * 16 * 64 * 2
    assert block.bytes == weights + 2 * the_map, "what is between the convolutions is nowhere"
    assert block.moved == 2 * 10 * 16 * 64 * 2 + 2 * weights + the_map, "windows end where the picture does"
    assert call.flops == 2 * 2 * 16 * 16 * 9 * 64 * 64
    assert block.flops == 2 * 2 * (192 + 128) * 9 * 64 * 64
    two = fused_passes(call, replace(FORWARD, keeps=True), SMALL)
    assert [one.name for one in two] == ["convolution", "convolution"]
    assert sum(one.flops for one in two) == call.flops


def test_the_tail_of_inference_by_hand() -> None:
    call = InferCall("tail", 1, 256, 3, 8, 30)
    # Of 32 columns 28 are results, so that two more need a second block.
    plan = replace(
        FORWARD, columns=32, halo=4, grid=(2, 1, 1), tiles=2, reach=(-2, -2, 5, 1), taps=(5,), weight_columns=256
    )
    (tail,) = fused_passes(call, plan, SMALL)
    weights, picture = 5 * 64 * 256 * 2, 16 * 60 * 3 * 4
    assert tail.bytes == 8 * 30 * 256 * 2 + weights + picture
    assert tail.moved == 8 * (30 + 4) * 256 * 2 + 2 * weights + picture
    assert call.flops == 2 * 16 * 60 * 3 * 64 * 81
    assert tail.flops == 2 * 2 * 8 * 32 * 64 * 5 * 256


# --- plan.h


@needs_compiler
def test_a_changed_tile_changes_the_plan_and_the_bytes(tmp_path: Path) -> None:
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    large = Call("forward", 16, 3, 64, 96, 96, 3, 1)
    before = Planner(csrc).plan([large], H200)[large]
    assert isinstance(before, Plan)
    assert (before.rows, before.columns) == (16, 16)
    file = csrc / "kernels" / "cuda" / "plan.h"
    text, changed = re.subn(
        r"(case Tile::kLargeShallow: return \{)16, 16,", r"\g<1>8, 16,", file.read_text(encoding="utf-8")
    )
    assert changed == 1
    file.write_text(text, encoding="utf-8")
    after = Planner(csrc).plan([large], H200)[large]
    assert after != before
    of = [floor_of(fused_passes(large, plan, H200), H200) for plan in (before, after)]
    assert of[0].moved != of[1].moved


@needs_compiler
def test_plans_fit_their_devices() -> None:
    planner = Planner(ROOT / "csrc")
    calls = [
        Call("forward", 16, 64, 64, 24, 24, 3, 1, normalises=True, residual=True, moments=True),
        Call("forward", 16, 64, 128, 48, 48, 3, 2),
        Call("dgrad", 16, 64, 128, 48, 48, 3, 2, activates=True, moments=True),
        Call("dgrad", 1, 256, 12, 20, 30, 5, 1),
        Call("wgrad", 16, 256, 512, 12, 12, 3, 1, moments=True, bias=True),
        Call("wgrad", 16, 3, 64, 96, 96, 3, 1, bias=True),
        InferCall("head", 1, 3, 64, 20, 30, activates=True),
        InferCall("conv", 2, 64, 256, 20, 30, activates=True, shuffle=True),
        InferCall("conv", 1, 128, 128, 20, 30, residual=True),
        InferCall("block", 1, 64, 64, 20, 30, activates=True, residual=True),
        InferCall("tail", 1, 256, 3, 40, 60),
    ]
    by_library = [False, True, True, False, True, False, False, False, False, False, False]
    for ceiling in (*CEILINGS, H200):
        plans = planner.plan([*calls, *calls], ceiling)
        assert list(plans) == calls
        assert [isinstance(plan, LibraryPlan) for plan in plans.values()] == by_library
        for call, plan in plans.items():
            if isinstance(plan, LibraryPlan):
                assert min(plan.z_blocks, plan.y_blocks) > 0
                assert sum(p.flops for p in fused_passes(call, plan, ceiling)) == call.flops
                continue
            assert 0 <= plan.window < plan.shared <= ceiling.shared_block
            passes = fused_passes(call, plan, ceiling)
            product = max(passes, key=lambda p: p.flops)
            assert sum(p.flops for p in passes) >= call.flops, "tiles cover the image"
            assert product.moved is not None
            assert product.moved > 0


@needs_compiler
def test_blocks_keep_weights_where_they_fit_twice() -> None:
    planner = Planner(ROOT / "csrc")
    call, wide = (InferCall("conv", 1, channels, channels, 256, 256) for channels in (64, 128))
    rtx = next(ceiling for ceiling in CEILINGS if ceiling.name == "RTX 4090")
    plans = {call: own(plan) for call, plan in planner.plan([call, wide], H200).items()}
    assert [plan.keeps for plan in plans.values()] == [True, False]
    assert plans[call].at_once(H200) == 2
    assert plans[call].packed == 9 * 128 * 64 * 2
    assert not own(planner.plan([call], rtx)[call]).keeps
    large = replace(call, height=512, width=512)
    plan = own(planner.plan([large], H200)[large])
    assert (plan.blocks, plan.tiles) == (2 * H200.multiprocessors, 1024)


def test_what_is_missing_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^.*print_plan.cpp is not there; .*sources$"):
        Planner(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"^predictions ask the kernels' own headers, which needs g\+\+; install it$"):
        Planner(ROOT / "csrc")


def test_measurements_are_read_from_the_documents() -> None:
    measured = read_measured(ROOT / "docs" / "cuda.md")
    assert all(len(row) == 3 for row in measured.layers)
    assert 0 < measured.stock_step < 1
    assert (8, 128, 128) in [(found.batch, found.height, found.width) for found in measured.upscaled]
    assert all(0 < found.ours < (found.eager or 1.0) for found in measured.upscaled)


def test_other_tables_are_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "cuda.md").write_text("nothing\n")
    with pytest.raises(UsageError, match="has no table of layers"):
        read_measured(tmp_path / "cuda.md")
    right = (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8")
    for there, instead, problem in (
        ("Upscaling, milliseconds", "Upscaling", "has no table 'Upscaling"),
        ("| 128x128 |", "| small |", "needs sizes like '8 of 128x128' and rows"),
        ("**0.330**", "fast", "could not convert string to float: 'fast'"),
    ):
        assert there in right
        (tmp_path / "cuda.md").write_text(right.replace(there, instead))
        with pytest.raises(UsageError, match=problem):
            read_measured(tmp_path / "cuda.md")
    with pytest.raises(UsageError, match="No such file"):
        read_measured(tmp_path / "none.md")


# --- the step and the file


def expanded(events: list[Event]) -> list[Pass]:
    return [p for e in events for p in ([e.what] if isinstance(e.what, Pass) else unfused_passes(e.what))]


@needs_operators
def test_fused_calls_stand_for_what_the_unfused_step_does() -> None:
    fused, stock = trace_step("fused", 16, 96), trace_step("reference", 16, 96)
    by_hand, traced = (floor_of(expanded(events), H200) for events in (fused, stock))
    # The tail is a 5x5 convolution before its shuffle, of 1.2 times the products of the 9x9 one behind it.
    assert by_hand.flops == pytest.approx(traced.flops, rel=0.02)
    assert by_hand.bytes == pytest.approx(traced.bytes, rel=0.15)
    assert {event.network for event in fused} >= {"G", "D", "VGG"}


def test_calls_of_inference_stand_for_what_the_unfused_generator_does() -> None:
    (fused,), (stock,) = (trace_inference(kernels, [(2, 24, 40)]) for kernels in KERNELS)
    calls = [event.what for event in fused if isinstance(event.what, InferCall)]
    assert [calls[0].direction, calls[-1].direction] == ["head", "tail"]
    assert len(calls) == len(fused) == 1 + 16 + 1 + 2 + 1, "a generator with 16 blocks has so many operators"
    by_hand, traced = (floor_of(expanded(events), H200) for events in (fused, stock))
    assert by_hand.flops == traced.flops
    # What maps a picture's values is left to PyTorch's side.
    assert by_hand.bytes == pytest.approx(traced.bytes, rel=0.02)


@pytest.fixture(scope="module")
def document() -> str:
    if shutil.which(COMPILER) is None or not available():
        pytest.skip("needs g++ and the fused operators")
    return make_document(ROOT)


def test_the_file_is_up_to_date(document: str) -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    version = re.search(r"\(PyTorch (\d+\.\d+)\)", written)
    assert version is not None
    if not torch.__version__.startswith(f"{version[1]}."):
        pytest.skip(f"it was written with PyTorch {version[1]}, which may run other operators")
    assert written == document, "run python tools/gpu_roofline.py"


def test_every_table_says_that_it_is_predicted(document: str) -> None:
    assert "prediction" in document.splitlines()[0]
    captions = re.findall(r"^\*(.+)\*\n\n\|", document, re.M)
    assert len(captions) == len(re.findall(r"\n\n\|", document)) >= 8
    assert all("redict" in caption for caption in captions)


def test_predicted_ratios_are_sensible(document: str) -> None:
    ratios = [float(ratio) for ratio in re.findall(r"\*\*([\d.]+)x\*\*", document)]
    assert len(ratios) == 4 * len(CEILINGS)
    assert all(0.5 < ratio < 4.0 for ratio in ratios)


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_roofline", ROOT / "tools" / "gpu_roofline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_writes_checks_and_complains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = _tool()
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "make_document", lambda root: "predicted\n")
    monkeypatch.setattr("sys.argv", ["gpu_roofline.py", "--check"])
    assert tool.main() == 1
    assert "out of date" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["gpu_roofline.py"])
    assert tool.main() == 0
    monkeypatch.setattr("sys.argv", ["gpu_roofline.py", "--check"])
    assert tool.main() == 0

    def refuse(root: Path) -> str:
        raise UsageError("no compiler")

    monkeypatch.setattr(tool, "make_document", refuse)
    assert tool.main() == 2
    assert capsys.readouterr().err == "error: no compiler\n"
