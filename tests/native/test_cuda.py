"""The CUDA kernels' proofs on the host notice bugs: kernels with one planted each must fail them, for every bug.

`csrc/tests/test_cuda.cpp` and `test_cuda_infer.cpp` also run with the other C++ tests (test_cpp.py), some of their
cases each time.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("g++")
FLAGS = ("-std=c++20", "-O1", "-Wno-unknown-pragmas")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="not installed: g++")


@dataclass(frozen=True)
class Bug:
    """A bug: what of a file is replaced by what, and the proof that must notice."""

    name: str
    file: str
    right: str
    wrong: str
    proof: str = "test_cuda"


INFERENCE = "test_cuda_infer"
TYPICAL = (
    Bug("no barrier before a tap's weights are read", "conv_mma.cuh", "sync_threads();  // this step's weights", "//"),
    Bug(
        "weights are not waited for",
        "conv_mma.cuh",
        "copy_async_wait<Shape::kStages - 2>();\n            sync_threads();  // this step's",
        "sync_threads();  // this step's",
    ),
    Bug("a fragment's halves are swapped", "conv_mma.cuh", "2 * k + (lane >> 4)", "2 * k + (1 - (lane >> 4))"),
    Bug("the halo is off by one", "conv_mma.cuh", "place.left * p.step + p.reach.left,", "place.left * p.step + 1,"),
    Bug("no barrier before a tile's gradient", "wgrad_mma.cuh", "sync_threads();  // this tile is there", "//"),
    Bug(
        "results in the place of a window still read",
        "infer_mma.cuh",
        "sync_threads();  // the window is read to the end",
        "//",
        INFERENCE,
    ),
    Bug(
        "a warpgroup's fragments are overwritten while it multiplies",
        "infer_block.cuh",
        "wait_for_products<1>();  // for the step before",
        "//",
        INFERENCE,
    ),
)
OTHERS = (
    Bug("no barrier between chunks", "conv_mma.cuh", "sync_threads();  // the window is read to the end", "//"),
    Bug("no barrier before results", "conv_mma.cuh", "sync_threads();  // shared memory is", "//"),
    Bug("a fragment's rows are swapped", "conv_mma.cuh", "* 16 + (lane & 15);", "* 16 + (lane & 15 ^ 8);"),
    Bug(
        "weights are stored out of order",
        "conv_mma.cuh",
        "tile_offset<Shape::kRowBytes>(row, unit), from",
        "tile_offset<Shape::kRowBytes>(row, unit ^ 1), from",
    ),
    Bug("moments of pixels outside", "conv_mma.cuh", "return there[m][i / 2] ? d * d : 0.0f;", "return d * d;"),
    Bug("a tile too few", "plan.h", "return (size + block - 1) / block;", "return size < block ? 1 : size / block;"),
    Bug("a prologue in the padding", "tiles.cuh", "if (reader.whole() && !inside) return;", "inside = true;"),
    Bug(
        "a pass' rows are not waited for", "passes.cuh", "    sync_threads();\n    for (int i = s", "    for (int i = s"
    ),
    Bug(
        "a pass leaves its last pixel out", "passes.cuh", "pixel < s.end; pixel +=", "pixel + s.step < s.end; pixel +="
    ),
    Bug("one slope before all are there", "reduce.cuh", "== static_cast<int>(gridDim.x) - 1;", "== 0;"),
    Bug("one slope's flag is overwritten", "reduce.cuh", "sync_threads();  // the flag is read by all", "//"),
    Bug("sums of another step count as finished", "passes.cuh", "*p.finished = 0;", ";"),
    Bug("running statistics of biased variances", "reduce.cuh", "own_var * norm.unbias", "own_var"),
    Bug("a scale's gradient without its epsilon", "reduce.cuh", "p.var[channel] + p.eps", "p.var[channel]"),
    Bug("a row's moments weigh too much", "passes.cuh", "(pixels - row + own.step - 1) /", "(pixels + own.step - 1) /"),
    Bug(
        "a pass shuffles the wrong way",
        "passes.cuh",
        "* 2 + phase % 2, y",
        "* 2 + phase / 2, y",
    ),
    Bug("the last of equal pixels", "passes.cuh", "x[phase][i] > found.value", "x[phase][i] >= found.value"),
    Bug("floats are not rounded to TF32", "tiles.cuh", "place = operand_unit<T>(unit);", "place = unit;"),
    Bug("weights are not rounded to TF32", "reduce.cuh", "= round_to_tf32(value);", "= value;"),
    Bug("a float's pixels in another order", "wgrad_mma.cuh", "lane % 4 * 2 + i / 2", "lane % 4 + i / 2 * 4"),
    Bug("a bias' sums are read too early", "wgrad_mma.cuh", "sync_threads();  // all threads' sums", "//"),
    Bug("copies are not closed", "wgrad_mma.cuh", "copy_async_commit();\n        ++next;", "++next;"),
    Bug("a share leaves its last tile out", "wgrad_mma.cuh", "tile < end; ++tile", "tile + 1 < end; ++tile"),
    Bug(
        "a window in the place of results still read",
        "infer_mma.cuh",
        "sync_threads();  // the results are read to the end",
        "//",
        INFERENCE,
    ),
    Bug(
        "a window is not waited for",
        "infer_mma.cuh",
        "copy_async_wait<0>();\n        sync_threads();",
        "sync_threads();",
        INFERENCE,
    ),
    Bug("a fragment of the next tap too late", "infer_mma.cuh", "load(next_offset,", "load(tap_offset,", INFERENCE),
    Bug(
        "the tail's halo is off by one",
        "infer_mma.cuh",
        "fine / 2 + tap) * kTailPitch",
        "fine / 2) * kTailPitch",
        INFERENCE,
    ),
    Bug(
        "a block's inner map in the place of a window still read",
        "infer_block.cuh",
        "sync();  // the window is read to the end",
        "//",
        INFERENCE,
    ),
    Bug(
        "a block's inner map is not waited for",
        "infer_block.cuh",
        "sync();  // the inner map is there",
        "//",
        INFERENCE,
    ),
    Bug(
        "a window in the place of an inner map still read",
        "infer_block.cuh",
        "sync();  // the inner map is r",
        "//",
        INFERENCE,
    ),
    Bug("a block's results are read too early", "infer_block.cuh", "sync_warp();  // these pixels", "//", INFERENCE),
    Bug(
        "a block's second weights are not waited for",
        "infer_block.cuh",
        "copy_async_wait<0>();\n            show_to_products();",
        "show_to_products();",
        INFERENCE,
    ),
    Bug(
        "padding between a block's convolutions has values",
        "infer_block.cuh",
        "inside ? narrow_pair<T>(low, high) : 0u",
        "narrow_pair<T>(low, high)",
        INFERENCE,
    ),
    Bug(
        "a block adds a neighbour",
        "infer_block.cuh",
        "x = half * 8 + own / 4 + 2;",
        "x = half * 8 + own / 4 + 1;",
        INFERENCE,
    ),
    Bug(
        "a warpgroup waits too little", "infer_block.cuh", "wait_for_products<1>()", "wait_for_products<2>()", INFERENCE
    ),
    Bug("a warpgroup's sums are read too early", "infer_block.cuh", "        wait_for_products<0>();\n", "", INFERENCE),
    Bug("registers of a warpgroup's products without a fence", "infer_block.cuh", "order_products();", "", INFERENCE),
    Bug("a warpgroup's products are not closed", "infer_block.cuh", "commit_products();", "", INFERENCE),
    Bug(
        "a warpgroup does not see its first weights",
        "infer_block.cuh",
        "copy_async_wait<1>();\n    show_to_products();",
        "copy_async_wait<1>();",
        INFERENCE,
    ),
    Bug(
        "a warpgroup does not see its second weights",
        "infer_block.cuh",
        "copy_async_wait<0>();\n            show_to_products();",
        "copy_async_wait<0>();",
        INFERENCE,
    ),
    Bug(
        "weights are shown to a warpgroup behind the barrier",
        "infer_block.cuh",
        "show_to_products();\n    sync_threads();      // the first weights are there",
        "sync_threads();\n    show_to_products();",
        INFERENCE,
    ),
    Bug(
        "a map's pitch is forgotten",
        "infer_mma.cuh",
        "first_residual + at[i] * addend.pitch",
        "first_residual + at[i] * p.pitch",
        INFERENCE,
    ),
    Bug(
        "a slice in another's place",
        "infer_mma.cuh",
        "result_map + at[i] * p.pitch",
        "result_map + at[i] * channels",
        INFERENCE,
    ),
    Bug(
        "a second residual without its factor",
        "infer_mma.cuh",
        "values[j] += second.scale * ",
        "values[j] += ",
        INFERENCE,
    ),
    Bug(
        "a shuffle by 2 alone",
        "infer_mma.cuh",
        "down = phase / scale, across = phase - down * scale;",
        "down = phase / 2, across = phase - down * 2;",
        INFERENCE,
    ),
    Bug(
        "a picture's colours in a map's order",
        "infer_mma.cuh",
        "const int colour = channel / phases, phase = channel - colour * phases, down",
        "const int phase = channel / colours, colour = channel - phase * colours, down",
        INFERENCE,
    ),
    Bug("no row above the picture", "infer_mma.cuh", "% (p.height + 1)) - 1;", "% (p.height + 1));", INFERENCE),
    Bug(
        "sums are read before they are there",
        "reduce.cuh",
        "scratch[threadIdx.x] = value;\n    sync_threads();",
        "scratch[threadIdx.x] = value;",
    ),
)


def compiled(source: Path, csrc: Path, target: Path) -> Path:
    command = [str(COMPILER), *FLAGS, "-I", str(csrc), "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What has no kernels in it, compiled once."""
    folder, csrc = tmp_path_factory.mktemp("objects"), ROOT / "csrc"
    return [
        compiled(csrc / source, csrc, folder / f"{Path(source).stem}.o")
        for source in (
            "kernels/cuda/simt/fiber.cpp",
            "kernels/cuda/simt/simt.cpp",
            "kernels/reference/conv_training.cpp",
            "platform/system.cpp",
        )
    ]


def failures(csrc: Path, folder: Path, others: list[Path], proof: str = "test_cuda") -> str:
    """What a proof prints, with the kernels of a source tree; empty if it passes."""
    program = folder / proof
    own = compiled(csrc / "tests" / f"{proof}.cpp", csrc, folder / f"{proof}.o")
    subprocess.run([str(COMPILER), str(own), *map(str, others), "-o", str(program)], check=True)
    # A bug may also make a kernel wait for itself.
    run = subprocess.run([str(program), "few"], capture_output=True, text=True, timeout=300, check=False)
    return "" if run.returncode == 0 else f"{run.stdout}{run.stderr}exit status {run.returncode}"


def planted(bug: Bug, folder: Path) -> Path:
    """A copy of the sources with a bug."""
    csrc = folder / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    file = csrc / "kernels" / "cuda" / bug.file
    text = file.read_text(encoding="utf-8")
    assert text.count(bug.right) == 1, f"{bug.file} has {text.count(bug.right)} times what {bug.name!r} replaces"
    file.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    return csrc


def uncaught(bugs: tuple[Bug, ...], folder: Path, others: list[Path]) -> list[str]:
    def passes(item: tuple[int, Bug]) -> bool:
        number, bug = item
        own = folder / str(number)
        return not failures(planted(bug, own), own, others, bug.proof)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [bug.name for bug, unseen in zip(bugs, pool.map(passes, enumerate(bugs)), strict=True) if unseen]


@pytest.mark.parametrize("proof", ["test_cuda", INFERENCE])
def test_kernels_pass(tmp_path: Path, others: list[Path], proof: str) -> None:
    assert failures(ROOT / "csrc", tmp_path, others, proof) == ""


def test_every_bug_has_its_place(tmp_path: Path) -> None:
    for number, bug in enumerate(TYPICAL + OTHERS):
        planted(bug, tmp_path / str(number))


def test_typical_bugs_are_caught(tmp_path: Path, others: list[Path]) -> None:
    assert uncaught(TYPICAL, tmp_path, others) == []


@pytest.mark.fuzz
def test_other_bugs_are_caught(tmp_path: Path, others: list[Path]) -> None:
    assert uncaught(OTHERS, tmp_path, others) == []


@pytest.mark.fuzz
@pytest.mark.parametrize("proof", ["test_cuda", INFERENCE])
def test_all_cases_pass(tmp_path: Path, others: list[Path], proof: str) -> None:
    failures(ROOT / "csrc", tmp_path, others, proof)  # builds it
    subprocess.run([str(tmp_path / proof), "all"], check=True)
