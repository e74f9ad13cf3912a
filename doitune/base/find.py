"""Base models on disk: from a name to a folder that is whole.

`demo` is shipped; a folder is taken as it is; `owner/name` comes from the Hugging Face hub into its own cache
(resumable; `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_HOME` are the hub library's). Only data files are taken:
no Python, no pickles. Beside this room: `known` (names), `fetch` (from the hub, verified), `make` (assembled
from parts, quantised in a stream), `record` (what a base was, and whether it still is).
"""

from __future__ import annotations

from pathlib import Path

from doitune.base.folder import ASSEMBLED, LEFT, TAKEN, Base, is_hub_name, whole
from doitune.base.pins import pin, pinned_commit
from doitune.base.trust import refuse_lookalike
from doitune.errors import ModelError
from doitune.system.doing import doing
from doitune.system.paths import from_home


def find_base(name: str, revision: str = "") -> Base:
    """The base called `name`: `demo`, a folder, or `owner/name` on the hub. Errors: ModelError with the
    cure."""
    if name == "demo":
        from doitune.demo.folder import BASE

        return whole(Base("demo", BASE, ""))
    folder = from_home(name)
    if folder.is_dir():
        return whole(Base(name, folder.resolve(), ""))
    if name.startswith(ASSEMBLED):
        from doitune.base.named import make_command

        raise ModelError(
            f"there is no folder {name!r} here: this base may not be published whole, so it is assembled on "
            "your machine first",
            f"{make_command(name)}; or name its folder: --set model.name=FOLDER (looked for in {Path.cwd()})",
        )
    if not is_hub_name(name):
        raise ModelError(
            f"there is no model folder {name!r}", "give a folder, `demo`, or a hub name like owner/name"
        )
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str) -> Base:
    """One repository at one commit: the one asked for, else the one of the name's first use, else (pinned
    from then on) today's.

    A commit that is wholly in the hub library's cache is taken from there without a question to the network.
    """
    from huggingface_hub import snapshot_download

    from doitune.base.fetch import hub_errors, newest_commit, whole_in_cache

    commit = revision or pinned_commit(name)
    if not commit:
        refuse_lookalike(name)
    base = whole_in_cache(name, commit)
    if base is None:
        doing(f"fetching {name} from the hub")
        with hub_errors(name, commit):
            wanted = commit or newest_commit(name) or None
            folder = Path(
                snapshot_download(
                    name, revision=wanted, allow_patterns=list(TAKEN), ignore_patterns=list(LEFT)
                )
            )
        base = whole(Base(name, folder, folder.name))
    pin(name, base.revision, base.files())
    return base
