"""Where durable state is kept: one small port (`port`), and the stores behind it.

A store keeps rows. It knows versions, claims and remembered replies, and nothing of actors: what a
payload means, when to claim and what to do about a fenced write is decided by whoever uses it.

==================  ================================  =======================================================
address             store                             who can share it
==================  ================================  =======================================================
``memory:``         `memory.MemoryStore`              one node; gone with it
``sqlite:///path``  `sqlite.SQLiteStore`              the processes of one machine
``postgresql://…``  `postgresql.PostgreSQLStore`      any machines (``pip install 'ringcast[postgresql]'``)
``redis://…``       `redis.RedisStore`                any machines (``pip install 'ringcast[redis]'``); it
                                                      promises less, see there
==================  ================================  =======================================================
"""

from __future__ import annotations

from .address import store_at
from .commit import commit
from .memory import MemoryStore
from .port import Claim, Claimed, Outcome, PromptStore, Reply, Store, Told, Write, Written

__all__ = [
    "Claim",
    "Claimed",
    "MemoryStore",
    "Outcome",
    "PromptStore",
    "Reply",
    "Store",
    "Told",
    "Write",
    "Written",
    "commit",
    "store_at",
]
