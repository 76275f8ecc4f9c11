"""What follows from a list of convolutions, and what is no network."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from srgan_fast.errors import ModelError
from srgan_fast.network import (
    ColourMap,
    Conv,
    Network,
    Residual,
    last_readers,
    macs_per_image_pixel,
    parameter_count,
    readers,
    receptive_radius,
    scale_of,
    value_shapes,
)
from srgan_fast.network.torch_module import NetworkModule

from .random_networks import random_conv, rich_network


def rich(**how: Any) -> Network:
    return rich_network(np.random.default_rng(0), **how)


def influence(network: Network) -> int:
    """The radius as gradients show it: over all outputs of one cell, the farthest image pixel that matters."""
    positive = tuple(
        replace(conv, weight=np.abs(conv.weight), residuals=tuple(Residual(r.value, 1) for r in conv.residuals))
        for conv in network.convs
    )
    module = NetworkModule(replace(network, convs=positive)).double()
    u, scale = network.unshuffle, scale_of(network)
    reach = -(-receptive_radius(network) // u) + 2  # cells on each side; more than needed, so that less would show
    side = (2 * reach + 1) * u
    lr = torch.rand(1, network.channels, u, side, dtype=torch.double, requires_grad=True)
    row = module(lr)[0, 0, 0]
    farthest = 0
    for phase in range(scale * u):
        (gradient,) = torch.autograd.grad(row[reach * u * scale + phase], lr, retain_graph=True)
        columns = torch.nonzero(gradient.abs().sum((0, 1, 2)))[:, 0]
        centre = reach * u + phase // scale
        farthest = max(farthest, centre - int(columns[0]), int(columns[-1]) - centre)
    return farthest


@pytest.mark.parametrize(
    "how",
    [{}, {"unshuffle": 2}, {"unshuffle": 4}, {"unshuffle": 8}, {"skip": "nearest"}, {"skip": "bilinear"}],
    ids=str,
)
def test_the_receptive_radius_is_what_gradients_show(how: dict[str, Any]) -> None:
    network = rich(**how)
    assert receptive_radius(network) == influence(network)


def test_a_skip_alone_reaches_as_far_as_it_interpolates() -> None:
    conv = random_conv(np.random.default_rng(0), "only", 3, 12, 1, shuffle=2)
    assert [receptive_radius(Network((conv,), skip=skip)) for skip in ("none", "nearest", "bilinear")] == [0, 0, 1]
    same = random_conv(np.random.default_rng(0), "only", 3, 3, 1)
    assert receptive_radius(Network((same,), skip="bilinear")) == 0


def test_values_have_channels_and_resolutions() -> None:
    shapes = [(shape.channels, shape.resolution) for shape in value_shapes(rich(unshuffle=2))]
    assert shapes == [(12, 1), (8, 1), (4, 1), (4, 1), (8, 1), (8, 1), (6, 2), (6, 4), (3, 8)]
    assert [scale_of(rich(unshuffle=u)) for u in (1, 2, 4, 8)] == [8, 4, 2, 1]


def test_values_know_who_reads_them_and_who_reads_them_last() -> None:
    network = rich()
    assert readers(network) == ((0,), (1, 2, 3, 4), (2, 3), (3,), (4,), (5,), (6,), (7,), ())
    assert last_readers(network) == (0, 4, 3, 3, 4, 5, 6, 7, 8)


def test_cost_counts_every_pixel_of_every_resolution() -> None:
    convs = (
        random_conv(np.random.default_rng(0), "a", 12, 8, 3, shuffle=2),
        random_conv(np.random.default_rng(0), "b", 2, 3, 5, inputs=(1,)),
    )
    network = Network(convs, unshuffle=2)
    assert macs_per_image_pixel(network) == Fraction(9 * 12 * 8 + 4 * 25 * 2 * 3, 4)
    assert parameter_count(network) == 9 * 12 * 8 + 8 + 25 * 2 * 3 + 3


def _with(index: int, **changes: Any) -> tuple[Conv, ...]:
    convs = list(rich().convs)
    convs[index] = replace(convs[index], **changes)
    return tuple(convs)


SLOPE = np.array([0.1], np.float32)
WRONG = {
    r"a network needs at least one": {"convs": ()},
    r"1, 3 or 4 channels, not 2": {"channels": 2},
    r"unshuffle is 0": {"unshuffle": 0},
    r"skip is 'cubic'": {"skip": "cubic"},
    r"input_map does not have 3 channels": {"input_map": ColourMap((1.0,), (0.0,))},
    r"output_map holds values that are not finite": {"output_map": ColourMap((1.0,) * 3, (np.nan,) * 3)},
    r"'dense\.1': convolution names .* unique": {"convs": _with(4, name="dense.1")},
    r"'': convolution names .* not empty": {"convs": _with(4, name="")},
    r"dense\.2: has no inputs": {"convs": _with(2, inputs=())},
    r"dense\.2: value 3 does not exist": {"convs": _with(2, inputs=(1, 3))},
    r"dense\.2: value -1 does not exist": {"convs": _with(2, inputs=(1, -1))},
    r"dense\.2: its inputs have 8 channels, its weights 12": {"convs": _with(2, inputs=(1,))},
    r"last: its inputs have different resolutions \(4, 1\)": {"convs": _with(7, inputs=(7, 1))},
    r"trunk: residual 2 has 4 channels at resolution 1, its result 8": {"convs": _with(4, residuals=(Residual(2),))},
    r"trunk: residual 5 |trunk: value 5 does not": {"convs": _with(4, residuals=(Residual(5),))},
    r"trunk: the scale of residual 4 is inf": {"convs": _with(4, residuals=(Residual(4, float("inf")),))},
    r"up\.1: 24 channels cannot be shuffled by 3": {"convs": _with(5, shuffle=3)},
    r"up\.1: 24 channels cannot be shuffled by 0": {"convs": _with(5, shuffle=0)},
    r"first: weights of shape \(8, 3, 4, 4\)": {"convs": _with(0, weight=np.zeros((8, 3, 4, 4), np.float32))},
    r"first: weights of shape \(8, 75\)": {"convs": _with(0, weight=np.zeros((8, 75), np.float32))},
    r"first: a bias of shape \(7,\)": {"convs": _with(0, bias=np.zeros(7, np.float32))},
    r"first: slopes of shape \(2,\)": {"convs": _with(0, slope=np.zeros(2, np.float32))},
    r"first: slopes of float64": {"convs": _with(0, slope=np.zeros(1))},
    r"first: bias that are not finite": {"convs": _with(0, bias=np.full(8, np.inf, np.float32))},
    r"last: the last result has 12 channels, the image 3": {"convs": _with(7, shuffle=1)},
    r"last: enlarges by 8 what pixel-unshuffle divides by 3": {
        "unshuffle": 3,
        "convs": _with(0, weight=np.zeros((8, 27, 3, 3), np.float32)),
    },
    r"dense\.2: is read by no convolution": {
        "convs": _with(3, inputs=(1, 2), weight=np.zeros((8, 12, 3, 3), np.float32))
    },
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_parts_that_do_not_fit_are_refused_by_the_convolutions_name(message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(rich(), **WRONG[message])


def test_a_network_without_maps_gets_those_that_change_nothing() -> None:
    network = Network((random_conv(np.random.default_rng(0), "only", 1, 1),), channels=1)
    assert network.input_map == network.output_map == ColourMap.identity(1)
    assert network.input_map.is_identity
    assert not ColourMap((1.0,), (0.5,)).is_identity


def test_a_map_is_undone_by_its_inverse() -> None:
    there = ColourMap((2.0, -4.0, 0.5), (1.0, 0.25, -3.0))
    back = there.inverse()
    assert back == ColourMap((0.5, -0.25, 2.0), (-0.5, 0.0625, 6.0))
