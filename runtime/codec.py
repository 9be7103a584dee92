"""Values to bytes and back: msgpack, extended so that every value returns as what it was.

One codec belongs to one thread. Its pieces:

* `extensions` has the table of codes, and the values that stand for themselves; `records`,
  `buffers` and `failures` have the other kinds of values. Each takes a value apart into plainer
  parts, and the codec packs those as the extension's payload, with a packer of its own for each
  level, because a msgpack Packer is not reentrant.
* The fast way is one call of a msgpack Packer. Two kinds of values need a second look, which is
  taken only when the first shows a trace of them: msgpack writes a bytearray and a memoryview as
  if they were bytes (so output that holds the marker of a bin is looked at again), and refuses a
  str with lone surrogates. For those the containers around are copied and the value replaced.
* `pack_parts` leaves large buffers out of the frame, for a transport that can send them
  from where they lie.
* Pickle is the last resort, for types that nobody here knows, and only where it is allowed.

What arrives takes at most `EXPANSION` times its bytes when it is decoded, and for a moment eight times more
for extensions inside one another: bytes that claim more than they hold are refused before anything is
built of them (see `packed`), and extensions are put together of parts of the right type only. `Bounds`
narrow that for peers that are no members.

What does not travel: identity (a value that stands twice in an argument arrives as two), types
outside the table unless pickle is allowed, and values that are nested deeper than `MAX_DEPTH`
extensions or msgpack's own limit of 1024 lists and dicts, cycles among them. What arrives is never
trusted: only `CodecError` comes out of `unpack`, and without pickle no class is looked up that
is not imported here already. Stored state is never pickled: whoever stores uses a codec that does not
allow it.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Protocol, cast

import msgpack

from ringcast.errors import CodecError

from ..actors.actor import imported_types
from ..actors.naming import find_class, import_class, travels_by_value, wire_name
from ..discovery.packed import EXPANSION, LEVELS, SMALL, look_through
from . import extensions, pickles
from .allowance import Bounds
from .buffers import BUFFER_CODES, put_together_buffer, put_together_bytes, take_apart_buffer
from .explain import ACTOR_REFUSED, TOO_DEEP, explain, is_deeper_than
from .extensions import Code, TakeApart
from .failures import put_together_error, take_apart_error
from .records import RECORD_CODES, put_together_record, take_apart_record
from .weigh import weigh

_msgpack = cast("Any", msgpack)  # it has no types
_Packer, _Unpacker, _ExtType = _msgpack.Packer, _msgpack.Unpacker, _msgpack.ExtType
_packb, _unpackb = _msgpack.packb, _msgpack.unpackb

OUT_OF_BAND = 65536
"""Bytes from which on a buffer travels beside its frame; below, a copy costs less than a write."""

MAX_DEPTH = 100
"""Extensions inside one another. Each level costs stack at both ends: 40 kB in msgpack's own decoder."""

_ON_THE_STACK = 8
"""Levels that are decoded by `unpackb`, which is quick but takes that stack; deeper ones use the heap."""

_UNGUARDED = 4
"""Extensions below which a value's depth is measured before it is packed."""

_KEPT = 1 << 20
"""Bytes that a packer may hold on to between two values."""

MAX_FRAME_BYTES = 1 << 27
"""What a link buffers of a frame, at most, unless it says otherwise; larger buffers travel apart."""

_NESTED = 511
"""Levels of any kind that a value may have below `_UNGUARDED` extensions."""

_READ = 1 << 14
"""Bytes that an unpacker has room for from the start; msgpack's own number is a MiB."""

_ARRAY_16, _ARRAY_32 = b"\xdc", b"\xdd"
"""First bytes of the lists that claim more than 15 elements."""

_NESTED_FACTOR, _NESTED_BYTES = 8, 1 << 20
"""Extensions inside one another may hold so many times the bytes of the outermost, and so many more."""

_BIN_8, _BIN_16, _BIN_32 = 0xC4, 0xC5, 0xC6
_NOT_PLAIN = frozenset({list, dict, bytearray, memoryview})
_SECRETLY_HASHED = frozenset({str, bytes})
_SCALARS = frozenset({type(None), bool, int, float, str})
_IMMUTABLE = _SCALARS | {complex, bytes, uuid.UUID, Decimal, date, timedelta}

Buffer = bytes | bytearray | memoryview

MEMBERS = Bounds()
"""What is built of a member's bytes."""


class FrameUnpacker(Protocol):
    """What a link needs of msgpack's streaming Unpacker."""

    def feed(self, next_bytes: Buffer) -> None:
        """Append what was received."""
        ...

    def unpack(self) -> Any:
        """Return the next object."""
        ...

    def tell(self) -> int:
        """Return how many bytes have been decoded."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the objects that have been received entirely."""
        ...


class Codec:
    """Packs and unpacks values and frames of one node.

    Attributes:
        failure: Why part of the last frame could not be decoded, or None. A class that this node
            does not have must not cost the link: the hooks of `unpacker` put None in the place of
            what failed and leave the reason here. Whoever takes a frame from an unpacker asks
            `take_failure` before it uses the frame's arguments. `unpack` raises it itself.
    """

    def __init__(
        self,
        *,
        allow_pickle: bool,
        ref_type: type,
        ref_to_wire: Callable[[Any], list[Any]],
        ref_from_wire: Callable[[list[Any]], object],
        actor_type: type | None = None,
        bounds: Bounds = MEMBERS,
        has_tracebacks: bool = True,
    ) -> None:
        """Make a codec.

        Args:
            allow_pickle: Whether unknown types may be pickled, and pickles that come may be loaded.
            ref_type: The class of references; subclasses travel as references too.
            ref_to_wire: Gives a reference's parts.
            ref_from_wire: Makes a reference of its parts.
            actor_type: The class of actors, to tell who passes one where a reference was meant.
            bounds: What is built of bytes that come.
            has_tracebacks: Whether exceptions take along the tracebacks that other nodes have sent with them.
        """
        self.failure: CodecError | None = None
        self._allow_pickle = allow_pickle
        self._ref_type = ref_type
        self._ref_to_wire = ref_to_wire
        self._ref_from_wire = ref_from_wire
        self._actor_type = actor_type
        self._has_tracebacks = has_tracebacks
        self._take_apart: dict[type, TakeApart] = dict(extensions.OF_TYPE)
        self._classes: dict[str, type] = {}
        self._pack = self._packer()
        self._packers: list[Callable[[object], bytes]] = []  # for the payloads of extensions, by depth
        self._depth = 0
        self._decode_depth = 0
        self._bounds = bounds
        self._levels = min(MAX_DEPTH, bounds.levels)
        self._pairs_hook = None if bounds.hashed is None else self._dict
        self._nested = self._nested_max = 0
        self._apart: list[memoryview] | None = None  # while buffers are set apart
        self._spell_text = False  # while text that is not UTF-8 is looked for
        self._received: Sequence[Buffer] = ()
        self._put_together: dict[int, Callable[[Any], object]] = {
            **extensions.PUT_TOGETHER,
            **{code: self._record_reader(code) for code in RECORD_CODES},
            **{code: _buffer_reader(code) for code in BUFFER_CODES},
            Code.EXCEPTION: self._error,
            Code.APART: self._received_buffer,
            Code.BYTES_APART: self._bytes_apart,
            Code.REF: ref_from_wire,
            Code.PICKLE: self._unpickle,
            Code.CLASS: self._class_from,
        }
        if bounds.hashed is not None:
            for code in (Code.SET, Code.FROZENSET):
                self._put_together[code] = self._set_reader(self._put_together[code])

    def pack(self, frame: object) -> bytes:
        """Return `frame` as one msgpack object.

        Raises:
            CodecError: If something in it cannot travel; its path starts with ``frame``. Nothing
                is left behind of a pack that failed.
        """
        pack = self._pack
        try:
            data = pack(frame)
        except Exception:
            try:
                return self._pack_slowly(frame)
            except CodecError:
                raise self.explain(frame, "frame") from None
        if _BIN_8 in data or (len(data) > 255 and (_BIN_16 in data or _BIN_32 in data)):
            if len(data) > _KEPT:
                self._pack = self._packer()  # a Packer keeps the largest buffer that it ever needed
            plain = self._plain(frame)
            if plain is not frame:
                return self._pack(plain)
        return data

    def pack_parts(self, frame: object) -> tuple[bytes, list[memoryview]]:
        """Return `frame` without its large buffers, and these buffers, uncopied.

        Every bytes, bytearray, memoryview and numpy array of at least `OUT_OF_BAND` bytes is left
        out (a memoryview or array that is not contiguous is copied once). The buffers are the
        values' own memory: who changes them before they are sent changes what is sent.

        Raises:
            CodecError: As `pack` does.
        """
        if not _is_bulky(frame):
            data = self.pack(frame)
            if len(data) < OUT_OF_BAND:
                return data, []
        apart: list[memoryview] = []
        self._apart = apart
        try:
            return self._pack(self._plain(frame)), apart
        except Exception:
            apart.clear()
            try:
                return self._pack_slowly(frame), apart
            except CodecError:
                self._apart = None
                raise self.explain(frame, "frame") from None
        finally:
            self._apart = None

    def copy(self, value: object) -> object:
        """Return `value` as another actor may have it: what is immutable itself, the rest copied.

        Raises:
            CodecError: If it could not travel to another node either; its path starts with ``value``.
        """
        try:
            return self._copied(value)
        except RecursionError:
            raise CodecError(f"value cannot travel: {TOO_DEEP}", "value") from None
        except CodecError:
            raise self.explain(value, "value") from None

    def _copied(self, value: object) -> object:
        kind = type(value)
        if kind in _IMMUTABLE or isinstance(value, self._ref_type):
            return value
        if kind is tuple:  # such as the arguments of a call: what can stay, stays
            items = cast("tuple[object, ...]", value)
            return items if _IMMUTABLE.issuperset(map(type, items)) else tuple(map(self._copied, items))
        # Flat containers of immutable values need no codec.
        if kind is dict:
            mapping = cast("dict[object, object]", value)
            if _IMMUTABLE.issuperset([*map(type, mapping), *map(type, mapping.values())]):
                return mapping.copy()
        elif kind is list:
            elements = cast("list[object]", value)
            if _IMMUTABLE.issuperset(map(type, elements)):
                return elements.copy()
        head, apart = self.pack_parts(value)
        # Bytes objects are immutable and may be shared; any other memory may not.
        own = [part if type(part.obj) is bytes else bytearray(part) for part in apart]
        return self.unpack_parts(head, own)

    def explain(self, value: object, root: str) -> CodecError:
        """Return the error that says which part of `value` cannot travel, and why.

        Args:
            value: What could not be packed.
            root: How the application knows it, such as ``args``; the error's path starts with it.
        """
        return explain(value, root, self._refusal)

    def unpack(self, data: bytes | memoryview) -> Any:
        """Return the object that `pack` made `data` of.

        Raises:
            CodecError: If `data` is malformed, or of a class that this node does not have.
        """
        self.failure = None
        try:
            self.admit(data)
            value = self._unpack_at(0, data, is_admitted=True)
        except CodecError:
            self.failure = None
            raise
        except Exception as error:
            raise self.take_failure() or CodecError(f"what came is no packed value: {error!r}") from error
        if self.failure is not None:
            raise cast("CodecError", self.take_failure())
        return value

    def unpack_parts(self, head: bytes | memoryview, buffers: Sequence[Buffer]) -> Any:
        """Return the object that `pack_parts` took apart, laid over `buffers` without copying.

        A bytes object is the very buffer if that is one, a bytearray likewise; a numpy array
        or a memoryview is laid over the buffer given, and is writable if the buffer is.

        Raises:
            CodecError: As `unpack` does.
        """
        self._received = buffers
        try:
            return self.unpack(head)
        finally:
            self._received = ()

    def unpacker(self, max_frame_bytes: int = MAX_FRAME_BYTES, max_list: int | None = None) -> FrameUnpacker:
        """Return a streaming unpacker with this codec's hooks; one for each link.

        An exception out of it means that the peer does not speak msgpack: close the link. After
        each frame ask `take_failure`.

        Args:
            max_frame_bytes: What it holds of frames that are not decoded yet, at most.
            max_list: Elements of the longest list; None for any. Bytes that are fed to an unpacker without
                such a limit have to be looked through before.
        """
        return cast(
            "FrameUnpacker",
            _Unpacker(
                ext_hook=self._decode,
                strict_map_key=False,
                use_list=True,
                max_buffer_size=max_frame_bytes,
                read_size=min(max_frame_bytes, _READ),
                max_array_len=max_frame_bytes if max_list is None else max_list,
                object_pairs_hook=self._pairs_hook,
            ),
        )

    def admit(self, data: bytes | memoryview) -> None:
        """Refuse bytes that claim what they do not hold, and what is more than the bounds allow.

        Raises:
            ValueError: If they claim it; nothing was built.
            CodecError: If they are more.
        """
        bounds = self._bounds
        if bounds.levels < LEVELS:
            look_through(data, max(bounds.levels - self._decode_depth, 0))
        elif len(data) > SMALL and _claims_much(data):
            look_through(data)
        limit = bounds.decoded_bytes
        if limit is None or self._decode_depth or len(data) * EXPANSION <= limit:
            return
        if weigh(bytes(data), limit) > limit:
            raise CodecError(
                f"it would take more than {limit} bytes of memory here, which is what a client's message may: "
                f"send less at once, or raw bytes, or raise NodeConfig(client_decoded_bytes=…)"
            )

    def take_failure(self) -> CodecError | None:
        """Return why part of the last frame could not be decoded, and forget it."""
        failure, self.failure = self.failure, None
        return failure

    def _pack_slowly(self, value: object) -> bytes:
        """Pack with every str looked at; the error says why, but not where."""
        self._spell_text = True
        try:
            return self._pack(self._plain(value))
        except CodecError:
            raise
        except RecursionError:
            raise CodecError(TOO_DEEP) from None
        except Exception as error:
            raise CodecError(TOO_DEEP if "recursion limit" in str(error) else str(error)) from error
        finally:
            self._spell_text = False

    def _refusal(self, value: object) -> str | None:
        try:
            self._pack_slowly(value)
        except CodecError as error:
            return str(error)
        return None

    def _packer(self) -> Callable[[object], bytes]:
        packer = _Packer(strict_types=True, default=self._encode, buf_size=4096)
        return cast("Callable[[object], bytes]", packer.pack)

    def _encode(self, value: object) -> object:
        """Take a value apart that msgpack does not know, one level of packers further down."""
        depth = self._depth
        if depth == MAX_DEPTH:
            raise CodecError(TOO_DEEP)
        if depth == len(self._packers):
            self._packers.append(self._packer())
        pack = self._packers[depth]
        kind = type(value)
        code, take_apart = self._take_apart.get(kind) or self._take_apart_for(kind)
        self._depth = depth + 1
        try:
            if depth == _UNGUARDED and is_deeper_than(_NESTED, value):
                # Each packer counts its own levels of lists; together they would overflow the C stack.
                raise CodecError(TOO_DEEP)
            parts = take_apart(value)
            if self._apart is not None or self._spell_text:
                data = pack(self._plain(parts))
            else:
                data = pack(parts)
                if _BIN_8 in data or _BIN_16 in data or _BIN_32 in data:
                    plain = self._plain(parts)
                    if plain is not parts:
                        data = pack(plain)
        finally:
            self._depth = depth
        if len(data) > _KEPT:
            self._packers[depth] = self._packer()
        return _ExtType(code, data)

    def _take_apart_for(self, kind: type) -> TakeApart:
        if issubclass(kind, self._ref_type):
            known: TakeApart | None = (Code.REF, self._ref_to_wire)
        elif self._actor_type is not None and issubclass(kind, self._actor_type):
            raise CodecError(ACTOR_REFUSED)
        elif type in kind.__mro__:
            known = Code.CLASS, self._class_parts
        else:
            known = (
                take_apart_buffer(kind, self._bulk)
                or take_apart_error(kind, self._has_tracebacks)
                or take_apart_record(kind)
            )
        if known is not None:
            self._take_apart[kind] = known
            return known
        if self._allow_pickle:
            return Code.PICKLE, self._pickle
        raise CodecError(
            f"a {kind.__module__}.{kind.__qualname__} cannot travel without pickle: send plain values, or a "
            "dataclass of a module that both nodes import"
        )

    def _plain(self, value: object) -> object:
        """Return `value` with what msgpack would not keep replaced, in copies of the containers around it.

        That is memory that msgpack would take for bytes, text that it refuses, and, while
        buffers are set apart, large bytes.
        """
        kind = type(value)
        if kind is list:
            items = cast("list[object]", value)
            if not self._may_hide_in(items):
                return value
            plain = [self._plain(item) for item in items]
            return value if all(map(operator.is_, plain, items)) else plain
        if kind is dict:
            mapping = cast("dict[object, object]", value)
            if not (self._may_hide_in(mapping) or self._may_hide_in(mapping.values())):
                return value
            return {self._plain(key): self._plain(item) for key, item in mapping.items()}
        if kind is bytearray or kind is memoryview:
            return self._encode(value)
        if kind is bytes and self._apart is not None and len(cast("bytes", value)) >= OUT_OF_BAND:
            return self._set_apart(memoryview(cast("bytes", value)), Code.BYTES_APART)
        if kind is str and self._spell_text and not _is_utf8(cast("str", value)):
            return self._encode(value)
        return value

    def _may_hide_in(self, items: Iterable[object]) -> bool:
        kinds = set(map(type, items))
        return (
            not _NOT_PLAIN.isdisjoint(kinds)
            or (self._apart is not None and bytes in kinds)
            or (self._spell_text and str in kinds)
        )

    def _bulk(self, data: memoryview) -> object:
        if self._apart is not None and data.nbytes >= OUT_OF_BAND:
            return self._set_apart(data, Code.APART)
        return bytes(data)

    def _set_apart(self, data: memoryview, code: Code) -> object:
        apart = cast("list[memoryview]", self._apart)
        apart.append(data)
        return _ExtType(int(code), _packb(len(apart) - 1))

    def _class_parts(self, cls: type) -> str | bytes:
        """Return an actor class's name, if the others can look it up; any other class is a matter for pickle."""
        is_named = self._actor_type is not None and issubclass(cls, self._actor_type) and not travels_by_value(cls)
        if is_named and find_class(name := wire_name(cls)) is cls:
            return name
        if not self._allow_pickle:
            raise CodecError(f"of types, only actor classes of a module travel without pickle, and not {cls!r}")
        return self._pickle(cls)

    def _class_from(self, parts: str | bytes) -> object:
        if not isinstance(parts, str):
            return self._unpickle(parts)
        cls = self._class(parts)
        if self._actor_type is None or not issubclass(cls, self._actor_type):
            raise CodecError(f"{cls!r} came as an actor class, and is none here")
        return cls

    def _pickle(self, value: object) -> bytes:
        return pickles.dumps(value, self._ref_type, self._ref_to_wire, self._actor_type)

    def _unpack_at(self, depth: int, data: bytes | memoryview, is_admitted: bool = False) -> Any:
        if not is_admitted:
            self.admit(data)
        if depth < _ON_THE_STACK:
            if self._pairs_hook is None:
                return _unpackb(data, ext_hook=self._decode, strict_map_key=False, use_list=True)
            return _unpackb(
                data,
                ext_hook=self._decode,
                strict_map_key=False,
                use_list=True,
                object_pairs_hook=self._pairs_hook,
            )
        unpacker = self.unpacker(len(data) or 1)
        unpacker.feed(data)
        value = unpacker.unpack()
        if unpacker.tell() != len(data):
            raise CodecError("an extension holds more than one object")
        return value

    def _decode(self, code: int, data: bytes) -> object:
        """Put a value together again; what fails is None, and is remembered in `failure`."""
        if self.failure is not None:
            return None
        depth = self._decode_depth
        self._decode_depth = depth + 1
        if depth == 0:
            self._nested, self._nested_max = 0, len(data) * _NESTED_FACTOR + _NESTED_BYTES
        self._nested += len(data)
        try:
            if depth >= self._levels or self._nested > self._nested_max:
                raise CodecError(TOO_DEEP)
            parts = self._unpack_at(depth, data)
            if self.failure is not None:
                return None
            if type(parts) not in extensions.PARTS[code]:
                raise CodecError(f"a value of extension {_code_name(code)} came of a {type(parts).__name__}")
            return self._put_together[code](parts)
        except CodecError as error:
            self.failure = error
        except Exception as error:
            self.failure = CodecError(f"a value of extension {_code_name(code)} came malformed: {error!r}")
        finally:
            self._decode_depth = depth
            self._nested -= len(data)
        return None

    def _dict(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Make a dict for a peer that may choose keys so that they meet."""
        try:
            self._check_hashed([key for key, _ in pairs])
        except CodecError as error:
            self.failure = self.failure or error
            return {}
        return dict(pairs)

    def _set_reader(self, make: Callable[[Any], object]) -> Callable[[Any], object]:
        def read(parts: Any) -> object:
            self._check_hashed(parts)
            return make(parts)

        return read

    def _check_hashed(self, keys: list[Any]) -> None:
        limit = self._bounds.hashed
        assert limit is not None
        if len(keys) > limit and not _SECRETLY_HASHED.issuperset(map(type, keys)):
            raise CodecError(
                f"a dict or set of {len(keys)} entries came from a client, not all of them str or bytes: it may have "
                f"{limit}, because their hashes can be chosen; send a list of pairs, or raise "
                f"NodeConfig(client_max_hashed=…)"
            )

    def _class(self, name: str) -> type:
        """Return the class that a peer named."""
        found = self._classes.get(name)
        if found is None:
            found = import_class(name) if self._allow_pickle else find_class(name)
            if found is None:
                raise CodecError(
                    f"a value of class {name!r} came, and is not known here: import its module on this node "
                    "too (and install it, if need be)"
                )
            if self._bounds.is_for_own_classes and not _is_own(found):
                raise CodecError(
                    f"a value of class {name!r} came from a client: it may send records and exceptions of the packages "
                    "whose actors run here, and Python's own exceptions"
                )
            self._classes[name] = found
        return found

    def _record_reader(self, code: int) -> Callable[[Any], object]:
        return lambda parts: put_together_record(code, self._class(parts[0]), parts[1])

    def _error(self, parts: Any) -> object:
        return put_together_error(self._class(parts[0]), parts[1])

    def _received_buffer(self, number: Any) -> memoryview:
        if not 0 <= number < len(self._received):
            raise CodecError(f"buffer {number!r} of the frame did not come with it")
        return memoryview(cast("bytes", self._received[number])).cast("B")

    def _bytes_apart(self, number: Any) -> object:
        return put_together_bytes(self._received_buffer(number))

    def _unpickle(self, data: Any) -> object:
        if not self._allow_pickle:
            raise CodecError("a pickled value came, and this node does not allow pickle")
        return pickles.loads(data, self._ref_from_wire)


def _claims_much(data: bytes | memoryview) -> bool:
    """Say whether a list in `data` may claim more elements than it has; a look at bytes, and so a guess."""
    raw = data if isinstance(data, bytes) else bytes(data)
    return _ARRAY_32 in raw or _ARRAY_16 in raw


def _is_own(cls: type) -> bool:
    """Say whether a class is one that applications make for their actors, or an exception of Python or ours."""
    package = cls.__module__.partition(".")[0]
    if package == "builtins":
        return issubclass(cls, Exception)
    return cls.__module__ == "ringcast.errors" or any(
        package == actor.cls.__module__.partition(".")[0] for actor in imported_types()
    )


def _is_bulky(frame: object) -> bool:
    """Say whether a large buffer stands in `frame` or in its elements; quick, and no more than a guess."""
    if not isinstance(frame, list | tuple):
        return True
    for item in cast("Sequence[object]", frame):
        kind = type(item)
        if kind in _SCALARS:
            continue
        if kind is dict:
            inner: Iterable[object] = cast("dict[object, object]", item).values()
        else:
            inner = cast("Sequence[object]", item) if kind is list or kind is tuple else (item,)
        for part in inner:
            if type(part) not in _SCALARS and _size(part) >= OUT_OF_BAND:
                return True
    return False


def _size(value: object) -> int:
    if isinstance(value, bytes | bytearray):
        return len(value)
    size = getattr(value, "nbytes", 0)  # of a memoryview, and of an array
    return size if isinstance(size, int) else 0


def _buffer_reader(code: int) -> Callable[[Any], object]:
    return lambda parts: put_together_buffer(code, parts)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _code_name(code: int) -> str:
    try:
        return f"{code} ({Code(code).name.lower()})"
    except ValueError:
        return f"{code} (unknown to this node)"
