"""Setup: all that a training is given, in one frozen object, before its first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from doitune.system.signals import Asked
from doitune.train.events import Event, Note
from doitune.train.state import Standing
from doitune.train.team import Team

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.memory.start import Allowance
    from doitune.prepare.material import Material
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.folder import Run

DEFAULT_MICRO_BATCH_TOKENS = 4096


class Scorer(Protocol):
    """Asks validation questions; handed in, so that training does not know evaluation."""

    def __call__(
        self,
        model: LoadedModel,
        template: Template,
        examples: Mapping[str, Sequence[Example]],
        *,
        most_new_tokens: int | None = None,
    ) -> dict[str, float]:
        """Each ability's score in 0..1. `most_new_tokens`: no reply gets more, to see that questions can be
        asked; such scores mean nothing."""
        ...


OnEvent = Callable[[Event], None]


def _hear_nothing(event: Event) -> None:
    pass


@dataclass(frozen=True)
class Setup:
    """What one training works with and reports to.

    `allowance`: what a memory plan allows a run on the card that is here. `signals`: those that ask to stop.
    """

    run: Run
    recipe: Recipe
    material: Material
    model: LoadedModel
    scorer: Scorer | None = None
    report: OnEvent = _hear_nothing
    team: Team = field(default_factory=Team)
    signals: Asked = field(default_factory=Asked)
    allowance: Allowance | None = None

    def note(self, text: str) -> None:
        """Report a sentence."""
        self.report(Note(text))

    def start(self) -> Standing:
        """Before step 1."""
        section = self.recipe.train
        tokens = section.tokens_per_micro_batch or max(DEFAULT_MICRO_BATCH_TOKENS, section.max_tokens)
        return Standing(
            step=0,
            total_steps=self.material.course.total_steps,
            tokens_per_micro_batch=self.allowance.tokens if self.allowance else tokens,
            packed=False,
            trained_tokens=0,
            seconds=0.0,
        )
