"""Names stand for rows; every backend of the registry is one; what is not installed says how to get it."""

import sys

import pytest

from srgan_fast.bench.candidates import PEERS, Candidate, find_candidate, select_candidates
from srgan_fast.errors import UsageError
from srgan_fast.runtime import BACKENDS
from srgan_fast.runtime.protocol import BackendEntry

NATIVE = BackendEntry("native", ("numpy",), "", ("fp32", "bf16"), "torch_backend:TorchBackend")


def _names(*arguments: tuple[str, ...]) -> list[str]:
    backends, peers, precisions = (*arguments, (), (), ())[:3]
    return [row.name for row in select_candidates(backends, peers, precisions)]  # type: ignore[arg-type]


def test_by_default_our_own_engine_comes_before_all_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "native", NATIVE)
    assert _names() == ["native-fp32", "native-bf16", *PEERS]


def test_without_our_own_engine_the_peers_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BACKENDS, "native", raising=False)
    assert _names() == list(PEERS)


def test_every_backend_is_a_row_under_a_name_of_its_own() -> None:
    rows = select_candidates(("all",), ("all",), ())
    assert len({row.name for row in rows}) == len(rows)
    expected = [(e.name, p) for e in BACKENDS.values() for p in e.precisions]
    assert [(row.runtime, row.precision) for row in rows if row.kind == "backend"] == expected
    assert all(find_candidate(row.name) == row for row in rows)


def test_a_library_stands_for_all_its_rows() -> None:
    assert _names(("none",), ("openvino", "mnn-fp32")) == [
        "openvino-fp32",
        "openvino-bf16",
        "openvino-int8",
        "mnn-fp32",
    ]
    assert _names(("torch",), ("none",)) == ["our-torch-fp32", "our-torch-bf16", "our-torch-fp16"]


def test_rows_of_other_precisions_are_left_away() -> None:
    assert _names(("none",), (), ("int8",)) == ["openvino-int8"]
    assert "torch-nhwc-bf16" not in _names((), (), ("fp32", "int8"))


@pytest.mark.parametrize(
    ("backends", "peers", "precisions", "message"),
    [
        (("cudnn",), (), (), "unknown backend 'cudnn'; choose from all, none, "),
        ((), ("tflite",), (), "unknown peer 'tflite'; choose from all, none, torch-nchw-fp32, "),
        (("none",), ("none",), (), "nothing to measure"),
        (("none",), ("mnn",), ("int8",), "nothing to measure"),
        ((), ("none", "mnn"), (), "--peer none cannot be combined with another --peer"),
    ],
)
def test_what_stands_for_nothing_is_refused(
    backends: tuple[str, ...], peers: tuple[str, ...], precisions: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        select_candidates(backends, peers, precisions)  # type: ignore[arg-type]


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown row 'nothing'; choose from .*ncnn-fp32"):
        find_candidate("nothing")


def test_what_is_not_installed_says_how_to_get_it() -> None:
    row = Candidate("a-fp32", "a", "fp32", ("numpy", "no_such_module", "no_such.part"), ("numpy", "no-such-package"))
    assert row.missing() == ["no_such_module", "no_such.part"]
    assert row.remedy == "pip install numpy no-such-package"


def test_every_row_says_how_its_own_users_would_run_it() -> None:
    for row in select_candidates(("all",), ("all",), ()):
        command = row.command.format(threads=7)
        assert "7" in command
        assert "{" not in command
    assert PEERS["openvino-bf16"].command.format(threads=2).endswith("-hint latency -nthreads 2 -infer_precision bf16")


def test_a_runtime_may_have_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    row = PEERS["zentorch-fp32"]
    assert row.python == sys.executable
    monkeypatch.setenv("SRGAN_FAST_BENCH_PYTHON_ZENTORCH", "/elsewhere/bin/python")
    assert row.python == "/elsewhere/bin/python"
    assert row.missing() == [], "loading says what is missing there"


def test_a_backend_that_is_of_no_use_here_is_a_row_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = BackendEntry("tensorrt", ("no_such_module",), "", ("fp32",), "torch_backend:TorchBackend")
    monkeypatch.setitem(BACKENDS, "tensorrt", absent)
    assert "tensorrt-fp32" not in _names()
    assert "tensorrt-fp32" in _names(("all",))
    assert _names(("tensorrt",), ("none",)) == ["tensorrt-fp32"]
    monkeypatch.setitem(BACKENDS, "tensorrt", BackendEntry("tensorrt", ("numpy",), "", ("fp32",), absent.load))
    assert "tensorrt-fp32" in _names()
    monkeypatch.setattr("srgan_fast.runtime.registry._computes", lambda entry, _: entry.name != "tensorrt")
    assert "tensorrt-fp32" not in _names(), "it is installed, but this machine has no use for it"
    assert "tensorrt-fp32" in _names(("tensorrt",))


def test_a_backend_may_compute_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = BackendEntry("tensorrt", ("numpy",), "", ("fp32", "fp16"), "torch_backend:TorchBackend")  # type: ignore[arg-type]
    monkeypatch.setitem(BACKENDS, "tensorrt", entry)
    assert _names(("tensorrt",), ("none",), ("fp16",)) == ["tensorrt-fp16"]
    assert find_candidate("tensorrt-fp16").why_not_here() is None
