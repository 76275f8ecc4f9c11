"""The benchmark of training: loops that do the same are timed, checked and ranked, and a wrong one is found out."""

import csv
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training_worker import SPOILT_ROWS, two_blocks
from torch import Tensor, nn
from typer.testing import CliRunner

from srgan_fast.architectures.srgan import expected_shapes, network_of
from srgan_fast.bench import worker
from srgan_fast.bench.report import TrainingReport, TrainingRowResult
from srgan_fast.bench.training import bench, rows, training_row
from srgan_fast.bench.training.bench import TrainingOptions, bench_training
from srgan_fast.bench.training.first_step import TOLERANCES, FirstStep, compare, do_first_step
from srgan_fast.bench.training.phases import PHASES, REST, count_flops, measure_phases, saved_bytes
from srgan_fast.bench.training.rows import ROWS, Work, make_trainee
from srgan_fast.bench.turns import order_of
from srgan_fast.cli.app import app
from srgan_fast.errors import BackendError, ModelError, UsageError
from srgan_fast.models import GeneratorConfig
from srgan_fast.network import macs_per_image_pixel
from srgan_fast.ops import why_not
from srgan_fast.runtime.torch_backend import cpu_multiplies_bf16

ROOT = Path(__file__).parents[2]
NAMES = ("reference", "stock", "stock-bf16", "stock-lean", "stock-lean-bf16", "fused", "fused-bf16")
SMALL = TrainingOptions(batch=2, hr=32, features="features[:4]", rounds=1, threads=1)
QUICK = replace(SMALL, rows=("stock", "stock-lean"), hr=16)
WORK = Work("gan", 2, 16, "features[:4]", 1)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Two residual blocks instead of sixteen, here and in the rows' processes, and one profiled step."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "PROFILED_STEPS", 1)
        patch.setattr(bench, "WORKER", "small_training_worker")
        patch.setattr(rows, "generator_config", two_blocks)
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


@pytest.fixture(scope="module")
def report(_small: None) -> TrainingReport:
    """Of all rows."""
    return bench_training(SMALL)


@pytest.fixture(scope="module")
def spoilt(_small: None) -> TrainingReport:
    """Of rows that go wrong, each in its way, and one that does not."""
    with pytest.MonkeyPatch.context() as patch:
        for name, row in SPOILT_ROWS.items():
            patch.setitem(ROWS, name, row)
        return bench_training(replace(QUICK, rows=(*SPOILT_ROWS, "stock"), rounds=2, baseline="nan-gradient"))


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Those that the rows get; temporary folders lie in this test's."""
    started: list[subprocess.Popen[bytes]] = []
    genuine = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(genuine(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(worker.subprocess, "Popen", start)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return started


def named(report: TrainingReport) -> dict[str, TrainingRowResult]:
    return {row.name: row for row in report.rows}


def test_every_row_is_measured_or_says_why_not(report: TrainingReport) -> None:
    assert tuple(ROWS) == NAMES
    assert sorted(named(report)) == sorted(NAMES)
    for row in report.rows:
        if row.kernels == "fused" and why_not() is not None:
            assert (row.status, row.reason) == ("failed", f"kernels='fused': {why_not()}")
            continue
        if row.name in ("stock-bf16", "stock-lean-bf16") and not cpu_multiplies_bf16():
            assert (row.status, row.reason) == ("failed", "PyTorch has no instructions for bf16 on this CPU")
            continue
        assert (row.status, row.reason) == ("ok", None)
        assert row.step_seconds
        assert row.images_per_second == pytest.approx(2 / row.step_seconds)
        assert row.saved_activation_mb == row.saved_mb["generator"] > 0
        assert set(row.saved_mb) == {"generator", "discriminator", "features"}
        apart = {"VGG(HR) forward", "VGG(SR) forward"}  # our step computes both at once
        others = apart if row.loop == "lean" else {"VGG forward"}
        assert set(row.phases) == {*PHASES, REST} - others
        assert row.gradient_error.keys() == {"generator", "discriminator"}


def test_stock_bf16_is_not_begun_where_the_cpu_lacks_it(
    cpu_with_bf16: Callable[[bool], None], processes: list[subprocess.Popen[bytes]]
) -> None:
    cpu_with_bf16(False)
    report = bench_training(replace(QUICK, rows=("stock", "stock-bf16", "stock-lean-bf16"), stage="pretrain"))
    reason = "PyTorch has no instructions for bf16 on this CPU"
    assert [(row.name, row.status, row.reason) for row in report.rows] == [
        ("stock", "ok", None),
        ("stock-bf16", "failed", reason),
        ("stock-lean-bf16", "failed", reason),
    ]
    assert len(processes) == 1


def test_right_rows_are_ranked_by_their_median_and_compared_with_stock(report: TrainingReport) -> None:
    right = [row for row in report.rows if row.status == "ok"]
    assert [row.rank for row in right] == list(range(1, len(right) + 1))
    medians = [row.step_seconds for row in right if row.step_seconds]
    assert medians == sorted(medians)
    assert report.baseline == "stock"
    stock = named(report)["stock"]
    assert (stock.ratio, stock.saved_activation_ratio, stock.loss_error) == (1, 1, 0)
    assert stock.step_seconds
    for row in right:
        assert row.ratio == pytest.approx((row.step_seconds or 0) / stock.step_seconds)


def test_stock_loop_and_our_step_train_alike(report: TrainingReport) -> None:
    """The same losses, and the same gradients."""
    found = named(report)
    assert found["stock-lean"].loss_error is not None
    assert found["stock-lean"].loss_error < 1e-6
    assert max(found["stock-lean"].gradient_error.values()) < 1e-3
    assert (
        found["stock-lean"].losses.keys() == found["stock"].losses.keys() == {"content", "generator", "discriminator"}
    )


def test_parts_of_a_step_carry_the_work_that_they_need(report: TrainingReport) -> None:
    row = named(report)["stock"]
    assert sum(phase.gflop or 0 for phase in row.phases.values()) == pytest.approx(report.work.gflop)
    phase = row.phases["VGG(SR) forward"]
    assert phase.gflop
    assert phase.gflops == pytest.approx(phase.gflop / phase.seconds)
    assert row.phases["optimisers"].gflops is None
    assert report.environment.fp32_peak_gflops is not None
    assert report.environment.fp32_peak_gflops > 1


def test_the_report_survives_json_and_becomes_csv(report: TrainingReport) -> None:
    text = report.as_json()
    data = json.loads(text)
    assert data["schema"] == "srgan_fast.bench.training/3"
    assert {"rows", "environment", "work", "method", "baseline", "warnings"} <= data.keys()
    wanted = {"name", "step_seconds", "images_per_second", "peak_rss_mb", "saved_activation_mb", "phases"}
    assert all(wanted <= row.keys() for row in data["rows"])
    assert TrainingReport.model_validate_json(text) == report
    with pytest.raises(ValueError, match="schema"):
        TrainingReport.model_validate_json(text.replace("training/3", "training/1"))
    lines = list(csv.DictReader(report.as_csv().splitlines()))
    assert [line["name"] for line in lines] == [row.name for row in report.rows]
    assert float(lines[0]["G forward"]) == report.rows[0].phases["G forward"].seconds


def test_pretraining_measures_the_generator_alone(processes: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Both rows in turns, each in a process of its own that ends with the benchmark."""
    told: list[str] = []
    report = bench_training(replace(QUICK, stage="pretrain", rounds=3), told.append)
    assert [row.status for row in report.rows] == ["ok", "ok"]
    for row in report.rows:
        assert row.phases.keys() == {"G forward", "G backward", "optimisers", REST}
        assert row.losses.keys() == {"pixel"}
        assert row.saved_mb.keys() == {"generator"}
        assert len(row.rounds_seconds) == 3
    assert report.work.features is None
    steps = [name for name in told if name in QUICK.rows]
    assert steps == [name for round_ in range(3) for name in order_of(list(QUICK.rows), round_)]
    assert len(processes) == 2
    assert all(process.returncode is not None for process in processes)
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_checked_against_stock_though_that_is_not_measured(processes: list[subprocess.Popen[bytes]]) -> None:
    (row,) = bench_training(replace(QUICK, rows=("stock-lean",), stage="pretrain")).rows
    assert (row.status, row.ratio, row.peak_rss_ratio) == ("ok", 1, 1), "the only row is the baseline"
    assert row.gradient_error.keys() == {"generator"}
    assert row.peak_rss_mb
    assert row.base_rss_mb
    assert 50 < row.base_rss_mb < row.peak_rss_mb < 20_000
    assert [process.returncode is not None for process in processes] == [True, True]


@pytest.mark.parametrize(("name", "kept"), [("stock", False), ("stock-bf16", False), ("stock-lean", True)])
def test_only_our_loop_keeps_freed_memory_and_the_peak_is_read_before_what_needs_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: bool
) -> None:
    """As those who run these loops have it; here without the process around them."""
    peaks = iter((300.0, 500.0, 900.0))
    done: list[str] = []

    def measure(step: Any, steps: int) -> tuple[dict[str, float], float]:
        done.append(f"{steps} profiled steps, {next(peaks)} MB")
        return {REST: 0.1}, 0.2

    monkeypatch.setattr(training_row, "_peak_mb", lambda: next(peaks))
    monkeypatch.setattr(training_row, "measure_phases", measure)
    monkeypatch.setattr(training_row, "keep_freed_memory", lambda: done.append("kept"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: done.append(f"{count} threads"))
    row, file = training_row.TrainingRowProcess(), tmp_path / "first.pt"
    row.make(name, asdict(replace(WORK, threads=3)), str(file))
    first: FirstStep = torch.load(file, weights_only=True)
    assert first["losses"].keys() == {"content", "generator", "discriminator"}
    assert first["gradients"].keys() == {"generator", "discriminator"}
    row.warm_up(1)
    told = row.run()
    assert told["losses"].keys() >= first["losses"].keys()
    assert told["losses"]["content"] != first["losses"]["content"], "it has learnt since"
    assert 0 < told["wall_s"] < 60
    found = row.finish(2)
    assert (found["base_rss_mb"], found["peak_rss_mb"], found["profiled_step_seconds"]) == (300, 500, 0.2)
    assert done == ["3 threads", *["kept"] * kept, "2 profiled steps, 900.0 MB"]


def first_step_of(name: str) -> FirstStep:
    return do_first_step(make_trainee(ROWS[name], WORK))


def test_wrong_losses_and_gradients_are_found() -> None:
    """Each though the others are right."""
    trusted, right, tolerance = first_step_of("stock"), first_step_of("stock-lean"), TOLERANCES["fp32"]
    assert compare(right, trusted, tolerance).problem is None
    losses, gradients = right["losses"], right["gradients"]
    off: FirstStep = {"losses": losses | {"content": losses["content"] * 1.01}, "gradients": gradients}
    problem = compare(off, trusted, tolerance).problem
    assert re.match(r"content loss \S+ instead of \S+: off by 1\.0e-02, beyond 1e-03", problem or "")
    for name, factor, error in (("blocks.1.act.weight", 0.0, ""), ("blocks.1.conv2.weight", 1.1, "1.0e-01, beyond ")):
        changed = gradients["generator"] | {name: factor * gradients["generator"][name]}
        off = {"losses": losses, "gradients": gradients | {"generator": changed}}
        problem = compare(off, trusted, tolerance).problem
        assert (problem or "").startswith(f"gradient of the generator's {name} is off by {error}")


def test_a_row_with_a_wrong_gradient_is_marked_and_not_ranked(spoilt: TrainingReport) -> None:
    """Though the losses of its first step are right."""
    row = named(spoilt)["nan-gradient"]
    assert (row.status, row.rank) == ("wrong", None)
    assert (row.reason or "").startswith("gradient of the generator's blocks.1.conv2.weight is off by nan, beyond ")
    assert row.loss_error is not None
    assert row.loss_error < 1e-6
    assert row.gradient_error.keys() == {"discriminator"}
    assert row.step_seconds is not None
    assert TrainingReport.model_validate_json(spoilt.as_json()) == spoilt


def test_losses_must_be_finite_to_the_end(spoilt: TrainingReport) -> None:
    row = named(spoilt)["nan-loss-at-last"]
    assert (row.status, row.reason) == ("wrong", "the content loss of the last round is nan")


def test_a_wrong_baseline_leaves_no_ratios(spoilt: TrainingReport) -> None:
    assert (spoilt.baseline, named(spoilt)["stock"].ratio) == (None, None)
    assert "the baseline nan-gradient is wrong or failed, so there are no ratios" in spoilt.warnings


def test_a_row_that_fails_says_why_and_the_rest_go_on(spoilt: TrainingReport) -> None:
    assert [row.name for row in spoilt.rows] == ["stock", *SPOILT_ROWS], "the right one, wrong ones, failed ones"
    assert {row.name: row.reason for row in spoilt.rows if row.status == "failed"} == {
        "fails-at-once": "RuntimeError: out of luck",
        "fails-in-the-rounds": "RuntimeError: out of luck",
        "fails-after-the-rounds": "after the rounds: RuntimeError: out of luck",
        "killed-in-the-rounds": "the process of killed-in-the-rounds was ended by SIGKILL: memory",
    }
    stock = named(spoilt)["stock"]
    assert (stock.status, stock.rank, len(stock.rounds_seconds)) == ("ok", 1, 2)


def test_without_the_loop_to_check_against_there_is_no_report(
    monkeypatch: pytest.MonkeyPatch, processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "WORKER", "no_such_worker")
    message = r"^stock, the reference of all rows, cannot run: .* ended with code 1: .*no_such_worker$"
    with pytest.raises(BackendError, match=message):
        bench_training(replace(QUICK, rows=("stock-lean",)))
    assert [process.returncode for process in processes] == [1]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_benchmark_leaves_nothing_behind(
    processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    def interrupt(what: str) -> None:
        if what == "stock":  # the first round
            assert [process.poll() for process in processes] == [None]
            assert list(tmp_path.iterdir()) != []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_training(replace(QUICK, rows=("stock",), stage="pretrain"), interrupt)
    assert [process.returncode is not None for process in processes] == [True]
    assert list(tmp_path.iterdir()) == []


def test_each_row_gets_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def use_kernels(network: nn.Module, kernels: str) -> None:
        asked.append((type(network).__name__, kernels))
        if kernels == "fused":
            raise BackendError("no kernels for this processor")

    monkeypatch.setattr(rows, "use_kernels", use_kernels)
    work = Work("gan", 2, 32, "features[:4]", 1)
    make_trainee(ROWS["stock-bf16"], work)
    assert asked == [(name, "reference") for name in ("Generator", "PatchDiscriminator", "FeatureExtractor")]
    with pytest.raises(BackendError, match="no kernels for this processor"):
        make_trainee(ROWS["fused"], work)
    assert asked[-1] == ("Generator", "fused")


def test_all_rows_start_alike() -> None:
    work = Work("gan", 2, 32, "features[:4]", 1)
    plain, tuned = (make_trainee(ROWS[name], work) for name in ("reference", "stock"))
    for name, network in plain.networks.all().items():
        for a, b in zip(network.parameters(), tuned.networks.all()[name].parameters(), strict=True):
            assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(plain.images, tuned.images, strict=True))
    assert plain.networks.features is not None
    assert all(p.requires_grad for p in plain.networks.features.parameters()), "as the common loop has it"
    assert tuned.networks.generator.head.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_work_is_counted_as_direct_convolutions_that_are_needed() -> None:
    work = Work("gan", 3, 32, "features[:4]", 1)
    flops = count_flops(work)
    config = GeneratorConfig(blocks=2)
    weights = {name: np.ones(shape, np.float32) for name, shape in expected_shapes(config).items()}
    macs = int(macs_per_image_pixel(network_of(config, weights)))
    forward = 2 * macs * 8 * 8 * 3
    head = 2 * 81 * 3 * 64 * 8 * 8 * 3
    assert flops["G forward"] == forward
    assert flops["G backward"] == 2 * forward - head, "nobody needs the gradient of lr"
    assert flops["VGG backward, to SR"] == flops["VGG(SR) forward"] == flops["VGG(HR) forward"]
    assert flops["D backward, to SR"] == flops["D forward"] / 2
    first = 2 * 27 * 64 * 32 * 32 * 3
    assert flops["D backward, to its weights"] == 2 * (flops["D forward"] - first), "pictures need no gradient"
    assert count_flops(replace(work, stage="pretrain")).keys() == {"G forward", "G backward"}


def test_phases_are_those_that_a_step_names() -> None:
    def step() -> None:
        with torch.profiler.record_function("G forward"):
            torch.rand(50, 50) @ torch.rand(50, 50)

    phases, whole = measure_phases(step, 3)
    assert phases.keys() == {"G forward", REST}
    assert 0 < phases["G forward"] < whole


def test_what_a_forward_pass_keeps_is_counted() -> None:
    """A convolution keeps its input, a ReLU its output; weights do not count."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    x = torch.rand(2, 3, 10, 12)
    kept = (2 * 3 + 2 * 8) * 10 * 12 * 4
    assert saved_bytes(lambda: network(x), network.parameters()) == kept
    weights = sum(p.numel() for p in network[0].parameters() if p.dim() == 4) * 4
    assert saved_bytes(lambda: network(x)) == kept + weights
    with torch.no_grad():
        assert saved_bytes(lambda: network(x)) == 0


def test_a_storage_counts_once_and_as_a_whole() -> None:
    x = torch.rand(10, 100, requires_grad=True)

    def forward() -> Tensor:
        y = x * 2  # 4000 bytes, of which each product keeps a view
        return y[:2] * y[2:4]

    assert saved_bytes(forward, [x]) == 4000


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"rows": ("nope",)}, UsageError, "unknown row 'nope'; choose from reference, stock, "),
        ({"baseline": "nope"}, UsageError, "unknown row 'nope'"),
        ({"baseline": "fused"}, UsageError, "baseline fused is not among the rows: stock, stock-lean"),
        ({"hr": 40}, UsageError, "hr is 40; it must be a multiple of 16"),
        ({"hr": 0}, UsageError, "hr is 0; it must be a multiple of 16"),
        ({"batch": 0}, UsageError, "batch is 0; it must be at least 1"),
        ({"rounds": 0}, UsageError, "rounds is 0; it must be at least 1"),
        ({"threads": 0}, UsageError, "threads is 0; it must be at least 1"),
        ({"stage": "both"}, UsageError, "stage is 'both'; there are gan, pretrain"),
        ({"batch": 1}, UsageError, "one image of 16x16 leaves BatchNorm a single value"),
        ({"features": "vgg99"}, ModelError, "'vgg99' is not a layer of vgg19"),
        ({"features": "features[:37]"}, ModelError, "images of 16x16 are too small"),
    ],
)
def test_what_cannot_be_measured_is_refused(values: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        bench_training(replace(QUICK, **values))


FEW = ["--batch", "2", "--hr", "16", "--features", "features[:4]", "--rounds", "1", "--threads", "1"]


def call(*arguments: str) -> Any:
    texts = ["bench", "training", *FEW, *arguments]
    return CliRunner().invoke(app, texts, env={"COLUMNS": "80"}, catch_exceptions=False)


def test_a_table_shows_the_rows_and_files_are_kept(tmp_path: Path) -> None:
    kept = ["--json", str(tmp_path / "new/report.json"), "--csv", str(tmp_path / "rows.csv")]
    kept += ["--html", str(tmp_path / "page.html")]
    result = call("--row", "stock", "--row", "stock-lean", "--baseline", "stock-lean", *kept)
    assert result.exit_code == 0, result.stderr
    assert "gan step of 2 crops of 16x16, VGG19 features[:4], 1 threads, " in result.stdout
    assert re.search(r"^ *[12] +stock-lean +\d\S+ +1\.00 ", result.stdout, re.M)
    assert re.search(r"^ *D backward, to its weights +\d\S* +\d\S* *$", result.stdout, re.M)
    assert "x: over that of stock-lean; 1 rounds" in result.stdout
    assert "warning: 1 rounds are too few to quote" in result.stderr
    report = TrainingReport.model_validate_json((tmp_path / "new/report.json").read_text())
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + len(report.rows) == 3
    assert "Where the time goes" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_json_on_standard_output_is_alone_there() -> None:
    result = call("--row", "stock", "--stage", "pretrain", "--json", "-")
    assert json.loads(result.stdout)["rows"][0]["name"] == "stock"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row", "nope"], "unknown row 'nope'; choose from reference, stock, "),
        (["--hr", "40"], "hr is 40; it must be a multiple of 16"),
        (["--features", "vgg99"], "'vgg99' is not a layer of vgg19"),
        (["--json", "."], ".: is a folder"),
        (["--csv", "/dev/null/a.csv"], "/dev/null/a.csv: cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_the_tool_is_the_same_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_training.py", "--hr", "40"])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(ROOT / "tools/bench_training.py"), run_name="__main__")
    assert capsys.readouterr().err.startswith("error: hr is 40")
