"""The base's tokenizer, the same for every backend."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.refusals import first_line, refusals
from doitune.backends.tokenizer_cut import load_cut
from doitune.backends.tokenizer_trial import refuse_wild
from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.errors import ModelError
from doitune.prompt.template import Template, open_template
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.recipe.fields import PromptSection, Recipe


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a base, from its folder alone and without any code from there. ModelError
    where it cannot be read."""
    doing("reading the tokenizer")
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
            "doitune needs a fast tokenizer (tokenizer.json)",
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
    """The template of a base, without its weights. `moment`: see `open_template`."""
    roles = (section.user_token, section.assistant_token, section.end_token)
    tokenizer = load_tokenizer(base.folder)
    return open_template(
        tokenizer,
        kind=section.template,
        tokens=section.tokens,
        vocabulary_rows=base.size("vocabulary"),
        roles=roles,
        moment=moment,
        cut=load_cut(base.folder, tokenizer)[0],
    )


def recipe_template(recipe: Recipe, moment: str = "") -> Template:
    """The template of a recipe's base, without its weights. `moment`: see `open_template`."""
    base = find_base(recipe.model.name, recipe.model.revision)
    return tokenizer_template(base, recipe.prompt, moment)
