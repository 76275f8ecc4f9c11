"""Other people's models are read as they are, and what comes out is what spandrel computes."""

import io
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from torch import nn
from torch.optim.swa_utils import AveragedModel

from srgan_fast.errors import ModelError
from srgan_fast.models import DEFAULT_MODEL, read_model
from srgan_fast.models.foreign import convert_file
from srgan_fast.network.interpreter import run
from tests.peak_memory import peak_memory, reset_peak, with_tests

LR = np.random.default_rng(0).random((3, 7, 9))


def esrgan(seed: int = 0, **how: Any) -> nn.Module:
    torch.manual_seed(seed)
    return ESRGAN(**{"num_filters": 8, "num_blocks": 1, "scale": 2, **how}).eval()


def compact(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Compact(num_feat=8, num_conv=2, upscale=4).eval()


def computed(module: nn.Module) -> np.ndarray:
    with torch.inference_mode():
        return module.double()(torch.from_numpy(LR[None]))[0].float().numpy()


def save(content: Any, tmp_path: Path, **options: Any) -> Path:
    path = tmp_path / "theirs.pth"
    torch.save(content, path, **options)
    return path


def assert_is(path: Path, module: nn.Module, key: str | None = None, tolerance: float = 1e-5) -> None:
    expected = computed(module)
    np.testing.assert_allclose(
        run(read_model(path, key).network, LR), expected, atol=tolerance * np.abs(expected).max()
    )


class MyTraining:
    """A class of somebody's project, beside the weights."""


WRAPPED: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda m: m.state_dict(),
    "params_ema before params": lambda m: {"params": esrgan(9).state_dict(), "params_ema": m.state_dict()},
    "under generator, beside D": lambda m: {"discriminator": compact(1).state_dict(), "generator": m.state_dict()},
    "net_g": lambda m: {"net_g": m.state_dict(), "iter": 400000},
    "module. of DataParallel": lambda m: {"params": {f"module.{n}": t for n, t in m.state_dict().items()}},
    "Lightning": lambda m: {
        "state_dict": {
            **{f"net_g.{n}": t for n, t in m.state_dict().items()},
            **{f"net_d.{n}": t for n, t in nn.Conv2d(3, 4, 3).state_dict().items()},
        },
        "pytorch-lightning_version": "2.1",
        "hyper_parameters": SimpleNamespace(scale=2),
    },
    "an averaged model": lambda m: {"state_dict": m.state_dict(), "ema_state_dict": AveragedModel(m).state_dict()},
    "numpy scalars and classes beside": lambda m: {
        "state_dict": m.state_dict(),
        "best": np.float64(31.5),
        "epoch": np.int64(7),
        "made by": MyTraining,
        "training": MyTraining(),
        "path": Path("somewhere"),
        "rng": np.random.default_rng(0).random(3),
    },
    "an optimiser beside": lambda m: {
        "model": m.state_dict(),
        "optimizer": torch.optim.Adam(m.parameters()).state_dict(),
    },
    "parameters": lambda m: OrderedDict((n, nn.Parameter(t)) for n, t in m.state_dict().items()),
    "float64": lambda m: {n: t.double() for n, t in m.state_dict().items()},
    "one storage for all": lambda m: _in_one_storage(m.state_dict()),
    "transposed in memory": lambda m: {
        n: t.transpose(0, 1).contiguous().transpose(0, 1) if t.dim() == 4 else t for n, t in m.state_dict().items()
    },
}


def _in_one_storage(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    flat = torch.cat([tensor.reshape(-1) for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    return {n: part.view(t.shape) for (n, t), part in zip(state.items(), parts, strict=True)}


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "stream"])
@pytest.mark.parametrize("name", WRAPPED)
def test_weights_are_found_however_they_were_saved(name: str, zipped: bool, tmp_path: Path) -> None:
    module = esrgan()
    path = save(WRAPPED[name](module), tmp_path, _use_new_zipfile_serialization=zipped)
    assert_is(path, module)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("kind", ["archive", "stream", "safetensors"])
def test_half_precision_weights_are_read(kind: str, dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    module = compact()
    state = {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}
    if kind == "safetensors":
        path = tmp_path / "theirs.safetensors"
        save_file(state, path)
    else:
        path = save(state, tmp_path, _use_new_zipfile_serialization=kind == "archive")
    assert_is(path, module, tolerance=tolerance)
    module.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    assert_is(path, module)


@pytest.mark.parametrize("make", [esrgan, compact])
def test_the_whole_chain_agrees_with_spandrels_loader(make: Any, tmp_path: Path) -> None:
    path = save({"params": make().state_dict()}, tmp_path)
    loaded = ModelLoader("cpu").load_from_file(path)
    file = read_model(path)
    assert (file.scale, file.channels) == (loaded.scale, loaded.input_channels)
    with torch.inference_mode():
        expected = loaded.model.double()(torch.from_numpy(LR[None]))[0].numpy()
    np.testing.assert_allclose(run(file.network, LR), expected, atol=1e-5 * np.abs(expected).max())


def test_a_shipped_name_and_files_of_ours_are_read_by_the_same_door() -> None:
    file = read_model()
    assert (file.name, file.scale, file.channels) == (DEFAULT_MODEL, 4, 3)
    assert file.architecture.startswith("SRGAN generator, 16 blocks of 64 channels")
    assert file.metadata["licence"]


def test_a_key_chooses_among_several_networks(tmp_path: Path) -> None:
    one, two, three = esrgan(1), esrgan(2), compact(3)
    path = save(
        {"a": one.state_dict(), "b": {"g": two.state_dict()}, "c": {"c": 3}, "params": three.state_dict()}, tmp_path
    )
    assert_is(path, three)
    for key, module in (("a", one), ("b.g", two), ("g", two), ("params", three)):
        assert_is(path, module, key)
        assert read_model(path, key).key.endswith(key)
    with pytest.raises(ModelError, match=r"no state dict with key 'c'; found a, b\.g, params"):
        read_model(path, "c")


def test_several_networks_under_unknown_keys_have_to_be_chosen_from(tmp_path: Path) -> None:
    path = save({"first": esrgan(1).state_dict(), "second": esrgan(2).state_dict()}, tmp_path)
    with pytest.raises(
        ModelError, match=r"contains several networks, first, second; choose one by its key \(--key first\)"
    ):
        read_model(path)
    assert_is(path, esrgan(2), "second")


def test_a_single_state_dict_has_no_keys_to_choose_from(tmp_path: Path) -> None:
    path = save(esrgan().state_dict(), tmp_path)
    with pytest.raises(ModelError, match=r"with key 'params'; found none: it is a single state dict"):
        read_model(path, "params")


def test_what_is_beside_a_network_is_refused_by_name_only_if_it_is_alone(tmp_path: Path) -> None:
    disc = {
        "conv0_0.weight": torch.zeros(4, 3, 3, 3),
        "conv0_1.weight": torch.zeros(4),
        "linear1.weight": torch.zeros(2),
    }
    path = save({"net_d": disc}, tmp_path)
    with pytest.raises(ModelError, match=r"theirs\.pth \(net_d\): this is a VGG-style discriminator"):
        read_model(path)
    assert_is(save({"net_d": disc, "net_g": compact().state_dict()}, tmp_path), compact())


@pytest.mark.parametrize("make", [esrgan, compact])
def test_a_converted_file_is_the_same_network(make: Any, tmp_path: Path) -> None:
    path = save({"params": make().state_dict()}, tmp_path)
    made = convert_file(path, tmp_path / "kept.safetensors")
    kept = read_model(tmp_path / "kept.safetensors")
    assert kept.architecture == made.architecture == read_model(path).architecture
    assert kept.metadata["converted_from"] == "theirs.pth"
    assert np.array_equal(run(kept.network, LR), run(read_model(path).network, LR))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    state = compact().state_dict()
    state["body.2.bias"][1] = torch.inf
    with pytest.raises(ModelError, match=r"\(params\): body\.2\.bias holds values that are not finite"):
        read_model(save({"params": state}, tmp_path))


# Hostile and damaged files: one line, no time, no memory.


def archive(path: Path, data: bytes, *, size: int = 64, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x/data.pkl", data)
        file.writestr("x/data/0", bytes(size))
    return path


def describe(tmp_path: Path, shape: Any, stride: Any, offset: Any = 0, count: Any = 16, **how: Any) -> Path:
    """An archive with one float32 tensor of whatever sizes."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj == "STORAGE" else None

    class Rebuilt:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, ("STORAGE", offset, shape, stride, False, OrderedDict())

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"body.0.weight": Rebuilt(), "body.1.weight": Rebuilt()})
    return archive(tmp_path / "hostile.pth", stream.getvalue(), **how)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((4, 4), (4, 1)), r"unknown network|looks like"),
        (((1 << 40, 4), (4, 1)), r"a tensor of 1099511627776x4 items in a storage of 16"),
        (((1 << 40,), (0,)), r"a tensor of 1099511627776 items in a storage of 16"),
        (((17,), (1,)), r"a tensor of 17 items in a storage of 16"),
        (((4,), (5, 1)), r"invalid sizes"),
        (((-1, 4), (4, 1)), r"invalid sizes"),
        (((4, 4), (-4, 1)), r"invalid sizes"),
        (((2.0, 4), (4, 1)), r"invalid sizes"),
        (((True, 4), (4, 1)), r"invalid sizes"),
        (((1,) * 9, (1,) * 9), r"invalid sizes"),
        (((4, 4), (4, 1), 1), r"a tensor of 4x4 items in a storage of 16"),
        (((4, 4), (4, 1), -1), r"invalid sizes"),
        (((4, 4), (4, 1), 0, 17), r"a storage of 17 items in 64 bytes"),
        (((4, 4), (4, 1), 0, -1), r"a storage of -1 items"),
        (((4, 4), (4, 1), 0, 1 << 60), r"a storage of 1152921504606846976 items in 64 bytes"),
    ],
    ids=str,
)
def test_sizes_that_the_file_cannot_hold_are_refused(sizes: Any, message: str, tmp_path: Path) -> None:
    path = describe(tmp_path, *sizes)
    with pytest.raises(ModelError, match=message):
        read_model(path)


def _nested(count: int) -> bytes:
    """Lists of which each holds the one before it twice."""
    return b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, count))


def _tuples(count: int) -> bytes:
    """The same of tuples, which can be keys."""
    return b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(count))


HOSTILE = {
    "a memo of 4 billion places": b"\x80\x02]r\xff\xff\xff\xff.",
    "a long integer of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "bytes of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xffabc.",
    "lists of lists twice each": b"\x80\x02" + _nested(60) + b".",
    "tuples of tuples as a key": b"\x80\x02}" + _tuples(60) + b"K\x01s.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a dictionary that holds itself": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "deeper than Python goes": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a million marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "no end": b"\x80\x02]",
    "an empty stack": b"\x80\x02a.",
    "an extension": b"\x80\x02\x82\x01.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "a name without a module": b"\x80\x02cos\n\n.",
}

MEASURE = """
import sys, time
from pathlib import Path
from srgan_fast.errors import ModelError
from srgan_fast.models import read_model
from tests.peak_memory import peak_memory, reset_peak
began = reset_peak()
start = time.perf_counter()
try:
    read_model(Path(sys.argv[1]))
except ModelError as error:
    text = str(error)
else:
    text = "READ"
print(time.perf_counter() - start, (peak_memory() - began) / 1e6)
print(text)
"""


@pytest.mark.parametrize("wrapped", ["archive", "stream"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_one_line_without_time_or_memory(
    name: str, wrapped: str, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.pth"
    if wrapped == "archive":
        archive(path, HOSTILE[name])
    else:
        head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        path.write_bytes(head + HOSTILE[name] + pickle.dumps([], 2))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True, env=with_tests()
    )
    numbers, text = done.stdout.split("\n", 1)
    seconds, megabytes = map(float, numbers.split())
    assert str(path) in text
    assert "READ" not in text
    assert text.count("\n") == 1
    assert seconds < 5
    assert megabytes < 400


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "bomb.pth", b"\x80\x02}.", size=1 << 28, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    began = reset_peak()
    with pytest.raises(ModelError, match="a compressed archive"):
        read_model(bomb)
    assert peak_memory() - began < 100e6
    # Many members over the same bytes: the directory claims more than there is.
    path = archive(tmp_path / "overlap.pth", b"\x80\x02}.", size=1000)
    data = path.read_bytes()
    place = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    huge = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(data[: place + 20] + huge + data[place + 28 :])
    with pytest.raises(ModelError, match=r"claims to hold more than its \d+ bytes"):
        read_model(path)


def test_a_damaged_storage_is_noticed(tmp_path: Path) -> None:
    path = save(compact().state_dict(), tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(compact().state_dict()["body.2.weight"].numpy().tobytes()) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"are not what was written; the file is damaged"):
        read_model(path)


def test_large_files_are_read_quickly(tmp_path: Path) -> None:
    path = save({"params_ema": esrgan(num_blocks=8, num_filters=32).state_dict()}, tmp_path)
    began = time.perf_counter()
    read_model(path)
    assert time.perf_counter() - began < 3
