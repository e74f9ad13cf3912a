"""The base's tokenizer, the same for every backend."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.refusals import first_line, refusals
from doitune.backends.tokenizer_cut import load_cut
from doitune.backends.tokenizer_trial import refuse_wild
from doitune.base.consistent import read_settings
from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.errors import ModelError
from doitune.prompt.template import Template, open_template
from doitune.system.doing import doing
from doitune.system.garbage import importing

if TYPE_CHECKING:
    from doitune.recipe.fields import PromptSection, Recipe


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a base, from its folder alone and without any code from there. ModelError
    where it cannot be read."""
    doing("reading the tokenizer")
    with importing():
        from transformers import AutoTokenizer  # here: Unsloth has to be imported before it

    refuse_wild(folder)
    try:
        with _unheard():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        known = isinstance(error, refusals())
        if not known and type(error) is not Exception:  # the tokenizers library raises it bare
            raise
        raise ModelError(
            f"the tokenizer in {folder} cannot be loaded: {first_line(error)}",
            "doitune needs a fast tokenizer (tokenizer.json) beside a config.json that transformers accepts",
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer in {folder} is not a fast one", "add its tokenizer.json")
    return tokenizer


@contextmanager
def _unheard() -> Iterator[None]:
    """Inside, standard output goes nowhere: the tokenizers library prints unknown keys of the model's
    files there, escape sequences and all."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed by the caller
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def tokenizer_template(base: Base, section: PromptSection, moment: str = "") -> Template:
    """The template of a base, without its weights. `moment`: see `open_template`. Where the recipe leaves the
    kind open, the base's own where it was tuned for chat, else the recipe's; `why` says so."""
    chosen = _chosen_template(base, section, moment)
    return replace(chosen, thinking=section.thinking, learn=section.learn)


def _chosen_template(base: Base, section: PromptSection, moment: str) -> Template:
    roles = (section.user_token, section.assistant_token, section.end_token)
    tokenizer = load_tokenizer(base.folder)
    opened = partial(
        open_template,
        tokenizer,
        tokens=section.tokens,
        vocabulary_rows=base.size("vocabulary"),
        roles=roles,
        moment=moment,
        cut=load_cut(base.folder, tokenizer)[0],
    )
    if section.template != "auto":
        return opened(kind=section.template)
    if section.tokens == "new" or any(roles):
        return replace(opened(kind="doit"), why="role tokens are named")
    found, why = own_template(base, tokenizer, lambda: opened(kind="model"))
    return replace(found or opened(kind="doit"), why=why)


def folder_template(folder: Path, base: Base) -> Template:
    """The chat template of an adapter's own folder, for its base. ModelError where it does not serve."""
    tokenizer = load_tokenizer(folder)
    rows, cut = base.size("vocabulary"), load_cut(folder, tokenizer)[0]
    return open_template(tokenizer, kind="model", tokens="reuse", vocabulary_rows=rows, cut=cut)


def own_template(base: Base, tokenizer: Any, opened: Callable[[], Template]) -> tuple[Template | None, str]:
    """The base's own chat template, if it was tuned for chat under it; and why it is taken, or is not.

    A base model may bring a template, too (Qwen's do). One that was tuned under it stops at the token that
    ends a turn: the tokenizer or generation_config.json names it as an end.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None, "this model has no chat template of its own"
    try:
        template = opened()
    except ModelError as error:
        return None, f"this model's own chat template does not serve: {error.problem}"
    ends = {tokenizer.eos_token_id, *_ends(base.config), *_generation_ends(base.folder)}
    if template.end_id in ends:
        return template, "this model was tuned for chat: it stops where its own chat template ends a turn"
    end = tokenizer.convert_ids_to_tokens(template.end_id)
    return None, f"this model was not tuned for chat: it does not stop at {end}, which ends a turn"


def foreign_turns(base: Base, template: Template) -> list[str]:
    """A sentence for a model that was tuned for chat and is asked to speak in other turns."""
    if template.kind == "model" or template.why:
        return []
    own, _ = own_template(
        base,
        template.tokenizer,
        lambda: open_template(template.tokenizer, kind="model", tokens="reuse", vocabulary_rows=0),
    )
    if own is None:
        return []
    return [
        "this model was tuned for chat under its own template; prompt.template: doit trains it under other "
        "turns (its own: --set prompt.template=model)"
    ]


def _generation_ends(folder: Path) -> list[int]:
    """The end tokens that generation_config.json names."""
    path = folder / "generation_config.json"
    return _ends(read_settings(path)) if path.is_file() else []


def _ends(settings: Mapping[str, Any]) -> list[int]:
    """The end tokens that a settings file names, one or several."""
    ends = settings.get("eos_token_id")
    return [one for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, int)]


def recipe_template(recipe: Recipe, moment: str = "") -> Template:
    """The template of a recipe's base, without its weights. `moment`: see `open_template`."""
    base = find_base(recipe.model.name, recipe.model.revision)
    return tokenizer_template(base, recipe.prompt, moment)
