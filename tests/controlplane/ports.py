"""Picks TCP ports for servers that cannot be told to choose one and say which."""

import random
import socket

# Below Linux's ephemeral range (32768 and up), where an outgoing connection may take a port between choice and use.
FIRST, LAST = 20000, 32000


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that nothing listens on at this moment."""
    chosen: list[int] = []
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise OSError(f"no {count} free ports between {FIRST} and {LAST} on 127.0.0.1")
