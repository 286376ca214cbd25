"""The same work in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 16


def in_threads(work: Callable[[int], Any], timeout: float = 120.0) -> list[Any]:
    """What `work(number)` returns in each thread; all begin at once. An error in a thread is raised here."""
    barrier = threading.Barrier(THREADS)

    def begin(number: int) -> Any:
        barrier.wait(60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS), timeout=timeout))
