"""A place in the processes' shared store that no earlier life of the run has written to.

torchrun restarts its processes with the store of those that died, and the addresses that they left there are taken for
those of the living: a process that comes before the first one connects to a dead port. Restart counts do not help, for
each machine counts its own. So the processes agree on a name that is new, and everything else is stored below it.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

_POLL = 0.02  # seconds


def fresh_store(store: Store, rank: int, world: int, timeout: timedelta) -> Store:
    """The part of a store that only the living processes know.

    Every process but the first leaves a new name and waits for an answer under it, which nobody can have written
    before; the first answers whoever is not known to it, also to the dead, until all of the living have confirmed.

    Args:
        store: that all processes reach; may hold what earlier ones wrote.
        rank: of this process.
        world: number of processes.
        timeout: to wait for the others.

    Raises:
        RuntimeError: the others did not come in time, or the store is gone.
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
            raise RuntimeError(f"process {min(missing)} did not come within {timeout.total_seconds():g} s")
        time.sleep(_POLL)
    return PrefixStore(token, store)
