"""What is recorded about the machine, and what others do on it."""

import subprocess
import sys
from pathlib import Path

import pytest

from srgan_fast import memory
from srgan_fast.bench import machine
from srgan_fast.bench.machine import Neighbours, describe_machine

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="read from Linux' /proc")


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    found = describe_machine()
    assert found.cpu
    assert found.cpus >= 1
    assert found.versions["torch"].startswith("2.")
    assert found.variables["OMP_WAIT_POLICY"] == "passive"
    assert found.load_average is not None
    assert len(found.load_average) == 3
    assert 0 < (memory.available() or 0) / 2**20 <= (found.memory_mib or 0)


def test_what_others_compute_is_told_apart_from_what_we_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"monotonic": 100.0, "_busy_seconds": 5000.0, "_own_seconds": 50.0}
    monkeypatch.setattr("srgan_fast.bench.machine.time.monotonic", lambda: now["monotonic"])
    for name in ("_busy_seconds", "_own_seconds"):
        monkeypatch.setattr(machine, name, lambda name=name: now[name])
    neighbours = Neighbours()
    now.update(monotonic=110.0, _busy_seconds=5017.0, _own_seconds=62.0)
    assert neighbours.cpus_taken() == pytest.approx(0.5)
    now.update(_own_seconds=68.0)
    assert neighbours.cpus_taken() == 0, "clocks tick at different times"


def test_what_our_workers_compute_is_ours_while_they_run_and_when_they_have_ended() -> None:
    code = "while __import__('time').process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    others_before = machine._own_seconds()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        running = machine._seconds_of(child.pid)
        assert machine._own_seconds() - others_before < 0.3, "those of the child do not count yet"
    assert 0.4 < running < 5
    assert machine._seconds_of(child.pid) == 0
    assert machine._own_seconds() - others_before >= running - 0.02  # the clock ticks 100 times a second


def test_workers_are_no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"monotonic": 100.0, "_busy_seconds": 5000.0, "_own_seconds": 50.0, 7: 3.0, 8: 20.0}
    monkeypatch.setattr("srgan_fast.bench.machine.time.monotonic", lambda: now["monotonic"])
    for name in ("_busy_seconds", "_own_seconds"):
        monkeypatch.setattr(machine, name, lambda name=name: now[name])
    monkeypatch.setattr(machine, "_seconds_of", lambda child: now[child])
    neighbours = Neighbours(child for child in (7, 8))
    now.update({"monotonic": 110.0, "_busy_seconds": 5017.0, 7: 9.0, 8: 24.0})
    assert neighbours.cpus_taken() == pytest.approx(0.7)


def test_the_system_tells_how_busy_it_is() -> None:
    busy = machine._busy_seconds()
    assert busy is not None
    assert busy > machine._own_seconds() > 0
