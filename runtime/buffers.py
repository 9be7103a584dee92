"""Raw memory on the wire: bytearray, memoryview, numpy's arrays and scalars.

Each of them is taken apart into a few words of shape and one stretch of bytes, its *bulk*.
Whoever takes it apart passes the function `bulk`, which decides how the stretch travels: inside
the frame, as bytes, or apart from it, uncopied. On the way back a stretch that came inside the
frame is a bytes object, and one that came apart is a memoryview of the buffer received:
the value is laid over that buffer, and is writable if the buffer is.

numpy is not imported here before a value of its own has been seen.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import CodecError

from .extensions import Code, TakeApart

if TYPE_CHECKING:
    import numpy as np

Bulk = Callable[[memoryview], object]
"""Takes C-contiguous memory of format ``B``; returns what stands for it among the parts."""


EMPTY_ITEMS_MAX = 65536
"""Items of an array whose items have no bytes: no memory would bound how many there are."""

_PLAIN_DTYPE = re.compile(r"[<>|=]?[?bBiufcmMSUV]\d*(\[\d*\w+\])?")

BUFFER_CODES = frozenset({Code.BYTEARRAY, Code.MEMORYVIEW, Code.NDARRAY, Code.SCALAR})


def take_apart_buffer(cls: type, bulk: Bulk) -> TakeApart | None:
    """Return how values of exactly `cls` are taken apart; None if it is no type of raw memory."""
    if cls is bytearray:
        return Code.BYTEARRAY, lambda value: bulk(memoryview(value))
    if cls is memoryview:
        return Code.MEMORYVIEW, lambda value: _memoryview_parts(value, bulk)
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "generic"):
        return None
    if cls is numpy.ndarray:
        return Code.NDARRAY, lambda value: _array_parts(value, bulk)
    if issubclass(cls, numpy.generic):
        return Code.SCALAR, lambda value: [_dtype_parts(value.dtype), value.tobytes()]
    return None


def put_together_buffer(code: int, parts: Any) -> object:
    """Return the value of one of the codes above."""
    if code == Code.BYTEARRAY:
        whole = _whole(parts)
        return whole if isinstance(whole, bytearray) else bytearray(parts)
    if code == Code.MEMORYVIEW:
        return _memoryview(*parts)
    if code == Code.NDARRAY:
        return _array(*parts)
    dtype, data = parts
    return _numpy().ndarray((), dtype=_dtype(dtype), buffer=data)[()]


def put_together_bytes(apart: memoryview) -> bytes:
    """Return the bytes that came apart: the very object, if the buffer received is one."""
    whole = _whole(apart)
    return whole if isinstance(whole, bytes) else apart.tobytes()


def _whole(data: bytes | memoryview) -> object:
    """Return the object that `data` is a view of, if it shows all of it."""
    owner = data.obj if isinstance(data, memoryview) else None
    return owner if isinstance(owner, bytes | bytearray) and len(owner) == len(data) else data


def _memoryview_parts(view: memoryview, bulk: Bulk) -> list[object]:
    flat = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    return [view.format, list(view.shape or ()), view.readonly, bulk(flat)]


def _memoryview(format: Any, shape: list[int], readonly: bool, data: bytes | memoryview) -> memoryview:
    flat: Any
    if isinstance(data, bytes):
        flat = memoryview(data if readonly else bytearray(data))
    else:
        flat = data.toreadonly() if readonly else data
    if shape != [flat.nbytes] or format != "B":
        flat = flat.cast(format) if len(shape) == 1 else flat.cast(format, shape)
    return cast("memoryview", flat)


def _array_parts(array: np.ndarray[Any, Any], bulk: Bulk) -> list[object]:
    if array.dtype.hasobject:
        raise CodecError("a numpy array of Python objects cannot travel; send a list")
    numpy = _numpy()
    by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = numpy.ascontiguousarray(array.reshape(-1, order="F" if by_columns else "C"))
    # As bytes: the buffer protocol knows no dates, and records of all kinds less well than dtypes do.
    data = memoryview(flat.view(numpy.uint8).data) if flat.nbytes else memoryview(b"")
    return [_dtype_parts(array.dtype), list(array.shape), bool(by_columns), bulk(data)]


def _array(dtype: object, shape: list[int], by_columns: bool, data: bytes | memoryview) -> object:
    made = _dtype(dtype)
    if made.itemsize == 0 and math.prod(shape) > EMPTY_ITEMS_MAX:
        raise CodecError(f"an array of {shape} items of no bytes came, at most {EMPTY_ITEMS_MAX} may")
    # What came inside the frame is copied once more so that the array is writable, as its original was.
    memory = bytearray(data) if isinstance(data, bytes) else data
    return _numpy().ndarray(shape, dtype=made, buffer=memory, order="F" if by_columns else "C")


def _dtype_parts(dtype: np.dtype[Any]) -> object:
    from numpy.lib import format

    return format.dtype_to_descr(dtype)


def _dtype(parts: Any) -> np.dtype[Any]:
    _numpy()
    from numpy.lib import format

    _check_descr(parts)
    dtype: np.dtype[Any] = format.descr_to_dtype(parts)
    if dtype.hasobject:
        raise CodecError("a numpy array of Python objects cannot travel")
    return dtype


def _check_descr(descr: Any) -> None:
    """Refuse what numpy would read as more than the description of plain memory."""
    if isinstance(descr, str):
        if _PLAIN_DTYPE.fullmatch(descr) is None:
            raise CodecError(f"a numpy array of {descr!r:.40} cannot travel; of Python objects none can")
        return
    if not isinstance(descr, list):
        raise CodecError(f"{descr!r:.40} describes no numpy array")

    for field in cast("Any", descr):
        _check_descr(field[1])


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise CodecError("a numpy value came, and numpy is not installed on this node") from None
    return numpy
