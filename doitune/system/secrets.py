"""Secrets out of everything that is written down or printed: one redactor for run records, logs, error texts
and crash reports.

A secret is the value of an environment variable whose name says so, the hub's own login, a text in a form
that only tokens have, or the user-info of an address. What the environment holds under other names is never
written down at all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

MARK = "***"

SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(^|_)(KEY|AUTH|PWD|PASS|COOKIE|BEARER|DSN)(_|$)",
    re.IGNORECASE,
)
"""Names of environment variables that hold secrets."""

TOKENS = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|(?:sk|rk|pk)-[A-Za-z0-9_-]{16,}"  # model services
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|AKIA[A-Z0-9]{12,}|ASIA[A-Z0-9]{12,}|AIza[A-Za-z0-9_-]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"  # a signed JSON token
)
"""Texts in a form that only tokens have."""

USER_INFO = re.compile(r"(?<=://)[^/\s@\"'<>]+(?=@)")
"""`user:password` of an address."""

SHORTEST = 6
"""A shorter value is no secret, and would be found in every other word."""


def redact(text: str) -> str:
    """`text` with every known or recognisable secret as `***`."""
    for value in known():
        if value in text:
            text = text.replace(value, MARK)
    text = USER_INFO.sub(MARK, text) if "://" in text else text
    return TOKENS.sub(MARK, text)


def redacted(document: Any) -> Any:
    """A document of mappings, lists and texts, every text in it (keys too) redacted."""
    if isinstance(document, str):
        return redact(document)
    if isinstance(document, Mapping):
        return {redact(str(key)): redacted(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [redacted(value) for value in document]
    return document


@lru_cache(maxsize=1)
def known() -> tuple[str, ...]:
    """Values to look for, the longest first, as they are and as JSON would write them; read from the
    environment once."""
    named = {value.strip() for name, value in os.environ.items() if SECRET_NAME.search(name)}
    values = {
        value for value in named if len(value) >= SHORTEST and not os.path.lexists(value)
    }  # a path to a key's file is no key
    login = os.environ.get("HF_TOKEN_PATH") or f"{os.environ.get('HF_HOME') or '~/.cache/huggingface'}/token"
    with suppress(OSError, ValueError, RuntimeError):
        values.add(Path(login).expanduser().read_text(encoding="utf-8").strip())
    written = {
        json.dumps(value, ensure_ascii=ascii_only)[1:-1] for value in values for ascii_only in (False, True)
    }
    return tuple(
        sorted(
            (value for value in values | written if len(value) >= SHORTEST),
            key=lambda value: (-len(value), value),
        )
    )
