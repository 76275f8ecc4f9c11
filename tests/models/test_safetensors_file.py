"""A file of ours knows its weights: one that was damaged is refused, one that others wrote is taken as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models import read_model
from srgan_fast.models.safetensors_file import read_safetensors, write_safetensors

TENSORS: dict[str, NDArray[Any]] = {
    "b.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.weight": np.arange(7, dtype=np.float16),
    "count": np.array([3], np.int64),
    "none": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, TENSORS, {"licence": "CC0"})
    return path


def test_what_was_written_is_read_without_the_digest(path: Path) -> None:
    metadata, tensors = read_safetensors(path)
    assert metadata == {"licence": "CC0"}
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_any_changed_byte_of_the_weights_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in range(header, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x20
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="its weights are not those that were written; the file is damaged"):
            read_safetensors(path)


def test_weights_that_changed_their_names_shapes_or_places_are_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for old, new in ((b'"a.weight"', b'"c.weight"'), (b"[2,3,4]", b"[3,2,4]"), (b'"F16"', b'"I16"')):
        assert whole.count(old) == 1
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(ModelError, match="not those that were written"):
            read_safetensors(path)


def test_metadata_may_be_added_and_changed_by_others(path: Path) -> None:
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    path.write_bytes(safetensors.numpy.save(TENSORS, {**metadata, "licence": "CC-BY", "author": "somebody"}))
    assert read_safetensors(path)[0] == {"licence": "CC-BY", "author": "somebody"}


def test_files_without_a_digest_are_read(path: Path) -> None:
    path.write_bytes(safetensors.numpy.save(TENSORS, {"licence": "CC0"}))
    metadata, tensors = read_safetensors(path)
    assert metadata == {"licence": "CC0"}
    np.testing.assert_array_equal(tensors["b.weight"], TENSORS["b.weight"])


def test_a_generator_with_one_flipped_bit_is_refused_before_it_upscales(tiny_model: Path, tmp_path: Path) -> None:
    damaged = bytearray(tiny_model.read_bytes())
    damaged[-1000] ^= 1  # the lowest of a float's bits: nothing else would notice
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"damaged\.safetensors: its weights are not those that were written"):
        read_model(path)
