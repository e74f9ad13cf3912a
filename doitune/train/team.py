"""Several processes that train one run together, as `torchrun` starts them: each has a card, process 0 leads,
the others do as it says.

Only the leader has the optimiser, the run directory and the screen. Numbers travel over gloo, which notices
at once when a process dies; tensors of a card over NCCL (`exchange`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun gives each process that it starts."""

WAIT_SECONDS = 7200
"""The longest wait for another process; a validation of the leader may take its time. A process that dies
is noticed at once."""

SPEAKING_SECONDS = 10.0

TEXT_BYTES = 4096
"""Room for a text that processes send each other."""


class PeerLost(Exception):
    """Another process of the run has ended, or does not answer."""


def place() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) unless torchrun started it."""
    if any(name not in os.environ for name in VARIABLES):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def follows() -> bool:
    """Whether another process leads and speaks."""
    return place()[0] > 0


def let_the_leader_speak() -> None:
    """Stay for a while, or until a signal: torchrun ends every process as soon as one has failed, and the
    leader may still be saving."""
    time.sleep(SPEAKING_SECONDS)


def await_launcher(has_come: Callable[[], bool]) -> None:
    """Wait until torchrun's signal has come, which it sends when a process has failed: it must not cut the
    leader's last words short."""
    until = time.monotonic() + SPEAKING_SECONDS
    while not has_come() and time.monotonic() < until:
        time.sleep(0.05)


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them. Alone, every word is its own answer.

    Every process has to make the same calls in the same order. Errors: PeerLost.
    """

    rank: int = 0
    size: int = 1

    def broadcast(self, numbers: Sequence[int]) -> list[int]:
        """The leader's numbers, in every process; the others give as many of their own, which are
        forgotten."""
        if self.size == 1:
            return list(numbers)
        import torch
        from torch import distributed

        sent = torch.tensor(list(numbers), dtype=torch.int64)
        wait(distributed.broadcast(sent, 0, async_op=True))
        return [int(number) for number in sent]

    def greatest(self, word: int) -> int:
        """The greatest word of all processes."""
        if self.size == 1:
            return word
        import torch
        from torch import distributed

        words = torch.tensor([word], dtype=torch.int64)
        wait(distributed.all_reduce(words, distributed.ReduceOp.MAX, async_op=True))
        return int(words)

    def gather(self, text: str) -> list[str]:
        """Each process's text (cut to TEXT_BYTES), by its number."""
        if self.size == 1:
            return [text]
        import torch
        from torch import distributed

        padded = text.encode("utf-8")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")
        own = torch.tensor(list(padded), dtype=torch.uint8)
        all_texts = [torch.empty_like(own) for _ in range(self.size)]
        wait(distributed.all_gather(all_texts, own, async_op=True))
        return [bytes(one.tolist()).rstrip(b"\0").decode("utf-8", errors="ignore") for one in all_texts]


def wait(work: Any) -> None:
    """Wait for a collective in short naps, so that signals are still heard. PeerLost where it fails or
    takes too long."""
    until = time.monotonic() + WAIT_SECONDS
    nap = 1e-4
    while not work.is_completed():
        if time.monotonic() > until:
            raise PeerLost(f"a process has not answered for {WAIT_SECONDS} s")
        time.sleep(nap)
        nap = min(0.002, 1.5 * nap)
    try:
        work.wait()
    except RuntimeError as error:
        raise PeerLost("another process of this run has ended") from error
