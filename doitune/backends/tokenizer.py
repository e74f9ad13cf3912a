"""The base's tokenizer, the same for every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from doitune.errors import ModelError


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a base, from its folder alone and without any code from there. ModelError where it cannot be read."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError, ImportError, RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {reason}", "doitune needs a fast tokenizer (tokenizer.json)") from error
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer in {folder} is not a fast one", "add its tokenizer.json")
    return tokenizer
