"""The names of classes on the wire, and classes that travel themselves.

Two processes agree on a class by its name, ``module:qualname``. Two kinds of classes have no
name that another process could look up, and are treated apart:

* A class of ``__main__`` goes by the module name under which its script can be imported
  elsewhere. In its own process that name maps back to ``__main__``, so that the script is
  never imported a second time beside itself.
* A class of a function, a notebook, a REPL or ``python -c`` travels *by value*: as the blob
  that cloudpickle makes of it. Its name ends in the digest of that blob
  (``module:qualname@digest``), so an edited notebook cell is another class, and whoever
  receives a blob can check that it is the one that was named.

Looking a class up never imports anything by itself: what a peer names must not decide which
code runs here. `import_class` does import, and is for whoever trusts the peer anyway.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.machinery
import itertools
import pickle
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ringcast.errors import CodecError

NAME_MAX = 256
"""Characters of the name of a class, or of a message, on the wire."""

BY_VALUE = 32
"""Of these, what is left for a digest, and for a longer name of the script's module."""

MAIN_MODULES = frozenset({"__main__", "__mp_main__"})
"""The module of the script, and its name in a child that multiprocessing has spawned."""

_blobs: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()
_by_value: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def wire_name(cls: type, explicit: str | None = None) -> str:
    """Return the name under which other processes know `cls`.

    Args:
        cls: Any class; one that travels by value is pickled the first time.
        explicit: A name given by the class's author, which wins.

    Raises:
        CodecError: If `cls` travels by value and cannot be pickled.
    """
    if explicit is not None:
        return explicit
    if travels_by_value(cls):
        return _value_name(cls, class_blob(cls))
    module = cls.__module__
    if module in MAIN_MODULES:
        module = main_module_name() or module
    return f"{module}:{cls.__qualname__}"


def travels_by_value(cls: type) -> bool:
    """Say whether no other process could find `cls` by its name."""
    if cls in _blobs or "<locals>" in cls.__qualname__:
        return True
    return cls.__module__ in MAIN_MODULES and main_module_name() is None


def class_blob(cls: type) -> bytes:
    """Return the blob of a class that travels by value; the same one for the life of the class.

    Raises:
        CodecError: If something that the class refers to cannot be pickled.
    """
    blob = _blobs.get(cls)
    if blob is None:
        import cloudpickle  # late: slow to import

        try:
            blob = cast("bytes", cast("Any", cloudpickle).dumps(cls))
        except Exception as error:
            raise CodecError(
                f"class {cls.__qualname__} cannot travel by value ({error}); "
                "define it in a module that every node can import"
            ) from error
        _remember(cls, blob)
    return blob


def class_from_blob(name: str, blob: bytes) -> type:
    """Return the class that `blob` holds, loading it at most once while it is in use.

    Loading runs code of the sender: only for peers that may use pickle here.

    Args:
        name: The wire name that came with the blob; its digest must be the blob's.
        blob: What `class_blob` returned at the sender.

    Raises:
        CodecError: If the digest does not fit, or the blob does not load as that class.
    """
    known = _by_value.get(name)
    if known is not None:
        return known
    if name.rpartition("@")[2] != _digest(blob):
        raise CodecError(f"the code that came for class {name!r} is not what the name's digest is of")

    try:
        cls: object = pickle.loads(blob)
    except Exception as error:
        raise CodecError(f"the code of class {name!r} does not load here: {error!r}") from error
    module, _, rest = name.partition(":")
    qualname = rest.rpartition("@")[0]
    if not isinstance(cls, type) or (cls.__module__, cls.__name__) != (module, qualname.rpartition(".")[2]):
        raise CodecError(f"the code that came for class {name!r} is of something else: {cls!r}")
    cls.__qualname__ = qualname  # cloudpickle keeps the bare name only
    _remember(cls, blob)
    return cls


def find_class(name: str) -> type | None:
    """Return the class of that wire name if its module is imported here (or it came by value)."""
    module_name, _, qualname = name.partition(":")
    if "@" in qualname:
        return _by_value.get(name)
    is_main = module_name in MAIN_MODULES or module_name == main_module_name()
    found: object = sys.modules.get("__main__" if is_main else module_name)
    if found is None or not qualname:
        return None
    for attribute in qualname.split("."):
        found = _attribute(found, attribute)
    return found if isinstance(found, type) else None


def _attribute(owner: object, name: str) -> object:
    """Return what stands under a name in a module or class, and None for what would have to be made.

    Not by `getattr`: many a package imports its parts in a ``__getattr__`` of its own.
    """
    if issubclass(type(owner), type):
        for base in cast("type", owner).__mro__:
            if name in vars(base):
                return cast("object", vars(base)[name])
        return None
    try:
        attributes = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return None
    return cast("object", attributes.get(name))


def import_class(name: str) -> type | None:
    """Return the class of that wire name, importing its module if need be; None if there is none."""
    found = find_class(name)
    if found is None and "@" not in name:
        try:
            importlib.import_module(name.partition(":")[0])
        except Exception:  # whatever the module's body raises: it is not there for us
            return None
        found = find_class(name)
    return found


def main_module_name() -> str | None:
    """Return the name by which other processes can import this process's script, if they can."""
    main = sys.modules.get("__main__")
    return None if main is None else _importable_name(main)


@functools.lru_cache(maxsize=4)
def _importable_name(main: ModuleType) -> str | None:
    spec = main.__spec__
    if spec is not None:  # `python -m name`; a directory or a zip file says `__main__`, which is no name
        return None if spec.name == "__main__" else spec.name
    file = getattr(main, "__file__", None)
    if file is None:
        return None
    script = Path(file).resolve()
    names = [script.stem]
    for folder in itertools.takewhile(lambda folder: (folder / "__init__.py").exists(), script.parents):
        names.append(f"{folder.name}.{names[-1]}")
    # The longest name first: it is the one that holds where the package's own folder is not on the path.
    return next((name for name in reversed(names) if _file_of(name) == script), None)


def _file_of(name: str) -> Path | None:
    """Return the source file that importing `name` would run, without importing its parents."""
    path: list[str] | None = None
    spec: importlib.machinery.ModuleSpec | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()


def _remember(cls: type, blob: bytes) -> None:
    _blobs[cls] = blob
    _by_value[_value_name(cls, blob)] = cls


def _value_name(cls: type, blob: bytes) -> str:
    return f"{cls.__module__}:{cls.__qualname__}@{_digest(blob)}"


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()[:16]
