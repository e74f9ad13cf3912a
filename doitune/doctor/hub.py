"""The hub, by its own variables: where it is, whether it may be asked, whether there is a login."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from doitune.data.hubs import MODELSCOPE_ADDRESS
from doitune.doctor.check import Check
from doitune.doctor.known_errors import MIRROR

ON, ENDPOINT = {"1", "ON", "YES", "TRUE"}, "https://huggingface.co"
OTHERS = (ENDPOINT, MIRROR, MODELSCOPE_ADDRESS)
"""Where models and data are besides."""
ANSWER_SECONDS = 3.0


def hub_check(*, network: bool) -> Check:
    """What the hub's variables say, and whether there is a login: never which."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ON
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or ENDPOINT)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    login = Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()
    logged = bool(os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")) or (
        login.is_file() and login.stat().st_size > 0
    )
    login_text = "logged in" if logged else "not logged in (only gated models need it)"
    text = f"{endpoint.hostname or 'no host'}, {login_text}"
    if endpoint.scheme not in ("https", "http") or not endpoint.hostname:
        return Check(
            "hub",
            "warning",
            "HF_ENDPOINT is no address of a server",
            "an address like https://host",
            ("unset HF_ENDPOINT",),
        )
    if offline:
        return Check(
            "hub",
            "warning",
            f"{text}; offline, as HF_HUB_OFFLINE is set: nothing will be fetched",
            "unset it to fetch",
            ("unset HF_HUB_OFFLINE",),
        )
    if network:
        return _asked(f"{endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]}", text)
    return Check("hub", "ok", f"{text}; not asked (--network asks it)")


def _asked(address: str, text: str) -> Check:
    """Whether the hub answers; where it does not, which of the others do."""
    reason = answers([address])[address]
    if not reason:
        return Check("hub", "ok", f"{text}; it answers")
    said = answers([one for one in OTHERS if one != address])
    there = [one for one, why in said.items() if not why]
    commands = {ENDPOINT: "unset HF_ENDPOINT", MIRROR: f"export HF_ENDPOINT={MIRROR}"}
    others = (
        f"; {', '.join(there)} {'does' if len(there) == 1 else 'do'}" if there else "; no other place does"
    )
    cure = (
        "take one of those; ModelScope has data: `doitune data fetch NAME --from modelscope`"
        if there
        else "there is no way out of this machine, or a proxy is needed (HTTPS_PROXY); bases and rows can be "
        "copied by hand: --model FOLDER, --corpus FILE"
    )
    mends = tuple(commands[one] for one in there if one in commands)[:1]
    return Check("hub", "warning", f"{text}; it does not answer: {reason}{others}", cure, mends)


def answers(addresses: Sequence[str]) -> dict[str, str]:
    """Why each server gives no answer, or ""; asked side by side and waited for ANSWER_SECONDS. Any HTTP
    status is an answer. A name that is looked up for longer is left behind."""
    found: dict[str, str] = dict.fromkeys(addresses, f"nothing within {ANSWER_SECONDS:g} s")

    def ask(address: str) -> None:
        found[address] = unreachable(address)

    threads = [Thread(target=ask, args=(one,), daemon=True) for one in addresses]
    for thread in threads:
        thread.start()
    end = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(found)


def unreachable(address: str) -> str:
    """Why a server gives no answer, or ""."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(address, method="HEAD"), timeout=ANSWER_SECONDS).close()
    except HTTPError:
        return ""
    except (URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""
