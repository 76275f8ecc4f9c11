"""Runtimes that cannot compute in a child of a fork say so at once; none hangs."""

import os
from pathlib import Path

import pytest

from srgan_fast.runtime.forks import SPAWN

from .native_layers import in_new_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

CHILDREN = """
import os, signal, sys, threading, time, warnings
import numpy as np
from srgan_fast.errors import BackendError
from srgan_fast.runtime.upscaler import Upscaler
warnings.simplefilter("ignore")

model, backend = sys.argv[1:3]
image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
upscaler = Upscaler(model, backend=backend, threads=2)
expected = upscaler(image)
stop = False

def compute():
    while not stop:
        upscaler(image)

def answer(make):
    try:
        return "right" if np.array_equal(make()(image), expected) else "wrong"
    except BackendError as error:
        return str(error)

def in_child(make):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # one that hangs is killed
        print(answer(make), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

thread = threading.Thread(target=compute)
for busy in (False, True):
    if busy:
        thread.start()
        time.sleep(0.1)
    for _ in range(2):
        in_child(lambda: upscaler)
    in_child(lambda: Upscaler(model, backend=backend, threads=2))
stop = True
thread.join()
assert np.array_equal(upscaler(image), expected)
"""
AGAIN = "load the model again in this one"


@pytest.mark.parametrize(
    ("backend", "module", "advice", "reloads"),
    [
        ("native", "numpy", None, True),
        ("onnxruntime", "onnxruntime", AGAIN, True),
        ("openvino", "openvino", SPAWN, False),
        ("torch", "torch", SPAWN, False),
    ],
)
def test_a_child_computes_or_says_what_to_do(
    tiny_model: Path, backend: str, module: str, advice: str | None, reloads: bool
) -> None:
    pytest.importorskip(module)
    lines = in_new_python(CHILDREN, tiny_model, backend).splitlines()
    refusal = (
        f"backend {backend} computed in the process that this one was forked from, and its threads are not here; "
        f"{advice}, or use backend native"
    )
    inherited = "right" if advice is None else refusal
    assert lines == [inherited, inherited, "right" if reloads else refusal] * 2
