"""The supported architectures, one file each: names and shapes of a state dict in, a list of convolutions out.

To add one: a file with an `Architecture`, a line in `ARCHITECTURES`, a test file that compares it with the original
implementation. An architecture with `settings` can also be trained from the same list (`models.network_generator`).
"""

from srgan_fast.architectures.base import Architecture, Facts, Origin, Recognised, Settings, State
from srgan_fast.architectures.compact import COMPACT
from srgan_fast.architectures.edsr import EDSR, MSR_RESNET
from srgan_fast.architectures.rrdb import RRDB
from srgan_fast.architectures.srgan_layouts import SRGAN
from srgan_fast.architectures.unsupported import name_unsupported
from srgan_fast.errors import ModelError

ARCHITECTURES: tuple[Architecture, ...] = (SRGAN, RRDB, COMPACT, EDSR, MSR_RESNET)

TRAINED_BY_LIST = {architecture.key: architecture for architecture in ARCHITECTURES if architecture.settings}


def recognise(state: State, facts: Facts | None = None) -> Recognised:
    """Recognises the architecture of a state dict and builds its network.

    Args:
        state: float32 arrays by name.
        facts: metadata stored with them.

    Raises:
        ModelError: no architecture of `ARCHITECTURES` matches; the message names the unsupported network, says what is
            missing for a supported one, or lists what the file holds. Callers put the file's name before it.
    """
    if (unsupported := name_unsupported(state)) is not None:
        raise ModelError(f"this is {unsupported}; {_runs()}")
    for architecture in ARCHITECTURES:
        if architecture.matches(state):
            try:
                return architecture.build(state, facts or {})
            except ModelError as error:
                raise ModelError(f"looks like {architecture.name}, but {error}") from None
    raise ModelError(f"unknown network: {describe_state(state)}; {_runs()}")


def _runs() -> str:
    return f"supported: {', '.join(architecture.name for architecture in ARCHITECTURES)}"


def describe_state(state: State) -> str:
    """Number of arrays and the names of the first few."""
    names = [f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in list(state.items())[:4]]
    return f"{len(state)} arrays, {', '.join(names)}, ..." if names else "no arrays"


__all__ = [
    "ARCHITECTURES",
    "TRAINED_BY_LIST",
    "Architecture",
    "Facts",
    "Origin",
    "Recognised",
    "Settings",
    "State",
    "describe_state",
    "recognise",
]
