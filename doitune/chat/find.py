"""From a name to a partner: a run (with the adapter of one of its checkpoints), an adapter apart from its
run, or a base alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from doitune.base.context import context_of
from doitune.base.find import find_base
from doitune.chat.partner import Partner
from doitune.chat.sampling import own_sampling
from doitune.errors import UsageError
from doitune.evals.targets import is_lone, run_of
from doitune.run.layout import in_run, step_of

if TYPE_CHECKING:
    from doitune.base.folder import Base
    from doitune.run.folder import Run

OWN_ROWS = "own"
"""The recipe whose settings a base alone is loaded with."""

UNTAUGHT = "nothing has taught it turns yet, so its replies may be anything"


def open_partner(target: str, *, runs: Path, checkpoint: str = "best", moved_to: str = "") -> Partner:
    """Load what `target` names: a run (`last`, a part of its name, its folder, or a checkpoint's folder), the
    folder of an adapter, or a base (`demo`, a hub name, a model folder). `moved_to`: where the base is now.

    Errors: UsageError; ModelError; CheckpointError, also where questions would not be encoded as in training.
    """
    if is_lone(target):
        return _apart(Path(target), moved_to)
    run = run_of(target, runs)
    if run is None:
        if moved_to:
            raise UsageError(
                f"--model says where a run's base is, and {target} is a base itself",
                "give its folder as the target",
            )
        return _base(target)
    folder = Path(target)
    if in_run(folder) is not None:
        checkpoint = str(step_of(folder.name) or 0)
    return _trained(run, checkpoint, moved_to)


def _trained(run: Run, checkpoint: str, moved_to: str) -> Partner:
    from doitune.run.model import checkpoint_step, load_model, open_encoder, take_checkpoint

    step = checkpoint_step(run, checkpoint)  # before a model is loaded, so that what is missing shows at once
    recipe, base, template = open_encoder(run, moved_to)
    own, why = own_sampling(base)
    _, model = load_model(recipe, base, template.new_rows, training=False)
    take_checkpoint(run, step, model, template)
    return Partner(run.name, model, template, own, why, _context(base), notes=(f"checkpoint of step {step}",))


def _apart(folder: Path, moved_to: str) -> Partner:
    from doitune.run.lone import open_lone

    found = open_lone(folder, moved_to)
    own, why = own_sampling(found.base)
    context = _context(found.base)
    return Partner(str(folder), found.model, found.template, own, why, context, notes=found.notes)


def _base(target: str) -> Partner:
    from doitune.backends.pick import begin
    from doitune.backends.tokenizer import tokenizer_template
    from doitune.recipe.resolve import resolve
    from doitune.run.model import load_model

    recipe = resolve(OWN_ROWS, model=target).recipe
    base = find_base(recipe.model.name, recipe.model.revision)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt)
    own, why = own_sampling(base)
    _, model = load_model(recipe, base, template.new_rows, training=False)
    model.training(False)
    notes = [template.why] if template.why else []
    notes += [] if template.kind == "model" else [UNTAUGHT]
    return Partner(target, model, template, own, why, _context(base), adapted=False, notes=tuple(notes))


def _context(base: Base) -> int | None:
    found = context_of(base.config)
    return found.tokens if found else None
