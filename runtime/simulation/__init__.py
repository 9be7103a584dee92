"""Deterministic simulation: real nodes in virtual time, on simulated machines and networks.

    world.py        virtual time, and whose turn it is
    loop.py         asyncio's event loop, one for each thread of a simulated process
    network.py      what arrives, when, and what does not; sockets.py, tcp.py, transport.py on top of it
    machine.py      machines, processes, and how they fail; disk.py what a crash leaves
    substitutes.py  how clocks, chance, sockets and threads of the real node become simulated ones
    simulation.py   `Simulation`: machines, faults, and the story that is told
    checkers.py     what must hold whatever the story is

The protocol's cores know nothing of it, and neither does the rest of the runtime.
"""

from .machine import Machine, Process, ProcessGone
from .network import Network, Quality
from .simulation import Observer, Simulation, simulate
from .world import Stalled, World

__all__ = [
    "Machine",
    "Network",
    "Observer",
    "Process",
    "ProcessGone",
    "Quality",
    "Simulation",
    "Stalled",
    "World",
    "simulate",
]
