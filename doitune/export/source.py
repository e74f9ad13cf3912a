"""The model as it was trained, which an export starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.backends.pick import begin
from doitune.backends.tokenizer import tokenizer_template
from doitune.errors import CheckpointError
from doitune.run.encoder import moment_of, refuse_other_encoder
from doitune.run.folder import resolved
from doitune.run.model import checkpoint_step
from doitune.run.places import its_base, refuse_other_base

if TYPE_CHECKING:
    from doitune.base.folder import Base
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.checkpoint import Checkpoint
    from doitune.run.folder import Run


@dataclass(frozen=True)
class Source:
    """A run with the recipe, base, checkpoint and template that it was trained with. `moved_to`: see
    `its_base`."""

    run: Run
    recipe: Recipe
    base: Base
    checkpoint: Checkpoint
    template: Template
    moved_to: str = ""

    @property
    def base_name(self) -> str:
        """What an export calls the base: a repository, `demo` or the name of its folder, never a path."""
        known = self.base.revision or self.base.name == "demo"
        return self.base.name if known else self.base.folder.name

    @property
    def stored_in_4_bits(self) -> bool:
        """Whether the base is stored in NF4: its 16-bit weights are not here."""
        return bool(self.base.config.get("quantization_config"))

    @property
    def quantised(self) -> bool:
        """Whether the adapter was trained on 4-bit values."""
        return self.recipe.model.quantise == "nf4"


def open_source(run: Run, checkpoint: str, moved_to: str = "") -> Source:
    """The source of an export, each part compared with what the run recorded. `checkpoint`: best, last or a
    step number. `moved_to`: see `its_base`.

    Errors: CheckpointError for a damaged checkpoint, another base or another encoder; ModelError.
    """
    recipe = resolved(run).recipe
    found = run.checkpoints.of_step(checkpoint_step(run, checkpoint))
    if wrong := found.verify():
        problem = f"{found.folder} is damaged: {'; '.join(wrong)}"
        raise CheckpointError(problem, "use another checkpoint: --checkpoint last")
    base = its_base(run, recipe, moved_to)
    refuse_other_base(run, base)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt, moment_of(run))
    refuse_other_encoder(run, template)
    return Source(run, recipe, base, found, template, moved_to)
