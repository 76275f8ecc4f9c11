"""Processes find those that live, whatever the dead left in the store."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore, Store

from srgan_fast.training.rendezvous import fresh_store

WORLD = 3


def life(store: Store, number: int, late: int) -> list[bytes]:
    """What each process finds as the first one's address; one of them comes last."""

    def process(rank: int) -> bytes:
        if rank == late:
            time.sleep(0.3)
        mine = fresh_store(store, rank, WORLD, timedelta(seconds=20))
        if rank == 0:
            time.sleep(0.1)  # the others are looking for it already
            mine.set("address/0", f"life {number}")
        return bytes(mine.get("address/0"))

    with ThreadPoolExecutor(WORLD) as pool:
        return list(pool.map(process, range(WORLD)))


@pytest.mark.parametrize("late", range(WORLD))
def test_every_life_has_a_store_of_its_own(late: int) -> None:
    store = HashStore()
    store.set("address/0", "of somebody else")
    for number in range(3):
        assert life(store, number, late) == [f"life {number}".encode()] * WORLD


@pytest.mark.parametrize("dead", [1, 2])
def test_names_of_the_dead_do_not_count_as_the_living(dead: int) -> None:
    store = HashStore()
    store.set(f"here/{dead}", "left by an earlier life")
    assert life(store, 0, late=dead) == [b"life 0"] * WORLD


def test_a_process_that_does_not_come_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"process 1 did not join within 0\.1 s"):
        fresh_store(HashStore(), 0, 2, timedelta(seconds=0.1))


def test_nobody_waits_for_ever_for_the_first() -> None:
    with pytest.raises(RuntimeError):
        fresh_store(HashStore(), 1, 2, timedelta(seconds=0.1))
