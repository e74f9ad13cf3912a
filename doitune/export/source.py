"""The model as it was trained, which an export starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.backends.pick import begin
from doitune.backends.tokenizer import tokenizer_template
from doitune.base.find import find_base
from doitune.errors import CheckpointError
from doitune.evals.targets import refuse_other_encoder
from doitune.run.folder import resolved
from doitune.run.layout import ORIGIN
from doitune.run.model import checkpoint_step
from doitune.system.secrets import redacted

if TYPE_CHECKING:
    from doitune.base.folder import Base
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.checkpoint import Checkpoint
    from doitune.run.folder import Run


@dataclass(frozen=True)
class Source:
    """A run with the recipe, base, checkpoint and template that it was trained with."""

    run: Run
    recipe: Recipe
    base: Base
    checkpoint: Checkpoint
    template: Template

    @property
    def stored_in_4_bits(self) -> bool:
        """Whether the base is stored in NF4: its 16-bit weights are not here."""
        return bool(self.base.config.get("quantization_config"))

    @property
    def quantised(self) -> bool:
        """Whether the adapter was trained on 4-bit values."""
        return self.recipe.model.quantise == "nf4"


def open_source(run: Run, checkpoint: str) -> Source:
    """The source of an export, each part compared with what the run recorded. `checkpoint`: best, last or a
    step number.

    Errors: CheckpointError for a damaged checkpoint, another base or another encoder; ModelError.
    """
    recipe = resolved(run).recipe
    found = run.checkpoints.of_step(checkpoint_step(run, checkpoint))
    if wrong := found.verify():
        problem = f"{found.folder} is damaged: {'; '.join(wrong)}"
        raise CheckpointError(problem, "use another checkpoint: --checkpoint last")
    base = find_base(recipe.model.name, recipe.model.revision)
    _refuse_other_base(run, base)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt)
    refuse_other_encoder(run, template)
    return Source(run, recipe, base, found, template)


def _refuse_other_base(run: Run, base: Base) -> None:
    """CheckpointError where a file of the base is not the one that the run was trained on."""
    trained: Mapping[str, str] = run.read_json(ORIGIN).get("base", {}).get("files", {})
    now = redacted(base.sha256())  # as origin.json has them
    if other := sorted(name for name in {*trained, *now} if trained.get(name) != now.get(name)):
        files = f"{', '.join(other[:5])} of {base.folder} {'is' if len(other) == 1 else 'are'} not as then"
        raise CheckpointError(
            f"{run.name} was trained on another base: {files}",
            "bring the old files back: the adapter is a change of those weights and no others",
        )
