"""How the tokens of one reply are chosen: greedily, or drawn with temperature, top-k and top-p; each is
handed on as it is chosen, and a reply can be broken off between two tokens.

A logits processor that leaves one token possible: so transformers' greedy search and this project's own loop
for Unsloth take the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from doitune.backends.reply import ReplyWatcher
from doitune.backends.written import Sampling


class Chooser(ReplyWatcher):
    """Chooses the tokens of one reply, its stop token too.

    `on_token` is told of every other one as it is chosen. Once `over` says so the stop token is chosen, which
    ends the reply. The generator is its own: other work neither changes the draw nor is changed by it.
    """

    def __init__(
        self,
        sampling: Sampling,
        stop_ids: Sequence[int],
        on_token: Callable[[int], None],
        over: Callable[[], bool],
    ) -> None:
        super().__init__((), stop_ids)
        self.sampling, self.on_token, self.over = sampling, on_token, over
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """[1, vocabulary] scores with every token but the chosen one at -inf."""
        if self.over():
            token = self.stop_ids[0]
        else:
            weights = chances(scores[0].float().cpu(), input_ids[0].cpu(), self.sampling)
            token = int(torch.multinomial(weights, 1, generator=self.generator))
            if token not in self.stop_ids:
                self.on_token(token)
        alone = torch.full_like(scores, -torch.inf)
        alone[0, token] = 0.0
        return alone


def chances(scores: torch.Tensor, before: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The probability [vocabulary] of each next token, from its score [vocabulary] and the ids [n] before it.

    In transformers' order: repetition penalty, temperature, top-k, top-p. Source: its RepetitionPenalty
    processor and TopK and TopP warpers.
    """
    if sampling.repetition_penalty != 1.0:
        said = torch.unique(before)
        penalty = sampling.repetition_penalty
        scores = scores.clone()
        scores[said] = torch.where(scores[said] < 0, scores[said] * penalty, scores[said] / penalty)
    if sampling.temperature == 0:
        return torch.zeros_like(scores).index_fill_(0, scores.argmax(), 1.0)
    scores = scores / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], -torch.inf)
    weights = scores.softmax(dim=-1)
    if sampling.top_p < 1:
        ordered, places = weights.sort(descending=True)
        likelier = ordered.cumsum(0) - ordered
        ordered[1:][likelier[1:] >= sampling.top_p] = 0.0
        weights = torch.zeros_like(weights).index_put_((places,), ordered)
    return weights
