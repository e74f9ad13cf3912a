"""Replies that are written token by token: the scores of some steps, and where a reply ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from doitune.backends.written import Written


class ReplyWatcher:
    """A logits processor that keeps some tokens' log-probabilities at each row's first and last step and
    changes nothing.

    A row's last step is the one that writes its stop token; what the batch generates after that for longer
    rows is no step of it.
    """

    def __init__(self, token_ids: Sequence[int], stop_ids: Sequence[int]) -> None:
        self.token_ids, self.stop_ids = list(token_ids), list(stop_ids)
        self.first: torch.Tensor | None = None
        self.last: torch.Tensor | None = None
        self.ended: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.token_ids:
            return scores
        here = torch.log_softmax(scores.float(), dim=-1)[:, self.token_ids].cpu()
        if self.first is None or self.last is None or self.ended is None:
            self.first, self.last, self.ended = here, here, torch.zeros(len(here), dtype=torch.bool)
        else:
            self.ended = self.ended | torch.isin(input_ids[:, -1].cpu(), torch.tensor(self.stop_ids))
            self.last = torch.where(self.ended[:, None], self.last, here)
        return scores

    def replies(self, rows: torch.Tensor) -> list[Written]:
        """Generated ids [rows, T], without their prompts, as replies: each cut at its first stop token."""
        return [self._reply(place, row) for place, row in enumerate(rows.tolist())]

    def _reply(self, place: int, row: list[int]) -> Written:
        end = next((at for at, token in enumerate(row) if token in self.stop_ids), None)
        scores = (
            ((), ())
            if self.first is None or self.last is None
            else (tuple(self.first[place].tolist()), tuple(self.last[place].tolist()))
        )
        return Written(tuple(row[:end]), end is not None, *scores)
