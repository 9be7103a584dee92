"""Frames in a stream of bytes: a length in four bytes, and then so many.

A pure core. Nothing is allocated for a length that is only claimed: what is held is what has come,
and a frame that claims more than the limit is an error before its first byte.
"""

from __future__ import annotations

__all__ = ["HEAD_BYTES", "Frames", "framed"]

HEAD_BYTES = 4


def framed(data: bytes) -> bytes:
    """Return the frame that holds the bytes."""
    return len(data).to_bytes(HEAD_BYTES, "big") + data


class Frames:
    """Cuts what arrives into frames.

    Attributes:
        limit: Bytes that a frame may have; may be changed between two frames.
    """

    __slots__ = ("_held", "limit")

    def __init__(self, limit: int) -> None:
        """Hold nothing yet."""
        self.limit = limit
        self._held = bytearray()

    def __len__(self) -> int:
        """Return how many bytes wait to become a frame."""
        return len(self._held)

    def add(self, data: bytes) -> None:
        """Take in what has come."""
        self._held += data

    def starts_with(self, mark: bytes) -> bool:
        """Return whether what waits begins like this."""
        return self._held.startswith(mark)

    def take(self) -> bytes | None:
        """Return the next frame's bytes, or None if it has not come whole.

        Raises:
            ValueError: If it claims to be longer than the limit; there is no way on from here.
        """
        if len(self._held) < HEAD_BYTES:
            return None
        end = HEAD_BYTES + int.from_bytes(self._held[:HEAD_BYTES], "big")
        if end - HEAD_BYTES > self.limit:
            raise ValueError(f"a frame of {end - HEAD_BYTES} bytes, where {self.limit} are the most")
        if len(self._held) < end:
            return None
        frame = bytes(memoryview(self._held)[HEAD_BYTES:end])
        del self._held[:end]
        return frame
