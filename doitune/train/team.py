"""Several processes that train one run together, as `torchrun` starts them: each has a card, process 0 leads,
the others do as it says.

Only the leader holds the optimiser, the run directory and the screen. Every process gets the leader's weights
before a step and gives it its part of the gradient afterwards: what a reduction to all costs, and no two
processes can ever come to hold different weights. Numbers travel over gloo, which notices at once when a
process dies; tensors of a card over NCCL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from doitune.errors import DoituneError, FitError

if TYPE_CHECKING:
    import torch

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process that it starts."""

WAIT_SECONDS = 7200
"""The longest wait for another process; a validation of the leader may take its time. A process that dies
is noticed at once."""

SPEAKING_SECONDS = 10.0

TEXT_BYTES = 4096
"""Room for a text that processes tell each other."""


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


class Team:
    """The processes of a run, seen from one of them. Alone, every word is its own answer and no tensor is
    touched.

    Every process has to make the same calls in the same order. Errors: PeerLost.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def tell(self, numbers: Sequence[int]) -> list[int]:
        """The leader's numbers, in every process; the others give as many of their own, which are
        forgotten."""
        if self.size == 1:
            return list(numbers)
        import torch
        from torch import distributed

        told = torch.tensor(list(numbers), dtype=torch.int64)
        _wait(distributed.broadcast(told, 0, async_op=True))
        return [int(number) for number in told]

    def agree(self, word: int) -> int:
        """The greatest word of all processes."""
        if self.size == 1:
            return word
        import torch
        from torch import distributed

        words = torch.tensor([word], dtype=torch.int64)
        _wait(distributed.all_reduce(words, distributed.ReduceOp.MAX, async_op=True))
        return int(words)

    def gather(self, text: str) -> list[str]:
        """Each process's text (cut to TEXT_BYTES), by its number."""
        if self.size == 1:
            return [text]
        import torch
        from torch import distributed

        own = torch.tensor(
            list(text.encode("utf-8")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")), dtype=torch.uint8
        )
        all_texts = [torch.empty_like(own) for _ in range(self.size)]
        _wait(distributed.all_gather(all_texts, own, async_op=True))
        return [bytes(one.tolist()).rstrip(b"\0").decode("utf-8", errors="ignore") for one in all_texts]

    def spread(self, weights: Sequence[torch.Tensor]) -> None:
        """Give every process the leader's values of `weights`, in place."""
        if self.size == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([weight.detach().float().flatten() for weight in weights])
        _wait(distributed.broadcast(flat, 0, async_op=True))
        if self.rank:
            with torch.no_grad():
                for weight, values in zip(
                    weights, flat.split([weight.numel() for weight in weights]), strict=True
                ):
                    weight.copy_(values.view_as(weight))

    def pool(self, weights: Sequence[torch.Tensor], sums: Sequence[float]) -> torch.Tensor | None:
        """One flat fp32 buffer of this process's gradients and numbers, for `add_up`; None where it is alone.

        Made before the processes agree that all have their part, so that a lack of memory here is still one
        that they agree on.
        """
        if self.size == 1:
            return None
        import torch

        parts = [
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).float().flatten()
            for weight in weights
        ]
        return torch.cat([*parts, torch.tensor(list(sums), dtype=torch.float32, device=parts[0].device)])

    def add_up(
        self, flat: torch.Tensor | None, weights: Sequence[torch.Tensor], sums: Sequence[float]
    ) -> list[float]:
        """Sum what every process pooled: the leader's gradients become those of the whole step; returns
        the sums of the numbers."""
        if flat is None:
            return list(sums)
        from torch import distributed

        _wait(distributed.reduce(flat, 0, async_op=True))
        *parts, numbers = flat.split([*(weight.numel() for weight in weights), len(sums)])
        if self.rank == 0:
            for weight, values in zip(weights, parts, strict=True):
                weight.grad = values.view_as(weight).to(weight.dtype, copy=True)
        return [float(number) for number in numbers.tolist()]

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Around what each process makes ready for itself: a problem that only one of them meets is raised
        in all, so that the leader says it."""
        problem: DoituneError | None = None
        try:
            yield
        except DoituneError as error:
            problem = error
        texts = self.gather("" if problem is None else str(problem.problem))
        if problem is not None:
            raise problem
        for rank, text in enumerate(texts):
            if text:
                raise FitError(
                    f"process {rank} of {self.size}: {text}",
                    "every process needs the same files, and a card that the base fits",
                )

    def prove_same(self, what: str, digest: str) -> None:
        """FitError where the processes do not hold the same `what`."""
        digests = self.gather(digest)
        for rank, other in enumerate(digests):
            if other != digests[0]:
                raise FitError(
                    f"process {rank} of {self.size} found other {what} than process 0",
                    "give every machine the same files",
                )


@contextmanager
def joined() -> Iterator[Team]:
    """The processes that torchrun started, met and with a card each; a team of one where this process was
    started alone.

    Errors: FitError where there are more processes than cards, or they cannot meet.
    """
    rank, size = place()
    if size == 1:
        yield Team()
        return
    import torch
    from torch import distributed

    _take_card()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if os.environ["MASTER_ADDR"] in ("localhost", "127.0.0.1"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing of its network is needed
    try:
        distributed.init_process_group(backend, timeout=timedelta(seconds=WAIT_SECONDS))
    except (RuntimeError, ValueError) as error:
        raise FitError(
            f"the {size} processes cannot meet: {error}",
            "start them with `torchrun --nproc-per-node N -m doitune train ...`",
        ) from error
    yield Team(rank, size)
    distributed.destroy_process_group()  # not after an error: it would wait for those who are gone


def _take_card() -> None:
    """Let this process see one card only: the LOCAL_RANK-th of those that there are. Has to come before
    CUDA is touched."""
    import torch

    local, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if not cards:
        return
    if local >= cards:
        raise FitError(
            f"process {local} has no card: this machine has {cards}", f"use --nproc-per-node {cards}"
        )
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = listed.split(",")[local].strip() if listed else str(local)


def _wait(work: Any) -> None:
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
