"""Values of classes that go by name: enums, dataclasses, named tuples, models, structs.

A record travels as its class's wire name and its content by field name. It is rebuilt from the
content alone: no constructor of a dataclass, named tuple or model runs again, since it ran when the
value was made. So a class may gain a field that has a default while nodes still run the older
version; a field that the receiver does not know is an error that names it.

A class that customises its own pickling (``__reduce__``, ``__getstate__``) has said that its
fields are not its content, and one that builds on a built-in container has more content than
its fields: neither is a record. Pydantic and msgspec are looked at only when the process has
imported them.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import operator
import sys
from collections.abc import Callable
from types import MappingProxyType, MemberDescriptorType
from typing import Any, cast

from ringcast.errors import CodecError
from ringcast.values import state

from ..actors.naming import find_class, travels_by_value, wire_name
from .extensions import Code, TakeApart

COMBINATIONS_MAX = 10_000
"""Combinations of an enum.Flag that peers may make this process remember."""

_BUILT_IN = (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset)
_PLAIN_STATES = (object.__getstate__, getattr(dataclasses, "_dataclass_getstate", None), state)


def take_apart_record(cls: type[Any]) -> TakeApart | None:
    """Return how records of `cls` are taken apart; None if it is none, or cannot be found by name."""
    parts = content_of(cls)
    if parts is None or travels_by_value(cls):
        return None
    name = wire_name(cls)
    if find_class(name) is not cls:
        return None
    code, content = parts
    return code, lambda value: [name, content(value)]


def put_together_record(code: int, cls: type[Any], content: Any) -> object:
    """Return the record of one of the codes above, of a class that was found by its name."""
    return _PUT_TOGETHER[code](cls, content)


def content_of(cls: type[Any]) -> TakeApart | None:
    """Return how records of `cls` are taken apart, without their class's name; None if it is none."""
    if issubclass(cls, enum.Enum):
        by_value = issubclass(cls, enum.Flag)  # whose combinations have no names
        return Code.ENUM, operator.attrgetter("value" if by_value else "name")
    if _derives(cls, "pydantic", "BaseModel"):
        return Code.MODEL, lambda value: value.__getstate__()
    if _derives(cls, "msgspec", "Struct"):
        return Code.STRUCT, lambda value: {name: getattr(value, name) for name in value.__struct_fields__}
    if _is_namedtuple(cls):
        return Code.NAMEDTUPLE, lambda value: [list(value), getattr(value, "__dict__", None)]
    if dataclasses.is_dataclass(cls) and _is_its_fields(cls):
        return Code.DATACLASS, _dataclass_content(cls)
    return None


def _is_namedtuple(cls: type[Any]) -> bool:
    return _is_pickled_plainly(cls) and "_fields" in dir(cls) and issubclass(cls, tuple)


def _derives(cls: type[Any], module: str, name: str) -> bool:
    """Say whether `cls` derives from a class of a module that is imported perhaps."""
    base: object = getattr(sys.modules.get(module), name, None)
    return isinstance(base, type) and issubclass(cls, base)


def _is_its_fields(cls: type[Any]) -> bool:
    return (
        not issubclass(cls, _BUILT_IN) and _is_pickled_plainly(cls) and getattr(cls, "__getstate__") in _PLAIN_STATES  # noqa: B009
    )


def _is_pickled_plainly(cls: type[Any]) -> bool:
    plain: Any = object
    return cls.__reduce_ex__ is plain.__reduce_ex__ and cls.__reduce__ is plain.__reduce__


def _slots(cls: type[Any]) -> list[str]:
    """Return the names of the fields that are kept in slots, not in the instance's ``__dict__``."""
    names = cast("dict[str, object]", cast("Any", cls).__dataclass_fields__)
    return [name for name in names if isinstance(inspect.getattr_static(cls, name, None), MemberDescriptorType)]


def keeps_all_in_dict(cls: type[Any]) -> bool:
    """Whether a dataclass has no slots, so that its fields are what is in its ``__dict__``."""
    return cls.__dictoffset__ != 0 and not _slots(cls)


def _dataclass_content(cls: type[Any]) -> Callable[[Any], object]:
    slots = _slots(cls)
    has_dict = cls.__dictoffset__ != 0

    def content(value: Any) -> dict[str, object]:
        found: dict[str, object] = dict(cast("dict[str, object]", vars(value))) if has_dict else {}
        for name in slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
        return found

    return content


def _enum(cls: type[Any], content: Any) -> object:
    if not issubclass(cls, enum.Enum):
        raise CodecError(f"{cls!r} is no Enum here")
    known = cls._value2member_map_
    if issubclass(cls, enum.Flag) and len(known) > COMBINATIONS_MAX and content not in known:
        # Python remembers each combination for ever, valid or not.
        raise CodecError(f"more than {COMBINATIONS_MAX} combinations of {wire_name(cls)} have come")
    return cls[content] if isinstance(content, str) else cls(content)


def _dataclass(cls: type[Any], content: dict[str, object]) -> object:
    if not dataclasses.is_dataclass(cls) or not _is_its_fields(cls):
        raise CodecError(f"{cls!r} is no dataclass here")
    _check_names(content)
    record = object.__new__(cls)
    slots = frozenset(_slots(cls))
    attributes = getattr(record, "__dict__", None)
    for name, value in content.items():
        if name in slots:
            object.__setattr__(record, name, value)
        elif attributes is not None:
            attributes[name] = value
        else:
            raise CodecError(f"{wire_name(cls)} has no field {name!r} here: is this node older?")
    for field in dataclasses.fields(cls):
        if field.name not in content:
            _set_default(record, field)
    return record


def _check_names(fields: Any) -> None:
    if type(fields) is not dict or not all(type(name) is str for name in cast("dict[object, object]", fields)):
        raise CodecError("a record came whose fields have no names")


def _set_default(record: object, field: dataclasses.Field[Any]) -> None:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif not field.init:
        return  # `__post_init__` had not set it
    else:
        raise CodecError(f"field {field.name!r} of {wire_name(type(record))} did not come and has no default")
    object.__setattr__(record, field.name, value)


def _namedtuple(cls: type[Any], content: Any) -> object:
    items, attributes = content
    if attributes is not None:
        _check_names(attributes)
    if not _is_namedtuple(cls) or len(items) != len(cast("Any", cls)._fields):
        raise CodecError(f"{cls!r} is no named tuple of {len(items)} fields here")
    record = cast("object", cast("Any", tuple).__new__(cls, items))
    if attributes:
        vars(record).update(attributes)
    return record


def _model(cls: type[Any], content: dict[str, Any]) -> object:
    if not _derives(cls, "pydantic", "BaseModel"):
        raise CodecError(f"{cls!r} is no pydantic model here")
    _check_names(content)
    fields = content["__dict__"]
    _check_names(fields)
    for name, field in cast("Any", cls).model_fields.items():
        if name not in fields:
            if field.is_required():
                raise CodecError(f"field {name!r} of {wire_name(cls)} did not come, and has no default")
            fields[name] = field.get_default(call_default_factory=True)
    model: Any = cast("Any", cls).__new__(cls)
    model.__setstate__(content)
    return cast("object", model)


def _struct(cls: type[Any], content: dict[str, Any]) -> object:
    if not _derives(cls, "msgspec", "Struct"):
        raise CodecError(f"{cls!r} is no msgspec Struct here")
    _check_names(content)
    return cls(**content)


_PUT_TOGETHER: MappingProxyType[int, Callable[[type, Any], object]] = MappingProxyType(
    {
        Code.ENUM: _enum,
        Code.DATACLASS: _dataclass,
        Code.NAMEDTUPLE: _namedtuple,
        Code.MODEL: _model,
        Code.STRUCT: _struct,
    }
)
RECORD_CODES = frozenset(_PUT_TOGETHER)
