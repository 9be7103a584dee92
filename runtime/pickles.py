"""Pickle, for values of types that nobody here knows, between nodes that allow it.

Pickles are made by cloudpickle, so that functions and classes of notebooks travel too. Three kinds of
objects are treated apart wherever a pickler meets them:

* a reference travels as its parts, and is bound to the node that loads it;
* a class of a script that other nodes can import travels by its name, not by value as
  cloudpickle would have it, so that it is the same class there;
* actors and open files are refused. cloudpickle would send what they hold now, and the two copies
  would know nothing of each other.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any, cast

from ringcast.errors import CodecError

from ..actors.naming import MAIN_MODULES, import_class, travels_by_value, wire_name
from .explain import ACTOR_REFUSED

_IN_MEMORY = (io.BytesIO, io.StringIO)


def dumps(value: object, ref_type: type, ref_to_wire: Callable[[Any], list[Any]], actor_type: type | None) -> bytes:
    """Return `value` pickled.

    Raises:
        CodecError: If it holds something that pickle cannot take, an actor or an open file.
    """
    target = io.BytesIO()
    try:
        _pickler_class()(target, ref_type, ref_to_wire, actor_type).dump(value)
    except CodecError:
        raise
    except Exception as error:
        kind = type(value)
        raise CodecError(f"a {kind.__module__}.{kind.__qualname__} cannot be pickled: {error}") from error
    return target.getvalue()


def loads(data: bytes, ref_from_wire: Callable[[list[Any]], object]) -> object:
    """Return the value of a pickle; it runs code of the sender's choice.

    Raises:
        CodecError: If it does not load here.
    """
    try:
        return cast("object", _Unpickler(data, ref_from_wire).load())
    except Exception as error:
        raise CodecError(f"a pickled value does not load on this node: {error!r}") from error


@functools.cache
def _pickler_class() -> Callable[..., pickle.Pickler]:
    import cloudpickle  # late: slow to import

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(
            self,
            target: io.BytesIO,
            ref_type: type,
            ref_to_wire: Callable[[Any], list[Any]],
            actor_type: type | None,
        ) -> None:
            cast("Any", super()).__init__(target, protocol=pickle.HIGHEST_PROTOCOL)
            self._ref_type = ref_type
            self._ref_to_wire = ref_to_wire
            self._refused = () if actor_type is None else (actor_type,)

        def persistent_id(self, obj: object) -> tuple[str, object] | None:
            if isinstance(obj, type):
                if obj.__module__ in MAIN_MODULES and not travels_by_value(obj):
                    return "class", wire_name(obj)
            elif isinstance(obj, self._ref_type):
                return "ref", self._ref_to_wire(obj)
            elif isinstance(obj, self._refused):
                raise CodecError(ACTOR_REFUSED)
            elif isinstance(obj, io.IOBase) and not isinstance(obj, _IN_MEMORY):
                raise CodecError(f"an open file ({type(obj).__qualname__}) cannot travel: send its path")
            return None

    return cast("Callable[..., pickle.Pickler]", Pickler)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, ref_from_wire: Callable[[list[Any]], object]) -> None:
        super().__init__(io.BytesIO(data))
        self._ref_from_wire = ref_from_wire

    def persistent_load(self, pid: Any) -> object:
        kind, what = pid
        if kind == "ref":
            return self._ref_from_wire(what)
        found = import_class(what)
        if found is None:
            raise CodecError(f"class {what!r} is not known on this node: import its module there")
        return found
