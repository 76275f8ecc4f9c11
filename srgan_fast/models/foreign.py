"""Other people's generators: their checkpoint files become ours, safely and with equal output.

A layout is a table of name patterns with the conventions of the code that made the files. Files are unpickled with
`weights_only=True`, so that nothing in them is ever executed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from srgan_fast.architectures.srgan import IDENTITY, IMAGENET_NORMALISED, SIGNED, Conventions
from srgan_fast.errors import ModelError
from srgan_fast.models.checkpoint import GeneratorFile, infer_config, write_generator

# Where training scripts hide a state dict inside what they save; averaged weights are preferred.
_NESTED_KEYS = (
    "params_ema", "ema_state_dict", "params", "state_dict", "model_state_dict", "generator_state_dict",
    "generator", "netG", "model",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "generator.", "netG.")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a code base names a generator's tensors.

    Attributes:
        name: of the repository.
        required: patterns of names that every file of this layout has.
        rename: pairs of a pattern and our name for it; the first full match counts.
        conventions: what its code does around the weights.
    """

    name: str
    required: tuple[str, ...]
    rename: tuple[tuple[str, str], ...]
    conventions: Conventions


def _numbered(prefix: str, of_child: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Patterns of a block's children: `prefix` with one group for its number, child's index to our name."""
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
            # One flat list: conv, BatchNorm, (shuffle), PReLU for each stage.
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
        # Residual blocks and the convolution after them share one numbering: `_number_leftthomas`.
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
        # The network ends in (tanh + 1) / 2: a tanh in the signed space.
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


def convert_file(source: Path, target: Path) -> GeneratorFile:
    """Reads a foreign checkpoint and writes it as a generator file of ours.

    Args:
        source: what torch.save made (`.pth`, `.pt`, `.ckpt`, `.bin`), or a `.safetensors` file of the same tensors.
        target: `.safetensors`.

    Raises:
        ModelError: an unsafe, damaged or unknown file; the message says what was found.
    """
    tensors, layout = read_foreign(source)
    name = source.name.encode(errors="replace").decode()  # file names need not be Unicode, metadata must
    return write_generator(tensors, layout.conventions, target, {"converted_from": name, "layout": layout.name})


def read_foreign(source: Path) -> tuple[dict[str, NDArray[np.float32]], Layout]:
    """A foreign checkpoint's weights under our names, and the layout they were in.

    Raises:
        ModelError: an unsafe, damaged or unknown file.
    """
    try:
        import torch  # noqa: PLC0415, F401 (a heavy extra)
    except ImportError:
        raise ModelError("reading PyTorch files needs torch: pip install 'srgan_fast[train]'") from None
    if not source.is_file():
        raise ModelError(f"{source}: no such file")
    content = _read_safetensors(source) if source.suffix == ".safetensors" else _unpickle(source)
    state = _find_state_dict(content, source)
    weights = {
        name: _as_array(tensor, f"{source}: {name}")
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    for layout in LAYOUTS:
        if all(any(re.fullmatch(pattern, name) for name in weights) for pattern in layout.required):
            ours = _rename(weights, layout, source)
            infer_config(ours, layout.conventions, f"{source} ({layout.name})")
            return ours, layout
    raise ModelError(
        f"{source}: an unknown layout; it holds {_describe(weights)}. Known are "
        f"{', '.join(layout.name for layout in LAYOUTS)}"
    )


def _read_safetensors(source: Path) -> Any:
    from safetensors.torch import load_file  # noqa: PLC0415 (needs torch)

    try:
        return load_file(source)
    except (SafetensorError, OSError, KeyError) as error:
        raise ModelError(f"{source}: not a readable safetensors file ({error})") from None


def _unpickle(source: Path) -> Any:
    import torch  # noqa: PLC0415 (imported by the caller already)

    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its parsers do; all mean that nothing was loaded
        if re.search(r"\bGLOBAL\b|TorchScript", str(error)):  # a class or function that is no tensor's
            raise ModelError(
                f"{source}: refused, it holds more than tensors and loading it could run code; save the state dict "
                f"alone (torch.save(model.state_dict(), ...)) and convert that"
            ) from None
        raise ModelError(
            f"{source}: not a readable PyTorch file; it is damaged, or no work of torch.save(model.state_dict(), ...)"
        ) from None


def _as_array(tensor: Any, what: str) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415 (imported by the caller already)

    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise ModelError(f"{what} is no plain tensor of floating-point weights")
    array: NDArray[np.float32] = tensor.detach().float().numpy()
    return array


def _find_state_dict(content: Any, source: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415 (imported by the caller already)

    for _ in range(3):  # dictionaries in dictionaries, as training scripts save them
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return _strip_prefixes({str(name): value for name, value in content.items()})
        nested = next((key for key in _NESTED_KEYS if isinstance(content.get(key), Mapping)), None)
        if nested is None:
            break
        content = content[nested]
    if isinstance(content, Mapping):
        found = f"a dictionary with {', '.join(map(str, list(content)[:6])) or 'nothing'}"
    else:
        found = f"a {type(content).__name__}"
    raise ModelError(f"{source}: holds no state dict but {found}")


def _strip_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    while True:
        for prefix in _PREFIXES:
            if state and all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
                break
        else:
            return state


def _rename(weights: dict[str, NDArray[np.float32]], layout: Layout, source: Path) -> dict[str, NDArray[np.float32]]:
    if layout.name == "leftthomas/SRGAN":
        weights = _number_leftthomas(weights)
    ours: dict[str, NDArray[np.float32]] = {}
    for name, array in weights.items():
        for pattern, replacement in layout.rename:
            match = re.fullmatch(pattern, name)
            if match:
                ours[match.expand(replacement)] = array
                break
        else:
            raise ModelError(f"{source}: looks like {layout.name}, but {name} is not a part of that network")
    return ours


def _number_leftthomas(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Gives that layout's modules names that say what they are.

    It numbers everything `block1`, `block2`, ...: the head, the residual blocks, the convolution after them, and last a
    list of upsampling blocks and the tail. So the roles follow from the highest number.
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


def _describe(weights: Mapping[str, NDArray[Any]]) -> str:
    names = [f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in list(weights.items())[:4]]
    return f"{len(weights)} tensors: {', '.join(names)}, ..."
