"""A membership as a process of its own: ``python -m tests.integration.membership_process``, see `main`.

It prints READY and its address once it is in a view, and goes on until it is ended; what is wrong with
its configuration it prints, and ends. The secret is in the environment, as `SECRET`.
"""

from __future__ import annotations

import argparse
import asyncio
import os

from ringcast.discovery.archive import Archive
from ringcast.discovery.disk import Folder
from ringcast.discovery.gate import Gate
from ringcast.discovery.membership import Membership
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.source import Seeds
from ringcast.errors import ConfigError
from ringcast.security.trust import Trust


async def live(name: str | None, seeds: list[str], listen: str, data_dir: str | None) -> None:
    archive = Archive(Folder(data_dir)) if data_dir is not None else None
    membership = Membership(
        trust=Trust.found(os.environ["SECRET"].encode(), "test", node_id=archive.node_id if archive else name),
        listen=listen,
        advertise=None,
        labels={},
        hosts=frozenset(),
        hosts_by_value=False,
        discovery=[Seeds(seeds)] if seeds else [],
        profile=LOCAL,
        gate=Gate(),
        shares_of=lambda view, node_id: {},
        on_view=lambda view: None,
        on_event=lambda event: None,
        on_connection=lambda connection, channel: connection.close(),
        archive=archive,
    )
    await membership.start()
    print("READY", membership.address, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name")
    options.add_argument("--seed", action="append", default=[])
    options.add_argument("--listen", default="127.0.0.1:0")
    options.add_argument("--data-dir")
    given = options.parse_args()
    try:
        asyncio.run(live(given.name, given.seed, given.listen, given.data_dir))
    except ConfigError as error:
        print("REFUSED", error, flush=True)


if __name__ == "__main__":
    main()
