"""Why a value cannot travel, and where in it the culprit stands.

A codec that refuses knows the reason but not the place: it sees one leaf at a time. So after a
refusal the value is walked from its root, each time into the first part that is refused by
itself, until none is: that is the culprit. The walk is a loop, not a recursion, and packs
parts again and again; it is run once for a programming error, never for a value that can travel.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from ringcast.errors import CodecError

TOO_DEEP = "it is nested too deeply, or contains itself"
ACTOR_REFUSED = "an actor cannot travel, only references to it: pass `self.context.me` instead of `self`"

_STEPS_TO_A_CYCLE = 16
"""How far a value that is too deep is walked to see whether it contains itself."""


def explain(value: object, root: str, refusal: Callable[[object], str | None]) -> CodecError:
    """Return the error for a value that was refused.

    Args:
        value: The value; if it is not refused after all (it was changed since), the error says so.
        root: What the path starts with, such as ``args``.
        refusal: Says why a value cannot be packed by itself, or returns None if it can.
    """
    path = root
    reason = refusal(value) or "it was changed while it was packed"
    above: set[int] = set()
    while reason != TOO_DEEP or len(above) < _STEPS_TO_A_CYCLE:
        above.add(id(value))
        for step, part in parts_of(value):
            if id(part) in above:
                return CodecError(f"{path}{step} cannot travel: the value contains itself", f"{path}{step}")
            refused = refusal(part)
            if refused is not None:
                path, value, reason = path + step, part, refused
                break
        else:
            break
    if reason == TOO_DEEP:  # its leaf is as good as any other below the limit: name the whole
        path = root
    return CodecError(f"{path} cannot travel: {reason}", path)


def is_deeper_than(limit: int, value: object) -> bool:
    """Say whether `value` has parts more than `limit` levels down; a cycle has."""
    open_levels = [parts_of(value)]
    while open_levels:
        _, part = next(open_levels[-1], ("", open_levels))
        if part is open_levels:
            open_levels.pop()
        elif len(open_levels) > limit:
            return True
        else:
            open_levels.append(parts_of(part))
    return False


def parts_of(value: Any) -> Iterator[tuple[str, object]]:
    """Yield what `value` is made of, each part with the step that leads to it."""
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            yield f"<key {_short(key)}>", key
            yield f"[{_short(key)}]", item
    elif isinstance(value, BaseException):
        yield from ((f".args[{index}]", item) for index, item in enumerate(value.args))
        yield from _attributes(value)
    elif names := _field_names(value):
        yield from _attributes(value, names)
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(cast("Iterable[object]", value)))
    elif isinstance(value, set | frozenset):
        yield from ((f"<element {_short(item)}>", item) for item in cast("Iterable[object]", value))


def _field_names(value: Any) -> Iterable[str]:
    """Return the names of a record's fields; none for anything else, and for classes themselves."""
    for marker in ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__", "_fields"):
        if not isinstance(value, type) and hasattr(value, marker):
            return cast("Iterable[str]", getattr(value, marker))
    return ()


def _attributes(value: object, names: Iterable[str] = ()) -> Iterator[tuple[str, object]]:
    """Yield fields, then whatever else the instance holds: extra and private attributes of a model."""
    inside: dict[str, object] = {name: getattr(value, name, None) for name in names}
    for more in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        inside.update(getattr(value, more, None) or {})
    yield from ((f".{name}", part) for name, part in inside.items())


def _short(value: object) -> str:
    try:
        return reprlib.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
