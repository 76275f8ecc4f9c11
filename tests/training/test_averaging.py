"""The averaged generator is the promised mean, in eval mode, apart from the one it follows."""

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from srgan_fast.models import Generator, generator_config
from srgan_fast.training.averaging import AveragedGenerator


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(generator_config("paper", channels=4, blocks=1)).train()


def disturb(generator: Generator) -> None:
    with torch.no_grad():
        for tensor in generator.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor))
            else:
                tensor.add_(1)


def test_average_is_the_recursion_with_a_decay_that_starts_low(generator: Generator) -> None:
    average = AveragedGenerator(generator, 0.3)
    expected = {name: tensor.double() for name, tensor in generator.state_dict().items()}
    for step, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 0.3, 0.3]):
        disturb(generator)
        average.update(generator, step)
        for name, tensor in generator.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
            else:
                expected[name] = tensor.double()
    ours = average.module.state_dict()
    assert any(name.endswith("running_var") for name in ours)
    for name, tensor in expected.items():
        assert torch.allclose(ours[name].double(), tensor, rtol=1e-5, atol=1e-5), name


def test_decay_0_follows_at_once_bit_for_bit(generator: Generator) -> None:
    average = AveragedGenerator(generator, 0.0)
    for step in (0, 1, 1000):
        disturb(generator)
        average.update(generator, step)
        assert all(torch.equal(a, b) for a, b in zip(*states(average.module, generator), strict=True))


def states(*generators: Generator) -> list[list[torch.Tensor]]:
    return [list(generator.state_dict().values()) for generator in generators]


def test_average_starts_as_a_copy_of_its_own(generator: Generator) -> None:
    average = AveragedGenerator(generator, 0.9)
    before = [tensor.clone() for tensor in states(average.module)[0]]
    assert all(torch.equal(a, b) for a, b in zip(*states(average.module, generator), strict=True))
    disturb(generator)
    assert all(torch.equal(a, b) for a, b in zip(states(average.module)[0], before, strict=True))


def test_average_evaluates_and_is_not_trained(generator: Generator) -> None:
    average = AveragedGenerator(generator, 0.9)
    average.update(generator, 0)
    assert not average.module.training
    assert not any(p.requires_grad for p in average.module.parameters())
    assert generator.training
    assert all(p.requires_grad for p in generator.parameters())


def test_update_leaves_the_current_weights_alone(generator: Generator) -> None:
    average = AveragedGenerator(generator, 0.9)
    disturb(generator)
    before = [tensor.clone() for tensor in states(generator)[0]]
    average.update(generator, 3)
    assert all(torch.equal(a, b) for a, b in zip(states(generator)[0], before, strict=True))


def test_an_update_is_a_few_operators_on_tensors_that_are_collected_once(generator: Generator) -> None:
    class Calls(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    average = AveragedGenerator(generator, 0.9)
    average.update(generator, 0)
    generator.load_state_dict({name: tensor + 1 for name, tensor in generator.state_dict().items()})  # in place
    with Calls() as calls:
        average.update(generator, 1)
    assert calls.names == ["aten::_foreach_lerp_", "aten::_foreach_copy_"]
    other = copy.deepcopy(generator)
    disturb(other)
    AveragedGenerator.update(average, other, 0)
    single = AveragedGenerator(generator, 0.0)
    single.update(other, 0)
    assert all(torch.equal(a, b) for a, b in zip(*states(single.module, other), strict=True))
