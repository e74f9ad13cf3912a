"""Lack of memory: how the libraries say it, and the error of ours that stands for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from doitune.errors import FitError

T = TypeVar("T")
R = TypeVar("R")

PHRASES = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
"""What RuntimeErrors say that are a lack of memory without being torch.OutOfMemoryError (cuBLAS handles,
bitsandbytes, torch's CPU allocator)."""


class OutOfMemory(FitError):
    """Memory ran out; `during` says in what, in a word."""

    def __init__(self, during: str) -> None:
        super().__init__(f"no memory for a {during}", "free the card, or lower train.max_tokens")
        self.during = during


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error says that memory ran out."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)
    )


@contextmanager
def memory_for(during: str) -> Iterator[None]:
    """Inside, a library's lack of memory is raised as OutOfMemory.

    What ran out is free again only where the caller has left its `except` block: the traceback holds every
    frame with its tensors.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(during) from error


def free_cache() -> None:
    """Give what torch keeps of freed memory back to the card."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def once_more(run: Callable[[], T]) -> T:
    """What `run` gives, tried a second time where memory runs out: what others used may be free by then.
    OutOfMemory after that."""
    try:
        with memory_for("question"):
            return run()
    except OutOfMemory:
        pass
    free_cache()
    with memory_for("question"):
        return run()


def in_parts(run: Callable[[Sequence[T]], Sequence[R]], rows: Sequence[T]) -> list[R]:
    """What `run` gives for `rows`, in their order: for all at once, or where memory runs out for each
    half. OutOfMemory where one row is too much."""
    try:
        with memory_for("row"):
            return list(run(rows))
    except OutOfMemory:
        if len(rows) == 1:
            raise
    free_cache()
    middle = len(rows) // 2
    return [*in_parts(run, rows[:middle]), *in_parts(run, rows[middle:])]
