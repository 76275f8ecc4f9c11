"""Workers carry out orders one after another, and are gone afterwards, however they end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from srgan_fast.bench.worker import Worker, environment, why_not
from srgan_fast.errors import BackendError

PROGRAM = """
import os, signal, sys, time
from srgan_fast.bench.worker import serve

print("loaded", flush=True)


class Row:
    def add(self, a, b):
        print("adding", flush=True)
        os.system("echo a process")
        return {"sum": a + b}

    def fail(self, text):
        raise ValueError(text)

    def leave(self):
        print("no luck", file=sys.stderr)
        sys.exit(3)

    def be_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self):
        time.sleep(60)


if __name__ == "__main__":
    serve(Row())
"""

Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ExitStack() as workers:
        yield lambda module="program", **options: workers.enter_context(Worker(module, "row", tmp_path, **options))


def has_ended(pid: int) -> bool:
    """And was waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_orders_are_carried_out_and_what_is_printed_goes_elsewhere(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = start()
    assert [worker.ask("add", a=1, b=b) for b in range(3)] == [{"sum": 1}, {"sum": 2}, {"sum": 3}]
    assert (tmp_path / "row.log").read_text().splitlines() == ["loaded", *["adding", "a process"] * 3]
    assert capfd.readouterr() == ("", "")


def test_numbers_that_are_none_come_through(start: Start) -> None:
    assert start().ask("add", a=float("inf"), b=0) == {"sum": float("inf")}


@pytest.mark.parametrize(
    ("do", "details", "message"),
    [
        ("fail", {"text": "out of luck\nand more"}, "^ValueError: out of luck$"),
        ("fly", {}, "^AttributeError: 'Row' object has no attribute 'fly'"),
        ("leave", {}, "^the process of row ended with code 3: no luck$"),
        ("be_killed", {}, "^the process of row was ended by SIGKILL: loaded$"),
    ],
)
def test_what_goes_wrong_is_told_and_the_process_is_gone(
    start: Start, do: str, details: dict[str, str], message: str
) -> None:
    worker = start()
    with pytest.raises(BackendError, match=message):
        worker.ask(do, **details)
    assert has_ended(worker.pid)
    with pytest.raises(BackendError, match="the process of row "):
        worker.ask("add", a=1, b=1)


def test_an_order_has_its_time(start: Start) -> None:
    worker = start(timeout_s=1.5)
    began = time.monotonic()
    with pytest.raises(BackendError, match=r"^row took more than 1\.5 s in its process$"):
        worker.ask("hang")
    assert time.monotonic() - began < 20
    assert has_ended(worker.pid)


def test_a_program_that_is_not_there_is_told(start: Start) -> None:
    worker = start("no_such_program")
    with pytest.raises(
        BackendError, match=r"^the process of row ended with code 1: .*No module named no_such_program$"
    ):
        worker.ask("add", a=1, b=1)


def test_a_process_that_cannot_be_started_is_told(start: Start) -> None:
    with pytest.raises(BackendError, match=r"^the process of row cannot be started: FileNotFoundError: "):
        start(python="/no/such/python")


def test_a_worker_ends_with_its_block_whatever_it_does(start: Start) -> None:
    with start() as worker:
        worker._socket.sendall(b'{"do": "hang"}\n')
    assert has_ended(worker.pid)
    worker.end()  # again does no harm


def test_a_worker_whose_master_is_gone_ends_by_itself(start: Start, tmp_path: Path) -> None:
    """Killed, a master can end nobody; `start` has put the program in its place."""
    master = """
import os, signal, sys
from pathlib import Path
from srgan_fast.bench.worker import Worker

worker = Worker("program", "row", Path(sys.argv[1]))
worker.ask("add", a=1, b=1)
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", master, str(tmp_path)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=60, check=False, cwd=tmp_path, env=environment()
    )
    stat = Path(f"/proc/{int(done.stdout)}/stat")
    until = time.monotonic() + 20
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":  # nobody need wait for it
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BackendError("ours"), "ours"),
        (RuntimeError("\n first \n second"), "RuntimeError: first"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_becomes_one_line(error: Exception, text: str) -> None:
    assert why_not(error) == text
