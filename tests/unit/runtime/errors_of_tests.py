"""Exceptions that handlers of the tests raise; a module of its own, as an application would have."""

from __future__ import annotations

from ringcast import Fatal


class Plain(Exception):
    pass


class Rich(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class Deadly(Fatal):
    pass
