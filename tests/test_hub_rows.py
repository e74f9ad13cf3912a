"""A data set on a hub is named as people name it: `owner/name[:config][@split]`; its files come once, at one
commit, and no code of it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import HANGS
from small_hub import COMMIT, SmallHub, serving

from doitune.data import hubs
from doitune.data.cache import corpora_folder
from doitune.data.checksums import origin_of
from doitune.data.corpus import open_corpus
from doitune.data.fetch import fetch
from doitune.data.hub_rows import hub_rows
from doitune.errors import DataError, UsageError


def rows(word: str, count: int = 3) -> bytes:
    return "".join(
        json.dumps({"question": f"{word}{n}?", "answer": str(n)}) + "\n" for n in range(count)
    ).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with serving(SmallHub({}, repository="some/rows")) as served:
        monkeypatch.setattr(hubs, "MODELSCOPE_ADDRESS", served.address)
        yield served


def questions(name: str) -> set[str]:
    corpus = fetch(name, "modelscope")
    return {row.question[0].content[:-2] for found in corpus.read("curated/full").values() for row in found}


CARD = b"""---
license: mit
configs:
- config_name: zh
  default: true
  data_files:
  - split: train
    path: zh/part-*.jsonl
  - split: test
    path: [zh/exam.jsonl]
- config_name: en
  data_dir: en
  data_files: "*.csv"
---
# rows
"""
TABLE = b"question,answer\ne0?,1\n"
LAID: dict[str, dict[str, bytes]] = {
    "card": {
        "README.md": CARD,
        "zh/part-1.jsonl": rows("a"),
        "zh/part-2.jsonl": rows("b"),
        "zh/exam.jsonl": rows("t"),
        "en/x.csv": TABLE,
    },
    "names": {
        "README.md": b"# no head",
        "data/train-00000-of-00002.jsonl": rows("a"),
        "data/train-00001-of-00002.jsonl": rows("b"),
        "data/train_sft-00000-of-00001.jsonl": rows("s"),
        "data/validation-00000-of-00001.jsonl": rows("v"),
        "dataset_infos.json": b"{}",
    },
    "folders": {"en/train.jsonl": rows("e"), "zh/train.jsonl": rows("a"), "zh/dev.jsonl": rows("v")},
    "plain": {"alpaca_zh.json": rows("a"), "load.py": b"raise SystemExit", ".hidden.jsonl": rows("h")},
    "code": {"load.py": b"raise SystemExit", "README.md": b"---\n: [\n---\n"},
    "kinds": {"train.jsonl": rows("a"), "train.csv": TABLE},
    "evil": {"../evil.jsonl": rows("x"), "/abs.jsonl": rows("y"), "a/../../b.jsonl": rows("z")},
}
TAKEN = [
    ("card", ":zh", {"a", "b"}),
    ("card", ":zh@test", {"t"}),
    ("card", ":en", {"e"}),
    ("card", ":zh/part-2.jsonl", {"b"}),
    ("names", "", {"a", "b"}),
    ("names", "@validation", {"v"}),
    ("names", "@train_sft", {"s"}),
    ("folders", ":zh", {"a"}),
    ("folders", ":zh@validation", {"v"}),
    ("plain", "", {"a"}),
    ("kinds", ":train.csv", {"e"}),
]


@pytest.mark.parametrize(("laid", "asked", "words"), TAKEN)
def test_a_name_means_the_files_of_its_config_and_split(
    hub: SmallHub, laid: str, asked: str, words: set[str]
) -> None:
    hub.files.update(LAID[laid])
    assert questions(f"some/rows{asked}") == words


@pytest.mark.parametrize(
    ("laid", "asked", "problem"),
    [
        ("card", "", "has several configs: zh, en"),
        ("card", ":fr", "has no config `fr`; it has zh, en"),
        ("card", ":zh@dev", "has no split `dev`; it has train, test"),
        ("names", "@test", "has no split `test`; it has train, train_sft, validation"),
        ("folders", "", "has several configs: en, zh"),
        ("folders", ":zh@test", "has no split `test`; it has train, validation"),
        ("kinds", "", "files of several kinds"),
        ("code", "", "has no file of rows"),
        ("evil", "", "has no file of rows"),
    ],
)
def test_a_name_that_means_no_files_is_told_what_there_is(
    hub: SmallHub, laid: str, asked: str, problem: str
) -> None:
    hub.files.update(LAID[laid])
    with pytest.raises(DataError, match=problem) as caught:
        fetch(f"some/rows{asked}", "modelscope")
    assert caught.value.hint and not list(corpora_folder().glob("hub/[!.]*"))


def test_what_came_is_kept_with_its_digests_and_not_asked_for_again(hub: SmallHub) -> None:
    hub.files.update(LAID["names"])
    corpus = fetch("some/rows", "modelscope")
    assert corpus.root == corpora_folder() / "hub" / "some--rows@train" and corpus.is_own
    assert sorted(path.name for path in corpus.root.iterdir()) == [
        "checksums.json",
        "data--train-00000-of-00002.jsonl",
        "data--train-00001-of-00002.jsonl",
    ]
    assert origin_of(corpus.root)["repository"] == "some/rows"
    asked = len(hub.asked)
    again = open_corpus("some/rows")
    assert len(again.read("curated/full")["general"]) == 6 and len(hub.asked) == asked, "from the cache"
    one = corpus.root / "data--train-00000-of-00002.jsonl"
    one.write_bytes(rows("z"))
    with pytest.raises(DataError, match=r"is not the recorded|were recorded"):
        open_corpus("some/rows").read("curated/full")
    one.unlink()
    with pytest.raises(DataError, match="missing"):
        open_corpus("some/rows").read("curated/full")
    assert questions("some/rows") == {"a", "b"}, "a fetch mends it"


def test_a_connection_that_breaks_is_gone_on_with(hub: SmallHub) -> None:
    hub.files.update({"train.jsonl": rows("a", 400)})
    hub.cut["train.jsonl"] = 2
    assert len(fetch("some/rows", "modelscope").read("curated/full")["general"]) == 400


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a/b", ("a/b", "", "")),
        ("a/b:c@d", ("a/b", "c", "d")),
        ("a/b@d", ("a/b", "", "d")),
        ("a/b:x/y.jsonl", ("a/b", "x/y.jsonl", "")),
        ("data/rows.jsonl", None),
        ("a/b/c", None),
        ("a", None),
        ("../b", None),
        ("a/b:", None),
        ("https://x/y", None),
    ],
)
def test_names(name: str, taken: tuple[str, str, str] | None) -> None:
    found = hub_rows(name)
    assert (found and (found.repository, found.config, found.split)) == taken


def test_a_path_that_is_not_there_asks_no_hub(hub: SmallHub, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/rows", "rows/new.csv"):
        with pytest.raises(DataError, match="neither a known name"):
            open_corpus(name)
    with pytest.raises(UsageError, match="is on a hub"):
        fetch("some/rows", str(tmp_path))
    assert hub.asked == []


def test_a_recipe_draws_from_the_hub_at_one_commit(hub: SmallHub, tmp_path: Path) -> None:
    """In processes of their own, as the client reads its settings when it is imported."""
    hub.files.update(LAID["names"])
    env = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }

    def doitune(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "doitune", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANGS)

    ended = doitune("data", "draw", "--corpus", "some/rows@validation", "--set", "data.holdout=0", "--json")
    assert ended.returncode == 0, ended.stderr
    ids = json.loads(ended.stdout)["ids"]
    assert len(ids) == 3 and {name.partition("#")[0] for name in ids} == {
        "some--rows@validation/data--validation-00000-of-00001/general"
    }
    assert origin_of(corpora_folder() / "hub" / "some--rows@validation")["revision"] == COMMIT
    ended = doitune("data", "check", "other/rows")
    assert ended.returncode == 65 and "there is no path other/rows here" in ended.stderr, ended.stderr
