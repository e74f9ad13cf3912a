"""An adapter and its card to the Hugging Face hub, by its own client: private unless that is said, and no
file beside those that are shown first.

The login is the client's (`hf auth login`, HF_TOKEN), the address HF_ENDPOINT's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.base.folder import is_hub_name
from doitune.data.hubs import quieten_client
from doitune.errors import ModelError, UsageError
from doitune.export.adapter import AdapterExport, public_adapter
from doitune.system.doing import doing
from doitune.system.units import MIB

if TYPE_CHECKING:
    from doitune.run.folder import Run

OnFiles = Callable[[Mapping[str, int]], None]

LOGIN = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write"


@dataclass(frozen=True)
class Parcel:
    """What is to be sent: a run's checkpoint to `repository`. `base`: see `export_adapter`; `public`: a new
    repository is one that everybody reads, and an existing one may be."""

    run: Run
    repository: str
    checkpoint: str = "best"
    base: str = ""
    public: bool = False


@dataclass(frozen=True)
class Pushed:
    """What was sent, or (`commit` is "") would be: bytes of each file by name."""

    repository: str
    files: Mapping[str, int]
    public: bool
    commit: str = ""
    address: str = ""


def push(parcel: Parcel, *, dry_run: bool, on_files: OnFiles, on_note: Callable[[str], None]) -> Pushed:
    """Send the adapter of a checkpoint, with its card. `on_files` hears of every file before one is sent.

    Errors: UsageError, ModelError with the hub's answer and its cure, those of `public_adapter`.
    """
    name = parcel.repository
    if not is_hub_name(name) or not all(name.split("/")):
        raise UsageError(f"{name!r} is no name of a repository on the hub", "write OWNER/NAME")
    _refuse_name(name)
    if not dry_run:
        _refuse_logged_out()
    with public_adapter(
        parcel.run, name, checkpoint=parcel.checkpoint, base=parcel.base, on_note=on_note
    ) as found:
        on_files(found.files)
        if dry_run:
            return Pushed(name, found.files, parcel.public)
        return _send(parcel, found)


def _refuse_name(name: str) -> None:
    """What the hub would refuse, before anything is made ready."""
    from huggingface_hub.utils._validators import validate_repo_id

    with _hub_answers(name):
        validate_repo_id(name)


def _refuse_logged_out() -> None:
    from huggingface_hub import get_token

    if not get_token():
        raise ModelError("you are not logged in to the hub", LOGIN)


def _send(parcel: Parcel, found: AdapterExport) -> Pushed:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    name, api = parcel.repository, HfApi()
    with _hub_answers(name):
        doing(f"asking the hub for {name}")
        try:
            public = not api.model_info(name).private
        except RepositoryNotFoundError:
            api.create_repo(name, private=not parcel.public)
            public = parcel.public
        if public and not parcel.public:
            raise ModelError(
                f"{name} is there, and everybody can read it", "say --public, or name another repository"
            )
        doing(f"sending {sum(found.files.values()) / MIB:,.1f} MiB to {name}")
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=file, path_or_fileobj=found.folder / file) for file in found.files
        ]
        done = api.create_commit(
            name, operations, commit_message=f"{found.document['checkpoint']} of a doitune run"
        )
    return Pushed(name, found.files, public, done.oid, str(done.repo_url))


@contextmanager
def _hub_answers(name: str) -> Iterator[None]:
    """What the hub's client raises, as a user may read it. Errors: ModelError."""
    from httpx import HTTPError
    from huggingface_hub import errors as hub

    quieten_client()
    try:
        yield
    except hub.OfflineModeIsEnabled:
        raise ModelError("HF_HUB_OFFLINE is set, so nothing is sent", "unset it") from None
    except hub.HFValidationError as error:
        raise UsageError(
            f"{name!r} is no name of a repository: {_first(error)}", "write OWNER/NAME"
        ) from None
    except hub.HfHubHTTPError as error:
        problem, cure = _refusal(name, error.response.status_code, _first(error))
        raise ModelError(problem, cure) from None
    except (HTTPError, OSError) as error:
        raise ModelError(
            f"the hub cannot be reached ({type(error).__name__}: {_first(error)})",
            "check the network, and run the same command again; HF_ENDPOINT names another address (a mirror "
            "takes no uploads)",
        ) from error


def _refusal(name: str, status: int, said: str) -> tuple[str, str]:
    """A hub's refusal and its cure."""
    owner = name.partition("/")[0]
    known = {
        401: ("the hub does not know this login", LOGIN),
        403: (f"this login may not write to {name}", f"use a token with the right to write to {owner}"),
        404: (f"the hub has no owner {owner!r} that you may write to", "write your own name: OWNER/NAME"),
        409: (f"{name} was changed by somebody else meanwhile", "run the same command again"),
        412: (f"{name} was changed by somebody else meanwhile", "run the same command again"),
        413: ("the hub takes no files of this size", "lower lora.rank makes a smaller adapter"),
        429: ("the hub asks for patience", "run the same command again in some minutes"),
    }
    problem, cure = known.get(status, ("the hub did not take it", "run the same command again later"))
    return f"{problem} ({status}: {said})", cure


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
