"""What writes replies: many at once and greedily, as questions are asked, or one that is heard as it is
written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from doitune.backends.reply import ReplyWatcher
    from doitune.backends.written import Wish, Written


class Writer(ABC):
    """A model whose next token is always the likeliest of those that a watcher leaves."""

    @abstractmethod
    def continued(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, watcher: ReplyWatcher
    ) -> torch.Tensor:
        """[rows, new tokens] of each prompt (token ids, any lengths), until each has a stop token."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        watch_ids: Sequence[int] = (),
    ) -> list[Written]:
        """Greedy replies to a batch of prompts (token ids, any lengths), in their order."""
        from doitune.backends.reply import ReplyWatcher

        watcher = ReplyWatcher(watch_ids, stop_ids)
        return watcher.replies(self.continued(prompts, max_new_tokens, watcher))

    def speak(self, wish: Wish, on_token: Callable[[int], None], over: Callable[[], bool]) -> Written:
        """One reply, each token handed on as it is chosen; it ends early once `over` says so. Errors:
        OutOfMemory."""
        from doitune.backends.out_of_memory import memory_for
        from doitune.backends.sampling import Chooser

        chooser = Chooser(wish.sampling, wish.stop_ids, on_token, over)
        with memory_for("reply"):
            return chooser.replies(self.continued([wish.prompt], wish.max_new_tokens, chooser))[0]
