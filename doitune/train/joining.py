"""How the processes of a run meet: with a card each and the same files; one of them reports what went
wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from doitune.errors import DoituneError, FitError
from doitune.train.team import WAIT_SECONDS, Team, place


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


@contextmanager
def preparing(team: Team) -> Iterator[None]:
    """Around what each process makes ready for itself: a problem that only one of them meets is raised
    in all, so that the leader says it."""
    problem: DoituneError | None = None
    try:
        yield
    except DoituneError as error:
        problem = error
    texts = team.gather("" if problem is None else str(problem.problem))
    if problem is not None:
        raise problem
    for rank, text in enumerate(texts):
        if text:
            raise FitError(
                f"process {rank} of {team.size}: {text}",
                "every process needs the same files, and a card that the base fits",
            )


def prove_same(team: Team, what: str, digest: str) -> None:
    """FitError where the processes do not have the same `what`."""
    digests = team.gather(digest)
    for rank, other in enumerate(digests):
        if other != digests[0]:
            raise FitError(
                f"process {rank} of {team.size} found other {what} than process 0",
                "give every machine the same files",
            )
