"""A process of a test under torchrun: the real command, with a fault of FAULT=kind:rank:at planted in the
process of that rank.

kind: `oom` (the at-th forward runs out of memory), `kill` and `term` (in step `at` the process gets SIGKILL,
SIGTERM), `fit` (its card is too small).
"""

from __future__ import annotations

import os
import signal
from typing import Any

from doitune.__main__ import main


def plant(kind: str, at: int) -> None:
    """Put the fault into the rooms that the command uses."""
    import torch

    from doitune.backends.hf_model import HfModel
    from doitune.errors import FitError
    from doitune.train import loop, session

    make, loss = loop.make_gradient, HfModel.loss
    orders: list[int] = []
    calls = 0

    def watched(gradients: Any, order: Any) -> Any:
        orders.append(order.step if not order.trial else -1)
        return make(gradients, order)

    def faulty(self: Any, batch: Any, trained_tokens: int) -> Any:
        nonlocal calls
        if not self.adapter.peft.training:
            return loss(self, batch, trained_tokens)
        calls += 1
        if kind == "oom" and calls == at:
            raise torch.OutOfMemoryError("planted")
        if kind in ("kill", "term") and orders[-1] == at - 1:
            orders[-1] = -1
            os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        return loss(self, batch, trained_tokens)

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise FitError("this card is too small")

    loop.make_gradient = watched
    HfModel.loss = faulty  # type: ignore[method-assign]
    if kind == "fit":
        session.load_model = refuse


if __name__ == "__main__":
    kind, rank, at = os.environ.get("FAULT", "none:-1:0").split(":")
    if os.environ["RANK"] == rank:
        plant(kind, int(at))
    main()
