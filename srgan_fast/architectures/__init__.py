"""Who writes networks: one file for each architecture, which turns names and shapes into a list of convolutions.

To add one: a file with an `Architecture`, a line in `ARCHITECTURES`, a test file that holds it against the original.
One that has `settings` is trained, too, by the same list (`models.network_generator`).
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
    """The network that a state dict stands for.

    Args:
        state: float32 arrays by name.
        facts: recorded beside them.

    Raises:
        ModelError: it stands for none of `ARCHITECTURES`; the message, for the reader of a file to put its name before,
            says which other network it is, what an architecture lacks in it, or what it holds.
    """
    if (unsupported := name_unsupported(state)) is not None:
        raise ModelError(f"this is {unsupported}; {_runs()}")
    for architecture in ARCHITECTURES:
        if architecture.matches(state):
            try:
                return architecture.build(state, facts or {})
            except ModelError as error:
                raise ModelError(f"looks like {architecture.name}, but {error}") from None
    raise ModelError(f"holds an unknown network: {describe_state(state)}; {_runs()}")


def _runs() -> str:
    return f"what runs here: {', '.join(architecture.name for architecture in ARCHITECTURES)}"


def describe_state(state: State) -> str:
    """How many arrays there are, and the first of them."""
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
