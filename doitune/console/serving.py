"""A service that runs: where it is, and a line for each reply."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence

from doitune.chat.reply import Reply
from doitune.console.screen import note, say, show_json
from doitune.console.talk import figures

SERVE_SCHEMA = "doitune.serve/1"


def show_service(url: str, models: Sequence[str], token: str, *, as_json: bool) -> None:
    """Where a service is, which models it has, and the token that it made up; "" where it was given one."""
    if as_json:
        show_json({"schema": SERVE_SCHEMA, "url": url, "token": token or None, "models": list(models)})
    else:
        say(f"listening: {url}")
        say(f"models: {', '.join(models)}")
        if token:
            say(f"token: {token}")
    sys.stdout.flush()
    if not as_json:
        given = "" if token else " (with the token that you gave in $DOITUNE_TOKEN)"
        header = f'"Authorization: Bearer {token or "$DOITUNE_TOKEN"}"'
        body = json.dumps({"model": models[0], "messages": [{"role": "user", "content": "1+1=?"}]})
        note(f"ask it{given}: curl {url}/chat/completions -H {header} -d {shlex.quote(body)}")
        note("Ctrl-C ends it")


def show_served(reply: Reply, waited: float) -> None:
    """A line for a reply."""
    late = f", waited {waited:.1f} s" if waited >= 0.1 else ""
    note(f"replied: {figures(reply)}{late}")
