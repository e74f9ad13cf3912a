"""Models in memory from what is on disk: a recipe's base with a fresh adapter, or with the one of a
run's checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from doitune.backends.loaded import LoadRequest
from doitune.backends.pick import begin, pick_backend
from doitune.backends.probe import prove_adapter
from doitune.backends.tokenizer import tokenizer_template
from doitune.base.folder import Base
from doitune.errors import CheckpointError, DoituneError
from doitune.prompt.encode import fingerprint
from doitune.run.checkpoint import Checkpoint
from doitune.run.encoder import moment_of, refuse_other_encoder
from doitune.run.folder import Run, resolved
from doitune.run.layout import RECIPE, resume_command
from doitune.run.places import its_base
from doitune.system.doing import doing
from doitune.system.paths import as_argument

if TYPE_CHECKING:
    from doitune.backends.loaded import Backend, LoadedModel
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe

WAIT = "wait for its end, or name another run: `doitune runs list` shows which are done"


def load_model(recipe: Recipe, base: Base, new_rows: int, *, training: bool) -> tuple[str, LoadedModel]:
    """The recipe's base with a fresh adapter, on the backend that serves here; returns the backend's name
    too."""
    doing("loading torch and the libraries around it")
    name, backend = pick_backend(recipe.model.backend, base)
    targets = () if recipe.lora.targets == "all-linear" else tuple(recipe.lora.targets)
    request = LoadRequest(
        base=base,
        quantise=recipe.model.quantise,
        compute_dtype=recipe.model.compute_dtype,
        rank=recipe.lora.rank,
        alpha=recipe.lora.alpha,
        dropout=recipe.lora.dropout,
        targets=targets,
        new_rows=new_rows,
        seed=recipe.train.seed,
        max_tokens=recipe.train.max_tokens,
        gradient_checkpointing=training and _checkpoints_gradients(recipe),
    )
    if _keeper is None:
        return name, backend.load(request)
    return name, _keeper.model(name, backend, request)


class _Keeper:
    """The base that this process loaded last, to be given out again with another adapter."""

    def __init__(self) -> None:
        self.kind: tuple[object, ...] = ()
        self.kept: LoadedModel | None = None

    def model(self, name: str, backend: Backend, request: LoadRequest) -> LoadedModel:
        """A model for the request: on the kept base where it is the same one, loaded and computing alike."""
        base = request.base
        kind = (name, base.folder.resolve(), base.revision, request.quantise, request.compute_dtype)
        kept, self.kept = self.kept, None
        found = kept.renewed(request) if kept is not None and kind == self.kind else None
        del kept  # two bases may not fit one card
        self.kind, self.kept = kind, found or backend.load(request)
        return self.kept


_keeper: _Keeper | None = None


def keeps_one_base() -> bool:
    """Whether this process is inside `one_base`."""
    return _keeper is not None


@contextmanager
def one_base() -> Iterator[None]:
    """Inside, a base is loaded once for all the trainings and evaluations that use it one after another, each
    with a fresh adapter of its own seed; only the model that was loaded last may be used."""
    global _keeper
    before, _keeper = _keeper, _Keeper()
    try:
        yield
    finally:
        _keeper = before


def _checkpoints_gradients(recipe: Recipe) -> bool:
    """`auto`: on a card, where memory is what a run lacks; not on the CPU, where it would only cost time."""
    import torch

    wanted = recipe.train.gradient_checkpointing
    return wanted == "always" or (wanted == "auto" and torch.cuda.is_available())


def open_encoder(run: Run, moved_to: str = "") -> tuple[Recipe, Base, Template]:
    """A run's recipe, its base on disk, and the template that it was trained with; the backend's libraries
    are imported. `moved_to`: see `its_base`. CheckpointError where the encoder is another."""
    recipe = resolved(run).recipe
    base = its_base(run, recipe, moved_to)
    begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt, moment_of(run))
    refuse_other_encoder(run, template)
    return recipe, base, template


def open_trained(
    run: Run, checkpoint: str = "best", moved_to: str = ""
) -> tuple[Recipe, LoadedModel, Template, int]:
    """A run's base with the adapter of one of its checkpoints, its template, and the checkpoint's step.

    `checkpoint`: "best", "last" or a step number. `moved_to`: see `its_base`. Errors: see `take_checkpoint`;
    CheckpointError where it is missing.
    """
    step = checkpoint_step(run, checkpoint)
    recipe, base, template = open_encoder(run, moved_to)
    _, model = load_model(recipe, base, template.new_rows, training=False)
    take_checkpoint(run, step, model, template)
    return recipe, model, template, step


def take_checkpoint(
    run: Run, step: int, model: LoadedModel, template: Template, *, same_base: bool = True
) -> Checkpoint:
    """Give the model the adapter of a run's checkpoint: its files are verified, and what it says is compared
    with its probe. CheckpointError. `same_base`: see `prove_adapter`.

    The model is left in evaluation mode.
    """
    with still_there(run, step):
        found = run.checkpoints.of_step(step)
        wrong = found.verify()
        if wrong:
            raise CheckpointError(
                f"{found.folder} is damaged: {'; '.join(wrong)}", "use another checkpoint: --checkpoint last"
            )
        doing(f"taking up the checkpoint of step {step}")
        model.load_adapter(found.folder)
        prove_adapter(model, found.folder, fingerprint(template), same_base=same_base)
        return found


@contextmanager
def still_there(run: Run, step: int) -> Iterator[None]:
    """Inside, what fails since the checkpoint of `step` was deleted meanwhile says that: a training that goes
    on deletes older ones. CheckpointError."""
    try:
        yield
    except (DoituneError, OSError) as error:
        if any(one.step == step for one in run.checkpoints.all()):
            raise
        if run.is_locked():
            problem = f"{run.name} is still training, and has deleted its checkpoint of step {step} meanwhile"
            raise CheckpointError(problem, WAIT) from error
        problem = f"the checkpoint of step {step} of {run.name} was deleted while it was read"
        raise CheckpointError(problem, "run the same command again") from error


def checkpoint_steps(run: Run) -> list[int]:
    """The steps of its checkpoints, at least one. CheckpointError says why there is none."""
    if steps := [found.step for found in run.checkpoints.all()]:
        return steps
    if run.is_locked():
        raise CheckpointError(f"{run.name} is still training and has no checkpoint yet", WAIT)
    if run.done():
        again = shlex.join(["doitune", "train", as_argument(run.folder / RECIPE)])
        raise CheckpointError(f"the checkpoints of {run.name} are gone", f"train it again: {again}")
    raise CheckpointError(f"{run.name} has no checkpoint", f"go on with it: {resume_command(run.folder)}")


@contextmanager
def one_checkpoint(run: Run, wanted: str) -> Iterator[str]:
    """The step that `wanted` names now, as text: the same one for all that is done inside. Errors: those of
    `checkpoint_step` and `still_there`."""
    step = checkpoint_step(run, wanted)
    with still_there(run, step):
        yield str(step)


def checkpoint_step(run: Run, wanted: str) -> int:
    """The step that "best", "last" or a number names in this run."""
    steps = checkpoint_steps(run)
    if wanted == "last":
        return steps[-1]
    if wanted == "best":
        done = run.done()
        best = done["best_step"] if done else run.best_step()
        if best is not None and best not in steps:
            raise CheckpointError(
                f"the best checkpoint of {run.name}, step {best}, is gone or damaged",
                "ask another one: --checkpoint last",
            )
        return steps[-1] if best is None else best
    if wanted.isascii() and wanted.isdecimal():
        return run.checkpoints.of_step(int(wanted)).step
    raise CheckpointError(f"no checkpoint is called {wanted!r}", "best, last or a step number")
