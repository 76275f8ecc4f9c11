"""A GPU is tested once for each thing that its verdict depends on; one that is wrong is never trusted later."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from srgan_fast.errors import TrainingError
from srgan_fast.ops import cuda, self_test_cache, switch
from srgan_fast.ops.self_test_cache import SelfTestKey

WRONG = "the fused kernels compute wrong results on a GPU (y of a case: relative error 1.0e+00); please report this"


class Gpu:
    """A stand-in for a GPU with its driver and libraries: what it is, what it computes, how often it was asked."""

    def __init__(self) -> None:
        self.about: SelfTestKey | None = SelfTestKey(
            "a GPU", "uuid", "9.0", 132, "580.1", "2.11.0+cu130", "abc", "def", "91000", ""
        )
        self.problem: str | None = None
        self.examinations = 0

    def examine(self, index: int, float32: bool) -> str | None:
        self.examinations += 1
        if self.problem == "memory":
            raise torch.OutOfMemoryError
        return self.problem

    def first_use(self, **how: bool) -> str | None:
        """What a new process finds."""
        cuda._found.clear()
        return cuda.problem_of(torch.device("cuda", 0), **how)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    made = Gpu()
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda, "_found", {})
    monkeypatch.setattr(cuda, "why_not_on_cuda", lambda: None)
    monkeypatch.setattr(cuda, "_self_test", made.examine)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(self_test_cache, "describe", lambda index, checks: made.about)
    monkeypatch.setattr(switch, "_said", set())
    return made


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_one_that_is_right_is_examined_once_for_all_processes(gpu: Gpu) -> None:
    assert [gpu.first_use() for _ in range(3)] == [None] * 3
    assert gpu.examinations == 1


@pytest.mark.parametrize("part", SelfTestKey.__slots__)
def test_it_is_examined_again_when_anything_that_counts_changes(gpu: Gpu, part: str) -> None:
    gpu.first_use()
    before = gpu.about
    assert before is not None
    gpu.about = replace(before, **{part: 78 if part == "multiprocessors" else "another"})
    gpu.first_use()
    assert gpu.examinations == 2
    gpu.about = before  # and the first verdict is still there
    gpu.first_use()
    assert gpu.examinations == 2


def test_one_that_is_wrong_is_examined_by_every_process_until_it_is_right(gpu: Gpu, tmp_path: Path) -> None:
    gpu.problem = WRONG
    for _ in range(2):
        assert gpu.first_use() == WRONG
        assert cuda.problem_of(torch.device("cuda", 0)) == WRONG  # within a process once
    assert gpu.examinations == 2
    assert kept(tmp_path) == []
    gpu.problem = None
    assert gpu.first_use() is None


def test_where_the_driver_cannot_be_told_nothing_is_kept(gpu: Gpu, tmp_path: Path) -> None:
    gpu.about = None
    gpu.first_use(), gpu.first_use()
    assert gpu.examinations == 2
    assert kept(tmp_path) == []


def test_too_little_memory_is_remembered_by_the_process_and_by_nobody_else(gpu: Gpu, tmp_path: Path) -> None:
    gpu.problem = "memory"
    problem = "a GPU has not enough memory free for the self-test of the fused kernels"
    assert [cuda.problem_of(torch.device("cuda", 0)) for _ in range(5)] == [problem] * 5
    assert gpu.examinations == 1
    assert kept(tmp_path) == []
    gpu.problem = None
    assert cuda.problem_of(torch.device("cuda", 0), rerun=True) is None
    assert gpu.first_use() is None


def test_a_first_use_while_somebody_records_refuses_nothing_for_later(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as records:
        records.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        problem = gpu.first_use()
        assert problem == "a GPU has not run its self-test, which is not possible during CUDA graph capture"
        assert gpu.examinations == 0
    assert cuda.problem_of(torch.device("cuda", 0)) is None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu.first_use() is None  # as was found right before
    assert gpu.examinations == 1


@pytest.mark.parametrize("damage", [b"", b'{"schema": "srgan_fast.gpu/1"}', b"\xff\x00", None], ids=str)
def test_a_damaged_verdict_counts_for_nothing_and_is_mended(gpu: Gpu, tmp_path: Path, damage: bytes | None) -> None:
    gpu.first_use()
    (file,) = kept(tmp_path)
    right = file.read_bytes()
    file.write_bytes(right[:-5] if damage is None else damage)
    assert gpu.first_use() is None
    assert gpu.examinations == 2
    assert file.read_bytes() == right
    assert kept(tmp_path) == [file]


@pytest.mark.parametrize("obstacle", ["a file where the folder should be", "a folder where the file should be"])
def test_a_cache_that_cannot_be_used_matters_to_nobody(
    gpu: Gpu, tmp_path: Path, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    if obstacle.startswith("a file"):
        (tmp_path / "cache").touch()
    else:
        assert gpu.about is not None
        self_test_cache.path_of(gpu.about).mkdir(parents=True)
    with caplog.at_level(logging.DEBUG, "srgan_fast.ops"):
        for _ in range(2):
            assert gpu.first_use() is None
        gpu.problem = WRONG
        assert gpu.first_use(rerun=True) == WRONG
    assert gpu.examinations == 3
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


def test_the_doctor_examines_anew_and_takes_a_verdict_back(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pydantic")
    from srgan_fast.doctor import installation

    gpu.first_use()
    gpu.problem = WRONG
    assert gpu.first_use() is None  # as nobody looks
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(installation, "_devices", list)
    installation.find_ops()
    assert gpu.examinations == 3  # of 16 bits and of float32
    assert kept(tmp_path) == []
    assert gpu.first_use() == WRONG


def test_a_wrong_gpu_is_said_once_with_the_figures_and_plain_torch_computes(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.problem = WRONG
    x: Any = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.bfloat16)
    with caplog.at_level(logging.DEBUG, "srgan_fast.ops"), switch.recorded_steps():
        assert [switch.choose_fused("auto", x) for _ in range(3)] == [False] * 3
    assert caplog.messages == [f"{WRONG}; using plain PyTorch"]
    with pytest.raises(TrainingError, match=r"kernels='fused': the fused kernels .* relative error 1\.0e\+00"):
        switch.choose_fused("fused", x)
    assert gpu.examinations == 1
    gpu.problem = None
    cuda._found.clear()
    with switch.recorded_steps():
        assert switch.choose_fused("auto", x)


def test_auto_takes_fused_kernels_on_a_gpu_only_where_steps_are_recorded(
    gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    x: Any = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.bfloat16)
    with caplog.at_level(logging.DEBUG, "srgan_fast.ops"):
        with torch.no_grad():
            assert not switch.choose_fused("auto", x)
        assert caplog.messages == []  # only who trains is told
        assert [switch.choose_fused("auto", x) for _ in range(3)] == [False] * 3
        with switch.recorded_steps():
            assert switch.choose_fused("auto", x)
            with ThreadPoolExecutor(1) as autograd:  # computes checkpoints again in a thread of its own
                assert autograd.submit(switch.choose_fused, "auto", x).result()
        assert switch.choose_fused("fused", x)
        assert not switch.choose_fused("auto", x)
    (line,) = caplog.messages
    assert line.startswith("fused kernels are slower than PyTorch's unless steps are captured in a CUDA graph;")
    assert gpu.examinations == 1


def test_the_first_use_may_be_while_torch_compiles(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(index: int, float32: bool) -> str | None:
        torch._dynamo.graph_break()  # an error if it is traced
        return gpu.examine(index, float32)

    monkeypatch.setattr(cuda, "_self_test", examine)

    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if cuda.problem_of(torch.device("cuda", 0)) is None else x - 1

    compiled = torch.compile(function, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)).item() == 1
    assert compiled(torch.ones(1)).item() == 2
    assert gpu.examinations == 1


# --- what a verdict depends on


def test_a_verdict_names_the_gpu_the_driver_torch_and_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    library = tmp_path / "_C_cuda.abi3.so"
    library.write_bytes(b"machine code")
    properties = SimpleNamespace(name="H200", uuid="GPU-1", major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(self_test_cache, "cuda_library", lambda: library)
    monkeypatch.setattr(self_test_cache, "driver_version", lambda: "580.1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    found = self_test_cache.describe(0, "cases")
    assert found is not None
    assert list(asdict(found).values())[:6] == ["H200", "GPU-1", "9.0", 132, "580.1", torch.__version__]
    library.write_bytes(b"other code")
    assert self_test_cache.describe(0, "cases") not in (found, None)
    library.write_bytes(b"machine code")
    assert self_test_cache.describe(0, "cases") == found
    assert self_test_cache.describe(0, "more cases") != found
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert self_test_cache.describe(0, "cases") not in (found, None)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 12345)
    assert self_test_cache.describe(0, "cases") not in (found, None)
    monkeypatch.setattr(self_test_cache, "driver_version", lambda: None)
    assert self_test_cache.describe(0, "cases") is None


class _Nvml:
    """NVML, as far as it is asked."""

    def __init__(self, status: int) -> None:
        self.open, self.status = 0, status

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.open += 1
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        assert self.open == 1
        text.value = b"580.65.06"
        return self.status

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return 0


@pytest.mark.parametrize(("status", "expected"), [(0, "580.65.06"), (999, None)])
def test_the_drivers_version_is_the_drivers_own_word(
    monkeypatch: pytest.MonkeyPatch, status: int, expected: str | None
) -> None:
    nvml = _Nvml(status)
    monkeypatch.setattr(self_test_cache.ctypes, "CDLL", lambda name: nvml)
    assert self_test_cache.driver_version() == expected
    assert nvml.open == 0


@pytest.mark.parametrize("library", ["libnot-there.so.1", "libc.so.6"])
def test_without_a_driver_there_is_no_version(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(self_test_cache, "_NVML", library)
    assert self_test_cache.driver_version() is None


def test_float32_has_a_verdict_of_its_own(gpu: Gpu) -> None:
    def of(dtype: torch.dtype) -> Any:
        return SimpleNamespace(device=torch.device("cuda", 0), dtype=dtype)

    gpu.about = None  # nothing is kept, which here would count for both
    with switch.recorded_steps():
        assert switch.choose_fused("auto", of(torch.bfloat16))
    gpu.problem = WRONG  # of float32 alone, as 16 bits were key before
    with pytest.raises(TrainingError, match="relative error"):
        switch.choose_fused("fused", of(torch.float32))
    with switch.recorded_steps():
        assert not switch.choose_fused("auto", of(torch.float32))
    assert switch.choose_fused("fused", of(torch.float16))
    assert gpu.examinations == 2
