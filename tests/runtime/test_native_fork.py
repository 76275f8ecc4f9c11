"""A child of a fork uses its parent's engines, whatever the parent's other threads did with them at that moment."""

import os

import pytest

from .native_layers import in_new_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

START = """
import multiprocessing, os, signal, sys, threading, time, warnings
import numpy as np
from native_layers import engine, noise
warnings.simplefilter("ignore")
big, small = noise(300, 200, np.uint8), noise(40, 33)
expected = engine().run(small)
whole = engine().run(big)

def ends_well(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"a child ended by {status}"

def in_child(work, seconds=60):
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)  # one that hangs is killed
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return child

def right(e):
    for _ in range(2):
        assert np.array_equal(e.run(small), expected)
    assert np.array_equal(e.run(big), whole)
"""

COMPUTING = """
e = engine(int(sys.argv[1]))
in_rows = sys.argv[2] == "rows"
read = lambda first, rows: big[first:first + rows]
stop, rounds = False, 0

def compute():
    global rounds
    while not stop:
        if in_rows:
            e.run_rows(height=300, width=200, dtype=np.dtype(np.uint8), read=read, write=lambda first, pixels: None)
        else:
            assert np.array_equal(e.run(big), whole)
        rounds += 1

thread = threading.Thread(target=compute)
thread.start()
"""

WHILE_COMPUTING = """
def in_generations():
    right(e)
    ends_well(in_child(lambda: right(e)))
    right(e)

for number in range(8):
    time.sleep(0.01 + 0.007 * number)  # each at another row of the image
    ends_well(in_child(in_generations if number % 4 == 0 else lambda: right(e)))
stop = True
thread.join()
assert rounds > 0
right(e)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("how", ["whole", "rows"])
def test_children_forked_while_another_thread_computes_compute_the_same(threads: int, how: str) -> None:
    in_new_python(START + COMPUTING + WHILE_COMPUTING, threads, how)


IN_POOLS = """
def work(number):
    right(e)
    return os.getpid()

time.sleep(0.05)
with multiprocessing.get_context("fork").Pool(3) as pool:
    pids = pool.map_async(work, range(6)).get(60)
assert os.getpid() not in pids
stop = True
thread.join()
"""


def test_workers_of_multiprocessing_use_the_engine_that_a_thread_of_their_parent_computes_with() -> None:
    in_new_python(START + COMPUTING + IN_POOLS, 2, "whole")


UNUSED = """
def forget():
    global e
    del e
    other = engine(2)
    right(other)

for _ in range(4):
    time.sleep(0.02)
    ends_well(in_child(forget))
stop = True
thread.join()
right(e)
"""


def test_a_child_that_only_frees_an_engine_in_use_is_unharmed() -> None:
    in_new_python(START + COMPUTING + UNUSED, 3, "whole")


WITHIN_A_RUN = """
e = engine(int(sys.argv[1]))
forked = []

def report(rows):
    if forked:
        return
    forked.append(os.fork())
    if forked[0] == 0:
        signal.alarm(60)
    try:
        e.run(small)
    except RuntimeError as error:
        assert "its own run" in str(error)
    else:
        raise AssertionError("an engine within its own run")

assert np.array_equal(e.run(big, report), whole)
assert len(forked) == 1
right(e)
if forked[0] == 0:
    os._exit(0)
ends_well(forked[0])
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_fork_within_a_run_goes_on_with_it_in_both_processes(threads: int) -> None:
    in_new_python(START + WITHIN_A_RUN, threads)
