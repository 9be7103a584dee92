"""Handlers that only move values: they return an argument, a constant or an attribute, or keep an argument.

``async def total(self): return self._total`` is what many asks are for. Such a handler runs no code but its own:
it calls nothing, and nothing that could be somebody's method in disguise, as an operator, an item or a property
may be. So nothing can find out in which task or context it runs, whose turn it is, or how deep in the stack it
stands, and it needs none of what a turn has to have around it. It has no effect that is not done when it
returns, and to run it twice does what running it once does. (What it lets go of may have a finalizer. That may
run anywhere as it is.)

The code of the function is read once for each class. What is not known for sure to be harmless is not: the price
of a mistake is a handler that sees its caller's context variables, and the gain is some hundred nanoseconds.

References:
    Python documentation, "dis": what the instructions do; they differ between versions, the tests run under each.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from inspect import CO_COROUTINE, getattr_static
from types import FunctionType, MemberDescriptorType
from typing import Any

_HARMLESS = frozenset(
    {
        "RETURN_GENERATOR",
        "RESUME",
        "NOP",
        "POP_TOP",
        "LOAD_CONST",
        "LOAD_FAST",
        "STORE_FAST",
        "LOAD_ATTR",
        "STORE_ATTR",
        "RETURN_VALUE",
        "RETURN_CONST",
        "RERAISE",
    }
)
"""Instructions that run no other code, if attributes are those of the actor itself, and plain ones."""

_ACCESSES = ("__getattribute__", "__getattr__", "__setattr__")
"""What a class may have that runs with each access to an attribute, or to one that is missing."""


def only_moves(function: object, cls: type[Any]) -> bool:
    """Return whether a handler of a class runs no code but its own, and does nothing but move values."""
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    if not code.co_flags & CO_COROUTINE or not code.co_argcount:
        return False
    if any(getattr_static(cls, access, None) is not getattr_static(object, access, None) for access in _ACCESSES):
        return False
    own = code.co_varnames[0]
    loaded: object = None
    for name, argument in _instructions(function):
        if name not in _HARMLESS or (name == "STORE_FAST" and argument == own):
            return False
        if name in ("LOAD_ATTR", "STORE_ATTR") and not (loaded == own and _is_plain(cls, str(argument))):
            return False
        loaded = argument if name == "LOAD_FAST" else None
    return True


def _instructions(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield names and arguments; two loads in one (3.13) as two."""
    for instruction in dis.get_instructions(function):
        name, argument = instruction.opname, instruction.argval
        if name == "LOAD_FAST_LOAD_FAST":
            yield from (("LOAD_FAST", one) for one in argument)
        elif name == "CALL_INTRINSIC_1" and instruction.argrepr == "INTRINSIC_STOPITERATION_ERROR":
            yield "NOP", None  # each coroutine ends with it, from 3.12 on
        else:
            yield name, argument


def _is_plain(cls: type[Any], name: str) -> bool:
    """Return whether to get or set an attribute of an instance runs no code."""
    found: object = getattr_static(cls, name, None)
    kind = type(found)
    return kind is MemberDescriptorType or not any(
        hasattr(kind, access) for access in ("__get__", "__set__", "__delete__")
    )
