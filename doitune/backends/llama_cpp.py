"""A GGUF held by llama.cpp in a process of its own (the package xllamacpp), asked as any other model is.

llama.cpp gives the distribution of one token at a time, so each position is a request of its own; what it has
read stays, so that a request costs one position. It may abort or hang: that is a sentence (ModelError).
"""

from __future__ import annotations

import json
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import torch

from doitune.backends.loaded import LoadedModel, Loss, Prefix, Tokens
from doitune.errors import ModelError, UsageError
from doitune.prompt.encoded import IGNORED
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.backends.reply import ReplyWatcher
    from doitune.prompt.batch import Batch

PATIENCE_SECONDS, SECONDS_A_GIB = 300.0, 100.0
"""How long a file may take to be read, and a request to be answered, before it counts as a hang: more for
each GiB of the file, since a token is computed by reading all of it."""

SOME = 512
"""Likeliest tokens that are asked for first where some tokens' own are wanted: a whole vocabulary is
megabytes."""

ALWAYS = 1000.0
"""Added to a token's score so that it is written: llama.cpp shows no distribution where it writes a part of a
character. The distribution is that before the addition."""

CHILD = Path(__file__).with_name("llama_cpp_child.py")
_READER = "xllamacpp"
INSTALL = "pip install 'doitune[gguf]'"


@dataclass(frozen=True)
class Server:
    """A running llama.cpp: its process, and the way to it."""

    process: subprocess.Popen[str]
    client: httpx.Client
    path: Path

    def ask(self, what: str, **body: Any) -> Any:
        """The answer to a request. ModelError where it aborts, hangs or refuses."""
        try:
            found = self.client.post(f"/{what}", json=body)
        except httpx.TimeoutException:
            raise _failed(self.path, f"it has not answered for {patience(self.path):.0f} s") from None
        except httpx.HTTPError as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            raise _failed(self.path, _end(self.process) or repr(error)) from None
        if found.status_code != 200:
            raise _failed(self.path, f"it refused {what}: {' '.join(found.text.split())[:300]}")
        return found.json()


def patience(path: Path) -> float:
    """Seconds before a silence over this file counts as a hang."""
    return PATIENCE_SECONDS + SECONDS_A_GIB * path.stat().st_size / GIB


def _failed(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"llama.cpp cannot use {path.name}: {reason}",
        f"the same command tries again; a newer llama.cpp may read it: pip install -U {_READER}; the merged "
        "folder needs none: --to merged",
        place=str(path),
    )


def _end(process: subprocess.Popen[str]) -> str:
    """How a process ended; "" while it runs."""
    code = process.poll()
    if code is None:
        return ""
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"


def why_no_reader() -> str | None:
    """Why no GGUF can be read here, or None."""
    if find_spec(_READER) is None:
        return f"the package {_READER} is not installed"
    return None


@contextmanager
def running(path: Path, context_tokens: int, adapter: Path | None = None) -> Iterator[Server]:
    """llama.cpp with the file, and an adapter on it, for as long as the block lasts. Errors: UsageError
    without xllamacpp, ModelError."""
    if reason := why_no_reader():
        raise UsageError(reason, INSTALL)
    key = secrets.token_hex(16)
    order = {
        "path": str(path),
        "adapter": str(adapter or ""),
        "key": key,
        "context_tokens": context_tokens,
        "threads": torch.get_num_threads(),
    }
    child = [sys.executable, str(CHILD)]
    silent = subprocess.DEVNULL  # llama.cpp's own words: how it ended is what can be said of them
    pipe = subprocess.PIPE
    process = subprocess.Popen(child, stdin=pipe, stdout=pipe, stderr=silent, text=True)
    try:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        headers = {"Authorization": f"Bearer {key}"}
        address = _address(process, path)
        # trust_env: no proxy stands between a machine and itself
        with httpx.Client(
            base_url=address, headers=headers, timeout=patience(path), trust_env=False
        ) as client:
            yield Server(process, client, path)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[str], path: Path) -> str:
    """Where it listens, once the file is read. ModelError where it ends or hangs before."""
    assert process.stdout is not None
    until = time.monotonic() + patience(path)
    while time.monotonic() < until:
        ready, _, _ = select.select([process.stdout], [], [], 1.0)
        line = process.stdout.readline() if ready else ""
        if line.startswith("{"):
            return str(json.loads(line)["address"])
        if ready and not line:
            process.wait(5)
            raise _failed(path, _end(process))
    raise _failed(path, f"it has not read the file within {patience(path):.0f} s")


class Asker:
    """The next token after some ids, asked of `server`; `vocabulary` tokens."""

    def __init__(self, server: Server, vocabulary: int) -> None:
        self.server, self.vocabulary = server, vocabulary
        self.whole = int(server.ask("tokenize", content="a", add_special=False)["tokens"][-1])

    def log_probs(self, ids: Sequence[int], wanted: Sequence[int] | None = None) -> torch.Tensor:
        """[V] fp32, or [wanted]: log-probabilities of the token after `ids`."""
        found = self._likeliest(ids, self.vocabulary if wanted is None else min(SOME, self.vocabulary))
        if wanted is not None and not all(token in found for token in wanted):
            found = self._likeliest(ids, self.vocabulary)
        tokens = range(self.vocabulary) if wanted is None else wanted
        return torch.tensor([found.get(token, -torch.inf) for token in tokens])

    def _likeliest(self, ids: Sequence[int], count: int) -> dict[int, float]:
        asked = {"prompt": list(ids), "n_predict": 1, "n_probs": count, "temperature": 0.0}
        asked["logit_bias"] = [[self.whole, ALWAYS]]
        found = self.server.ask("completion", cache_prompt=True, **asked)
        return {one["id"]: one["logprob"] for one in found["completion_probabilities"][0]["top_logprobs"]}

    def written(self, ids: Sequence[int], most: int) -> list[int]:
        """Greedy tokens, up to the file's own end of a reply; at least one."""
        asked = {"prompt": list(ids), "n_predict": most, "temperature": 0.0, "return_tokens": True}
        found = [int(one) for one in self.server.ask("completion", cache_prompt=True, **asked)["tokens"]]
        if not found:
            raise _failed(self.server.path, "it wrote nothing, not even an end")
        return found


class LlamaCppModel(LoadedModel):
    """A model that `Server` holds. It has no adapter, and nothing in it can be trained."""

    name = "llama.cpp"
    packs = False
    shares_prefix = False
    compute_dtype = "float32"

    def __init__(self, server: Server, tokenizer: Any, vocabulary: int) -> None:
        self.tokenizer, self.asker = tokenizer, Asker(server, vocabulary)
        self.device = torch.device("cpu")
        self.adapter: Any = SimpleNamespace(peft=SimpleNamespace(train=lambda on: None))

    def log_probs(self, batch: Batch, token_ids: Tokens = None, prefix: Prefix | None = None) -> torch.Tensor:
        return torch.stack(
            [self.asker.log_probs(before, token_ids) for row in _trained(batch) for before, _ in row]
        )

    def loss(self, batch: Batch, trained_tokens: int, prefix: Prefix | None = None) -> Loss:
        rows = [
            sum(-float(self.asker.log_probs(before, [label])) for before, label in row)
            for row in _trained(batch)
        ]
        sums = torch.tensor(rows)
        return Loss(sums.sum() / trained_tokens, sums)

    def logits(self, batch: Batch, token_ids: Sequence[int], prefix: Prefix | None = None) -> torch.Tensor:
        rows = zip(batch.ids.tolist(), batch.lengths, strict=True)
        return torch.stack([self.asker.log_probs(ids[:length], token_ids) for ids, length in rows])

    def read(self, ids: Sequence[int]) -> Prefix:
        raise NotImplementedError

    def continued(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, watcher: ReplyWatcher
    ) -> torch.Tensor:
        assert len(prompts) == 1  # several rows are several steps of `watcher`, each of all rows
        ids, new = list(prompts[0]), list[int]()
        while len(new) < max_new_tokens and not any(one in watcher.stop_ids for one in new):
            new += self.asker.written([*ids, *new], max_new_tokens - len(new))
        end = next((at for at, one in enumerate(new) if one in watcher.stop_ids), len(new) - 1)
        for at in sorted({0, end}) if watcher.token_ids else ():  # the steps that it keeps
            watcher(torch.tensor([[*ids, *new[:at]]]), self.asker.log_probs([*ids, *new[:at]])[None])
        return torch.tensor([new])


def _trained(batch: Batch) -> list[list[tuple[list[int], int]]]:
    """For each row of a padded batch, its trained tokens, each with what is before it."""
    assert not batch.packed
    rows = zip(batch.ids.tolist(), batch.labels.tolist(), batch.lengths, strict=True)
    return [
        [(ids[:at], labels[at]) for at in range(1, length) if labels[at] != IGNORED]
        for ids, labels, length in rows
    ]
