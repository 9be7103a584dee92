"""`dataclass`: the standard one, made in a quarter of the time where it is frozen and slotted.

Some hundred and fifty classes here are frozen and slotted, and a program pays for each of them when it
starts: the standard decorator compiles six methods of a frozen class one by one (Python 3.13 does it at
once). Here the constructor alone is compiled. The other methods differ by the names of the fields only, so
they are closures, or the same for all.

What comes out is a dataclass for `dataclasses.fields`, `replace` and `is_dataclass`, for ``match`` and for
pickle. Type checkers are shown the standard one, and what is not frozen, slotted and plain is that one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, cast

__all__ = ["dataclass", "state"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(**options: bool) -> Any:
        """Return a decorator like `dataclasses.dataclass`, which has the same options."""
        if options == {"frozen": True, "slots": True}:
            return _frozen
        return dataclasses.dataclass(**options)


_OWN = {"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__getstate__", "__setstate__"}


def _frozen(cls: type) -> type:
    if not _is_plain(cls):
        standard: Any = dataclasses.dataclass(frozen=True, slots=True)
        return cast(type, standard(cls))
    with_fields: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)
    made: Any = with_fields(cls)
    parameters = made.__dataclass_params__
    parameters.init = parameters.repr = parameters.eq = parameters.frozen = True  # for who asks
    fields = dataclasses.fields(made)
    members: Mapping[str, Any] = vars(cast(type, made))
    setters = [members[field.name].__set__ for field in fields]
    for method in (_constructor(made, fields, setters), *_comparison(fields)):
        method.__qualname__ = f"{made.__qualname__}.{method.__name__}"
        setattr(made, method.__name__, method)
    made.__repr__, made.__setattr__, made.__delattr__ = _shown, _refuse_to_set, _refuse_to_delete
    made.__getstate__, made.__setstate__ = state, _restore
    return cast(type, made)


def _is_plain(cls: type) -> bool:
    """Return whether the class has nothing that is not done here: methods of its own, bases, fields of a kind."""
    if _OWN & vars(cls).keys() or any(map(dataclasses.is_dataclass, cls.__mro__[1:])):
        return False
    if any("InitVar" in str(kind) or "KW_ONLY" in str(kind) for kind in vars(cls).get("__annotations__", {}).values()):
        return False
    fields: list[Field[Any]] = [value for value in vars(cls).values() if isinstance(value, Field)]
    return all(
        field.init and field.repr and field.compare and field.hash is None and field.kw_only is not True
        for field in fields
    )


class _Made:
    """Stands in a constructor's signature for what a default factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_MADE = _Made()


def _constructor(made: type, fields: Sequence[Field[Any]], setters: Sequence[Any]) -> Any:
    """Return `__init__`, compiled: its parameters are the fields."""
    names: dict[str, Any] = {"__name__": made.__module__, "_made": _MADE}
    parameters, body = ["self"], list[str]()
    for field, setter in zip(fields, setters, strict=True):
        name, default, value = field.name, "", field.name
        names[f"_set_{name}"] = setter
        if field.default is not MISSING:
            names[f"_default_{name}"] = field.default
            default = f"=_default_{name}"
        elif field.default_factory is not MISSING:
            names[f"_make_{name}"] = field.default_factory
            default, value = "=_made", f"_make_{name}() if {name} is _made else {name}"
        parameters.append(name + default)
        body.append(f"_set_{name}(self, {value})")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"]), names)
    constructor = names["__init__"]
    constructor.__annotations__ = {field.name: field.type for field in fields} | {"return": None}
    return constructor


def _comparison(fields: Sequence[Field[Any]]) -> tuple[Any, Any]:
    names = [field.name for field in fields]
    # Of one field alone it would be the value, and not a tuple, which finds what is itself equal first.
    values = attrgetter(*names, *names[:1]) if names else type

    def __eq__(self: object, other: object) -> bool:
        if other.__class__ is self.__class__:
            return bool(values(self) == values(other))
        return NotImplemented

    def __hash__(self: object) -> int:
        return hash(values(self))

    return __eq__, __hash__


def state(self: Any) -> list[Any]:
    """Return what pickle keeps of a value made here."""
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


@recursive_repr()
def _shown(self: Any) -> str:
    values = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
    return f"{type(self).__qualname__}({', '.join(values)})"


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
