"""Generators of any size in which every tensor matters."""

from collections.abc import Callable

import pytest
import torch

from srgan_fast.models import Generator, GeneratorConfig

MakeGenerator = Callable[[GeneratorConfig], Generator]


@pytest.fixture(scope="session")
def make_generator() -> MakeGenerator:
    """A generator in eval mode whose slopes, biases and BatchNorm statistics are all random."""

    def make(config: GeneratorConfig) -> Generator:
        torch.manual_seed(3)
        generator = Generator(config)
        with torch.no_grad():
            for name, tensor in generator.state_dict().items():
                if name.endswith("num_batches_tracked"):
                    continue
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 1.5)
                elif tensor.dim() == 4:
                    tensor.normal_(std=tensor[0].numel() ** -0.5)
                elif "bn" in name and name.endswith("weight"):
                    tensor.uniform_(0.6, 1.2)
                elif name.endswith("act.weight"):
                    tensor.uniform_(0.05, 0.4)
                else:
                    tensor.uniform_(-0.2, 0.2)
        return generator.eval()

    return make


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
