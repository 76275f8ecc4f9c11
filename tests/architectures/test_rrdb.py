"""ESRGAN's networks under all of their names, against spandrel."""

from typing import Any

import numpy as np
import pytest
import torch
from spandrel.architectures.ESRGAN import ESRGAN, ESRGANArch

from srgan_fast.architectures import recognise
from srgan_fast.errors import ModelError
from srgan_fast.network import receptive_radius, scale_of
from srgan_fast.network.interpreter import run

SIZE = {"num_filters": 8, "num_blocks": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "x1": {"scale": 1},
    "x2": {"scale": 2},
    "x4": {"scale": 4},
    "x8": {"scale": 8},
    "x16": {"scale": 16},
    "x2 unshuffled": {"scale": 4, "in_nc": 12, "shuffle_factor": 2},
    "x1 unshuffled": {"scale": 4, "in_nc": 48, "shuffle_factor": 4},
    "gray": {"scale": 4, "in_nc": 1, "out_nc": 1},
    "four channels": {"scale": 2, "in_nc": 4, "out_nc": 4},
    "ESRGAN+": {"scale": 4, "plus": True},
    "one block, 5 channels": {"scale": 4, "num_filters": 5, "num_blocks": 1},
}


def to_new_names(state: dict[str, np.ndarray], blocks: int, stages: int, kind: str) -> dict[str, np.ndarray]:
    """BasicSR's or BSRGAN's names for those of 2018."""
    basicsr = kind == "BasicSR"
    up, hr, body = ("conv_up", "conv_hr", "conv_body") if basicsr else ("upconv", "HRconv", "trunk_conv")
    modules = {"model.0": "conv_first", f"model.1.sub.{blocks}": body}
    modules |= {f"model.{3 * i}": f"{up}{i}" for i in range(1, stages + 1)}
    modules |= {f"model.{3 * stages + 2}": hr, f"model.{3 * stages + 4}": "conv_last"}
    for b in range(blocks):
        for r in (1, 2, 3):
            block = f"body.{b}.rdb{r}" if basicsr else f"RRDB_trunk.{b}.RDB{r}"
            modules |= {f"model.1.sub.{b}.RDB{r}.conv{c}.0": f"{block}.conv{c}" for c in range(1, 6)}
    return {f"{modules[m]}.{part}": a for (m, _, part), a in ((n.rpartition("."), a) for n, a in state.items())}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(7, 10), (4, 4), (13, 5)])
def test_agrees_with_spandrel(variant: str, size: tuple[int, int], randomised: Any, state_of: Any) -> None:
    module = randomised(ESRGAN(**{**SIZE, **VARIANTS[variant]}))
    network = recognise(state_of(module)).network
    lr = np.random.default_rng(0).random((network.channels, *size))
    with torch.inference_mode():
        expected = module.double()(torch.from_numpy(lr[None]))[0].numpy()
    got = run(network, lr)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("names", ["BasicSR", "BSRGAN"])
@pytest.mark.parametrize("variant", ["x2", "x4", "x8", "x2 unshuffled", "x1 unshuffled"])
def test_newer_names_stand_for_the_same_network(names: str, variant: str, randomised: Any, state_of: Any) -> None:
    settings = VARIANTS[variant]
    old = state_of(randomised(ESRGAN(**{**SIZE, **settings})))
    new = to_new_names(old, SIZE["num_blocks"], settings["scale"].bit_length() - 1, names)
    assert new.keys().isdisjoint(old)
    a, b = recognise(old), recognise(new)
    assert a.description == b.description
    assert [conv.name for conv in a.network.convs] == [conv.name for conv in b.network.convs]
    assert all(np.array_equal(x.weight, y.weight) for x, y in zip(a.network.convs, b.network.convs, strict=True))
    assert ESRGANArch().load({n: torch.from_numpy(t) for n, t in new.items()}).scale == scale_of(b.network)


def test_real_esrgans_size_has_its_known_facts(state_of: Any) -> None:
    found = recognise(state_of(ESRGAN(num_filters=16, num_blocks=23)))
    assert found.description == "RRDB (ESRGAN), 23 blocks, 16 channels, growth 32"
    assert scale_of(found.network) == 4
    # 23 blocks of 15 convolutions, and those around them: 1 + 345 + 1 pixels, then 1, 1/2, 1/4 and 1/4.
    assert receptive_radius(found.network) == 349


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.3.weight": None}, r"looks like RRDB \(ESRGAN\), but the convolutions after the trunk have indices"),
        ({"model.1.sub.1.RDB2.conv3.0.weight": None}, r"but missing body\.1\.rdb2\.conv3\.weight"),
        ({"model.1.sub.1.RDB2.conv3.0.weight": (32, 9, 3, 3)}, r"body\.1\.rdb2\.conv3\.weight has shape"),
        ({"model.1.sub.0.RDB1.conv1.0.weight": (32,)}, r"body\.0\.rdb1\.conv1\.weight is not of a convolution"),
        ({"extra.weight": (3,)}, r"1 arrays do not belong to that network: extra\.weight"),
        ({"model.10.weight": (7, 8, 3, 3), "model.10.bias": (7,)}, r"the input has 3 channels, the output 7"),
        ({"model.0.weight": (8, 6, 3, 3)}, r"2 is not a square number"),
        ({"conv_first.weight": (8, 3, 3, 3)}, r"conv_first\.weight occurs twice"),
    ],
)
def test_damaged_networks_are_refused_by_what_is_wrong(
    change: dict[str, Any], message: str, randomised: Any, state_of: Any, damaged: Any
) -> None:
    state = state_of(randomised(ESRGAN(**SIZE)))
    with pytest.raises(ModelError, match=message):
        recognise(damaged(state, change))
