"""Tensor names and conventions of other SRGAN code bases.

A layout is a table of name patterns and the conventions of the code that writes such files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from srgan_fast.architectures.base import Architecture, Facts, Recognised, State
from srgan_fast.architectures.srgan import (
    IDENTITY,
    IMAGENET_NORMALISED,
    SIGNED,
    Conventions,
    GeneratorConfig,
    describe,
    infer_config,
    network_of,
)
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensor names of a code base.

    Attributes:
        name: repository.
        required: patterns of names that every file of this layout contains.
        rename: pairs of a pattern and our name for it; the first full match applies.
        conventions: value ranges and epsilons of its code.
    """

    name: str
    required: tuple[str, ...]
    rename: tuple[tuple[str, str], ...]
    conventions: Conventions


def _numbered(prefix: str, of_child: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Patterns for a block's children: `prefix`, with one group for the block's index, and each child's new name."""
    return tuple((rf"{prefix}\.{re.escape(index)}\.(\w+)", ours) for index, ours in of_child.items())


_BLOCK_CHILDREN = {
    "0": r"blocks.\1.conv1.\2",
    "1": r"blocks.\1.bn1.\2",
    "2": r"blocks.\1.act.\2",
    "3": r"blocks.\1.conv2.\2",
    "4": r"blocks.\1.bn2.\2",
}

LAYOUTS = (
    Layout(
        name="eriklindernoren/PyTorch-GAN",
        required=(
            r"conv1\.0\.weight",
            r"res_blocks\.0\.conv_block\.0\.weight",
            r"conv2\.0\.weight",
            r"conv3\.0\.weight",
        ),
        rename=(
            (r"conv1\.0\.(\w+)", r"head.conv.\1"),
            (r"conv1\.1\.(\w+)", r"head.act.\1"),
            *_numbered(r"res_blocks\.(\d+)\.conv_block", _BLOCK_CHILDREN),
            (r"conv2\.0\.(\w+)", r"fuse.conv.\1"),
            (r"conv2\.1\.(\w+)", r"fuse.bn.\1"),
            # One flat list: conv, BatchNorm, (shuffle), PReLU per stage.
            *((rf"upsampling\.{4 * s}\.(\w+)", rf"upsample.{s}.conv.\1") for s in range(3)),
            *((rf"upsampling\.{4 * s + 1}\.(\w+)", rf"upsample.{s}.bn.\1") for s in range(3)),
            *((rf"upsampling\.{4 * s + 3}\.(\w+)", rf"upsample.{s}.act.\1") for s in range(3)),
            (r"conv3\.0\.(\w+)", r"tail.\1"),
        ),
        conventions=Conventions(block_eps=0.8, output="tanh", lr_map=IMAGENET_NORMALISED, hr_map=IMAGENET_NORMALISED),
    ),
    Layout(
        name="leftthomas/SRGAN",
        required=(r"block1\.0\.weight", r"block2\.conv1\.weight", r"block\d+\.0\.conv\.weight"),
        # Residual blocks and the convolution after them are numbered consecutively: see `_number_leftthomas`.
        rename=(
            (r"block1\.0\.(\w+)", r"head.conv.\1"),
            (r"block1\.1\.(\w+)", r"head.act.\1"),
            (r"block(\d+)\.prelu\.(\w+)", r"blocks.\1.act.\2"),
            (r"block(\d+)\.((?:conv|bn)[12])\.(\w+)", r"blocks.\1.\2.\3"),
            (r"fuse\.0\.(\w+)", r"fuse.conv.\1"),
            (r"fuse\.1\.(\w+)", r"fuse.bn.\1"),
            (r"last\.(\d+)\.conv\.(\w+)", r"upsample.\1.conv.\2"),
            (r"last\.(\d+)\.prelu\.(\w+)", r"upsample.\1.act.\2"),
            (r"last\.\d+\.(weight|bias)", r"tail.\1"),
        ),
        # The network ends in (tanh + 1) / 2, i.e. a tanh in the range -1..1.
        conventions=Conventions(output="tanh", lr_map=IDENTITY, hr_map=SIGNED),
    ),
    Layout(
        name="Lornatang/SRGAN-PyTorch",
        required=(r"trunk\.0\.rcb\.0\.weight", r"upsampling\.0\.upsample_block\.0\.weight"),
        rename=(
            (r"conv(?:_block)?1\.0\.(\w+)", r"head.conv.\1"),
            (r"conv(?:_block)?1\.1\.(\w+)", r"head.act.\1"),
            *_numbered(r"trunk\.(\d+)\.rcb", _BLOCK_CHILDREN),
            (r"conv(?:_block)?2\.0\.(\w+)", r"fuse.conv.\1"),
            (r"conv(?:_block)?2\.1\.(\w+)", r"fuse.bn.\1"),
            (r"upsampling\.(\d+)\.upsample_block\.0\.(\w+)", r"upsample.\1.conv.\2"),
            (r"upsampling\.(\d+)\.upsample_block\.2\.(\w+)", r"upsample.\1.act.\2"),
            (r"conv(?:_block)?3\.(\w+)", r"tail.\1"),
        ),
        conventions=Conventions(lr_map=IDENTITY, hr_map=IDENTITY),
    ),
)


def layout_of(state: State) -> Layout | None:
    """The layout of a state dict; None if it has none of them."""
    for layout in LAYOUTS:
        if all(any(re.fullmatch(pattern, name) for name in state) for pattern in layout.required):
            return layout
    return None


def to_ours(state: State) -> tuple[dict[str, Array], GeneratorConfig, Layout]:
    """Renames a foreign state dict to the names of `Generator.state_dict()`; also returns its configuration and layout.

    Raises:
        ModelError: it has none of the layouts, or is incomplete.
    """
    layout = layout_of(state)
    if layout is None:
        raise ModelError(f"it matches none of the layouts {', '.join(layout.name for layout in LAYOUTS)}")
    ours = _rename(state, layout)
    return ours, infer_config(ours, layout.conventions, layout.name), layout


def _build(state: State, facts: Facts) -> Recognised:
    ours, config, layout = to_ours(state)
    return Recognised(network_of(config, ours), f"{describe(config)} ({layout.name})")


def _rename(weights: State, layout: Layout) -> dict[str, Array]:
    if layout.name == "leftthomas/SRGAN":
        weights = _number_leftthomas(weights)
    ours: dict[str, Array] = {}
    for name, array in weights.items():
        for pattern, replacement in layout.rename:
            match = re.fullmatch(pattern, name)
            if match:
                ours[match.expand(replacement)] = array
                break
        else:
            raise ModelError(f"it looks like {layout.name}, but {name} does not belong to that network")
    return ours


def _number_leftthomas(weights: State) -> dict[str, Array]:
    """Renames leftthomas/SRGAN's modules by their role.

    They are all called `block1`, `block2`, ...: the head, the residual blocks, the convolution after them, and last the
    upsampling blocks with the tail. So the role follows from the highest index.
    """
    last = max(int(match[1]) for name in weights if (match := re.match(r"block(\d+)\.", name)))

    def renamed(match: re.Match[str]) -> str:
        number = int(match[1])
        if number == 1:
            return "block1."
        return "last." if number == last else "fuse." if number == last - 1 else f"block{number - 2}."

    head = {name: array for name, array in weights.items() if name.startswith("block1.")}
    rest = {name: array for name, array in weights.items() if not name.startswith("block1.")}
    return {**head, **{re.sub(r"^block(\d+)\.", renamed, name): array for name, array in rest.items()}}


SRGAN = Architecture("SRGAN", lambda state: layout_of(state) is not None, _build)
