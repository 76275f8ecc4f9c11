"""Safe pickle reader for PyTorch's files; it needs no PyTorch and executes nothing.

A pickle is a program for a small stack machine. This reader implements the instructions that build plain values. Where
a program refers to a class or a function it creates a `Named`, which only stores the name, and a call becomes a
`Called`, which is never executed. Tensors are recognised by the calls that would have rebuilt them; other objects
(settings, optimisers, counters) are ignored.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

# Limit of instructions in one pickle: a checkpoint of RRDB with its optimiser has a hundred thousand.
_LONGEST = 2_000_000

_MARK = object()


class Stream(Protocol):
    """Source of a pickle."""

    def read(self, size: int, /) -> bytes:
        """Reads up to that many bytes."""
        ...

    def readline(self) -> bytes:
        """Reads the next line."""
        ...


class PickleError(Exception):
    """The pickle is damaged, or describes more than plain values."""


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function by name, never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Called:
    """A call that is described but never executed.

    Attributes:
        what: the callable.
        arguments: its arguments.
        state: state to be set on the object afterwards.
        items: items to be added to it.
    """

    what: Any
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Persistent:
    """A reference to an object outside the pickle; PyTorch uses them for tensor storages."""

    key: Any


def read_pickle(stream: Stream) -> Any:
    """Reads the value that a pickle describes, up to its end in a stream.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict, set, `Named`, `Called` and `Persistent`.

    Raises:
        PickleError: it is damaged, too long, or has unsupported instructions.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(cast(Any, stream))):
            if count > _LONGEST:
                raise PickleError(f"more than {_LONGEST} instructions")
            name = operation.name
            if name == "STOP":
                return stack.pop()
            if name in _PUSHED:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if argument is None else argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "GLOBAL":
                stack.append(Named(*str(argument).split(" ", 1)))
            elif name in _BUILDERS:
                _BUILDERS[name](stack)
            elif name not in ("PROTO", "FRAME"):
                raise PickleError(f"an instruction {name}")
    except PickleError:
        raise
    except Exception as error:  # any error of a damaged program
        raise PickleError(f"damaged ({type(error).__name__})") from None
    raise PickleError("it has no end")


# Instructions that push their argument.
_PUSHED = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: _MARK,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}


def _above_mark(stack: list[Any]) -> list[Any]:
    """Pops the values above the last mark, and the mark."""
    place = next(i for i in reversed(range(len(stack))) if stack[i] is _MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _put(target: Any, key: Any, value: Any) -> None:
    items = target.items if isinstance(target, Called) else target
    if not isinstance(items, dict):
        raise PickleError("keys for an object that is not a dictionary")
    items[_hashable(key)] = value


def _hashable(key: Any) -> Any:
    # Hashing nested tuples that share elements can take exponential time. Such keys are never needed.
    parts = key if isinstance(key, tuple) else (key,)
    plain = all(part is None or isinstance(part, str | int | float | bytes | Named) for part in parts)
    return key if plain else ("an object", id(key))


def _append(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Called):
        raise PickleError("items for an object that is not a list")


def _appends(stack: list[Any]) -> None:
    values = _above_mark(stack)
    _append(stack[-1], values)


def _set_items(stack: list[Any]) -> None:
    items = _above_mark(stack)
    for key, value in zip(items[::2], items[1::2], strict=True):
        _put(stack[-1], key, value)


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _put(stack[-1], key, value)


def _dictionary(stack: list[Any]) -> None:
    items = _above_mark(stack)
    stack.append({})
    for key, value in zip(items[::2], items[1::2], strict=True):
        _put(stack[-1], key, value)


def _add_items(stack: list[Any]) -> None:
    items = _above_mark(stack)
    if isinstance(stack[-1], set):
        stack[-1].update(_hashable(item) for item in items)


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    def take(stack: list[Any]) -> None:
        items = tuple(stack[-count:])
        if len(items) != count:
            raise PickleError("an empty stack")
        stack[-count:] = [items]

    return take


def _call(stack: list[Any]) -> None:
    arguments, what = stack.pop(), stack.pop()
    if not isinstance(arguments, tuple):
        raise PickleError("a call without arguments")
    stack.append(Called(what, arguments))


def _call_with_keywords(stack: list[Any]) -> None:
    stack.pop()
    _call(stack)


def _object(stack: list[Any]) -> None:
    what, *arguments = _above_mark(stack)
    stack.append(Called(what, tuple(arguments)))


def _give_state(stack: list[Any]) -> None:
    state = stack.pop()
    if isinstance(stack[-1], Called):
        stack[-1].state = state


def _named_on_stack(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(Named(str(module), str(name)))


_BUILDERS: dict[str, Callable[[list[Any]], Any]] = {
    "POP": lambda stack: stack.pop(),
    "DUP": lambda stack: stack.append(stack[-1]),
    "POP_MARK": _above_mark,
    "LIST": lambda stack: stack.append(_above_mark(stack)),
    "TUPLE": lambda stack: stack.append(tuple(_above_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": _dictionary,
    "FROZENSET": lambda stack: stack.append(tuple(_above_mark(stack))),
    "APPEND": lambda stack: _append(stack[-2], [stack.pop()]),
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "ADDITEMS": _add_items,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "NEWOBJ_EX": _call_with_keywords,
    "OBJ": _object,
    "BUILD": _give_state,
    "STACK_GLOBAL": _named_on_stack,
    "BINPERSID": lambda stack: stack.append(Persistent(stack.pop())),
}


__all__ = ["Called", "Named", "Persistent", "PickleError", "read_pickle"]
