"""Folded convolutions compute what the layers did that they came from."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from srgan_fast.errors import ModelError
from srgan_fast.network import ColourMap
from srgan_fast.network.interpreter import colour_map, convolve, shuffle
from srgan_fast.network.lowering import (
    embedded,
    fold_batchnorm,
    fold_output_map,
    nearest_as_phases,
    rounded,
    slopes_before_shuffle,
)

RNG = np.random.default_rng(1)


def weights(c_out: int, c_in: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.standard_normal((c_out, c_in, size, size)), RNG.standard_normal(c_out)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("picture", [(1, 1), (1, 5), (4, 3)])
def test_nearest_and_a_convolution_are_phases_and_a_shuffle(factor: int, size: int, picture: tuple[int, int]) -> None:
    weight, bias = weights(4, 3, size)
    x = RNG.random((3, *picture))
    expected = convolve(x.repeat(factor, 1).repeat(factor, 2), weight) + bias[:, None, None]
    phases, biases = nearest_as_phases(weight, bias, factor)
    assert phases.shape == (4 * factor**2, 3, 3, 3)
    np.testing.assert_allclose(shuffle(convolve(x, phases) + biases[:, None, None], factor), expected, atol=1e-14)


def test_a_batchnorm_goes_into_the_convolution_before_it() -> None:
    weight, bias = weights(5, 3, 3)
    gamma, beta, mean = RNG.standard_normal((3, 5))
    variance = RNG.uniform(0.1, 2, 5)
    x = RNG.random((3, 6, 7))
    y = torch.from_numpy(convolve(x, weight) + bias[:, None, None])[None]
    expected = F.batch_norm(y, *map(torch.from_numpy, (mean, variance, gamma, beta)), eps=0.3)[0].numpy()
    folded, shift = fold_batchnorm(weight, bias, gamma=gamma, beta=beta, mean=mean, variance=variance, eps=0.3)
    np.testing.assert_allclose(convolve(x, folded) + shift[:, None, None], expected, atol=1e-13)


@pytest.mark.parametrize("factor", [1, 2])
def test_an_output_map_goes_into_a_linear_convolution(factor: int) -> None:
    weight, bias = weights(3 * factor**2, 4, 3)
    values = ColourMap((2.0, -0.5, 3.0), (0.1, 0.2, -0.3))
    x = RNG.random((4, 5, 6))
    expected = colour_map(shuffle(convolve(x, weight) + bias[:, None, None], factor), values)
    folded, shift = fold_output_map(weight, bias, values, factor)
    np.testing.assert_allclose(shuffle(convolve(x, folded) + shift[:, None, None], factor), expected, atol=1e-14)


@pytest.mark.parametrize("count", [1, 3])
def test_slopes_after_a_shuffle_become_slopes_before_it(count: int) -> None:
    x = RNG.standard_normal((12, 4, 5))
    slopes = RNG.random(count)
    after = shuffle(x, 2)
    before = slopes_before_shuffle(slopes, 2)
    assert before.shape == (1 if count == 1 else 12,)
    expected = np.where(after > 0, after, after * slopes[:, None, None])
    assert np.array_equal(shuffle(np.where(x > 0, x, x * before[:, None, None]), 2), expected)


def test_a_small_kernel_computes_the_same_in_the_middle_of_a_larger_one() -> None:
    weight, _ = weights(4, 3, 1)
    x = RNG.random((3, 5, 6))
    np.testing.assert_allclose(convolve(x, embedded(weight, 3)), convolve(x, weight), atol=1e-15)


def test_what_leaves_float32_is_refused() -> None:
    weight, bias = weights(2, 1, 1)
    zero, one = np.zeros(2), np.ones(2)
    folded, _ = fold_batchnorm(weight, bias, gamma=one, beta=zero, mean=zero, variance=zero, eps=0.0)
    with pytest.raises(ModelError, match=r"^head: folded values exceed float32's range"):
        rounded(folded, "head")
