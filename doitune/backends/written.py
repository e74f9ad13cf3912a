"""Replies as a model writes them, and how one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """One generated reply: new token ids without the stop token, whether a stop token ended it, and the
    log-probabilities of the `watch_ids` asked for (nats, over the whole vocabulary) at the first step and at
    the last, the one that wrote the stop token."""

    ids: tuple[int, ...]
    stopped: bool
    first_scores: tuple[float, ...]
    last_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How a reply's tokens are chosen. `temperature` 0: always the likeliest. `top_k` 0 and `top_p` 1: of all
    tokens. `repetition_penalty`: what the score of a token that was there before is divided by (multiplied
    where it is negative)."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Wish:
    """One reply that is asked for: to which prompt, at most how long, ended by which tokens, chosen how."""

    prompt: Sequence[int]
    max_new_tokens: int
    stop_ids: Sequence[int]
    sampling: Sampling = Sampling()
