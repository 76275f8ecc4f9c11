"""A prefix in the processes' shared store that no earlier start of the run has written to.

torchrun restarts its processes with the same store, which still has the addresses of the processes that died. They
would be mistaken for current ones: a process that starts before the first one would connect to a dead port. Restart
counts do not help, because each machine counts its own restarts. The processes therefore agree on a new prefix, and
everything else is stored under it.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

_POLL = 0.02  # seconds


def fresh_store(store: Store, rank: int, world: int, timeout: timedelta) -> Store:
    """The store with a new prefix that only the current processes know.

    Every process except the first writes a new random name and waits for an answer under that name, which no earlier
    process can have written. The first process answers every name that it finds, including names of dead processes,
    until all current processes have confirmed.

    Args:
        store: store of all processes; may have entries of earlier processes.
        rank: rank of this process.
        world: number of processes.
        timeout: maximum time to wait for the other processes.

    Raises:
        RuntimeError: the other processes did not answer in time, or the store cannot be reached.
    """
    if rank:
        name = uuid.uuid4().hex
        store.set(f"here/{rank}", name)
        store.wait([f"welcome/{name}"], timeout)
        token = store.get(f"welcome/{name}").decode()
        store.set(f"{token}/confirmed/{rank}", "")
        return PrefixStore(token, store)
    token, until = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    missing, answered = set(range(1, world)), set[bytes]()
    while missing:
        for other in sorted(missing):
            if store.check([f"{token}/confirmed/{other}"]):
                missing.remove(other)
            elif store.check([f"here/{other}"]) and (name_left := store.get(f"here/{other}")) not in answered:
                answered.add(name_left)
                store.set(f"welcome/{name_left.decode()}", token)
        if missing and time.monotonic() > until:
            raise RuntimeError(f"process {min(missing)} did not join within {timeout.total_seconds():g} s")
        time.sleep(_POLL)
    return PrefixStore(token, store)
