"""The hub, by its own variables: where it is, whether it may be asked, whether there is a login."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from doitune.doctor.check import Check

ON, ENDPOINT = {"1", "ON", "YES", "TRUE"}, "https://huggingface.co"


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
        reason = unreachable(f"{endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]}")
        if reason:
            return Check(
                "hub",
                "warning",
                f"{text}; it does not answer: {reason}",
                "HF_ENDPOINT names a mirror; bases can be copied by hand, too",
            )
        return Check("hub", "ok", f"{text}; it answers")
    return Check("hub", "ok", f"{text}; not asked (--network asks it)")


def unreachable(address: str) -> str:
    """Why a server gives no answer, or ""; any HTTP status is one."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(address, method="HEAD"), timeout=10).close()
    except HTTPError:
        return ""
    except (URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""
