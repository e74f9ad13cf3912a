"""An exported adapter stands alone: plain peft and transformers give a chat the ids of training and answer as
doitune's own evaluation does. And it is sent to the hub with nothing beside it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bitsandbytes.nn import Linear4bit
from patience import HANGS
from peft import AutoPeftModelForCausalLM
from small_hub import COMMIT, SmallHub, serving
from test_own_template import TUNED, base_with, rows_of
from transformers import AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from doitune.base.make import ROOM
from doitune.demo.folder import BASE as DEMO_BASE
from doitune.errors import CheckpointError, DiskError, ModelError, UsageError
from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target
from doitune.export import adapter
from doitune.export.adapter import AdapterExport, export_adapter, hub_base, public_adapter
from doitune.export.card.card import CARD
from doitune.export.push import Parcel, Pushed, push
from doitune.export.tokenizer import CHATS
from doitune.prompt.encode import encode, encode_question
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run, resolved
from doitune.run.model import open_trained
from doitune.selftest.world import make_world
from doitune.system.disk import disk_error
from doitune.train.session import start

FILES = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip
SECRET = "hf_" + "a1B2" * 8


def trained(runs: Path, recipe: str, **more: Any) -> Run:
    return start(resolve(recipe, **more), runs=runs, scorer=None, on_event=lambda event: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("adapter 世界")).recipe


@pytest.fixture(scope="module")
def run(world: Path) -> Run:
    """Trained on NF4, under turns of its own."""
    return trained(world.parent / "runs", str(world))


@pytest.fixture(scope="module")
def run_own(world: Path, tiny_base: Path) -> Run:
    """Trained on the base as it is, under the model's own chat template."""
    base, rows = base_with(world.parent / "chat base", tiny_base, TUNED), rows_of(world.parent / "own.jsonl")
    few = ["model.quantise=none", "train.max_steps=4", "train.learning_rate=1e-2"]
    return trained(world.parent / "runs", "own", model=str(base), corpus=str(rows), overrides=few)


def export(run: Run, out: Path, **more: Any) -> AdapterExport:
    return export_adapter(run, out, on_note=lambda text: None, **more)


@pytest.mark.parametrize("name", ["run", "run_own"])
def test_plain_libraries_answer_as_the_evaluation_does(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Run = request.getfixturevalue(name)
    base = str(resolved(run).recipe.model.name)
    found = export(run, tmp_path / "an adapter 一", base=base)  # a folder, which peft then finds by itself
    assert {*found.files} >= FILES
    folder = str(found.folder)
    _, model, template, _ = open_trained(run)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    more = {"quantization_config": four_bits} if found.document["trained_against"] == "nf4" else {}
    plain = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more).eval()
    for layer in plain.modules():
        if isinstance(layer, Linear4bit):  # on some CPUs it would compute in bf16, as the card says
            layer.support_avx512bf16_for_cpu = False
    tokenizer = AutoTokenizer.from_pretrained(folder)
    how = GenerationConfig.from_pretrained(folder, max_new_tokens=12)
    chats = CHATS[1:]  # a chat template need not strip the blanks at the ends, which is CHATS' own subject
    assert len(chats) == 4
    for messages in chats:
        said = [{"role": one.role, "content": one.content.strip()} for one in messages]
        asked = tokenizer.apply_chat_template(
            said[:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = asked["input_ids"][0].tolist()
        assert ids == list(encode_question(messages[:-1], template))
        whole = tokenizer.apply_chat_template(said, return_dict=False)
        trained_ids = list(encode(messages, template).ids)
        assert whole[: len(trained_ids)] == trained_ids
        theirs = plain.generate(**asked, generation_config=how)[0, len(ids) :].tolist()
        ours = model.generate([ids], max_new_tokens=12, stop_ids=template.stop_ids)[0]
        assert [one for one in theirs if one not in template.stop_ids] == [
            one for one in ours.ids if one not in template.stop_ids
        ]
        assert theirs, "a reply that was never written proves nothing"
    with plain.disable_adapter():
        bare = plain(**asked).logits
    assert (plain(**asked).logits - bare).abs().max() > 1e-3, "the adapter is on it"


def test_the_card_is_read_by_the_hub_and_its_example_runs(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "one", base=f"someone/base@{COMMIT}")
    text = (tmp_path / "one" / CARD).read_text("utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["base_model"] == "someone/base" and head["library_name"] == "peft"
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text("utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("someone/base", COMMIT)
    for wanted in (
        "| biology | 8 | 12 | 8 |",
        "| `lora.rank` | 4 |",
        "Validation: loss",
        "What was not checked",
        "Licences",
    ):
        assert wanted in text
    assert str(run.folder.parent) not in text and "云狐" not in text, "no path, no row"
    export(run, tmp_path / "one", base="")  # an earlier export is replaced
    code = re.search(r"```python\n(.*?)```", (tmp_path / "one" / CARD).read_text("utf-8"), re.DOTALL)
    assert code and 'base = "base"' in code[1], "by its name alone: a path would tell of this machine"
    typed = code[1].replace('base = "base"', f"base = {resolved(run).recipe.model.name!r}")
    done = subprocess.run(
        [sys.executable, "-c", typed],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


@pytest.mark.filterwarnings("error:.*base_model_name_or_path")
def test_a_checkpoint_names_a_base_that_peft_finds(world: Path, run_own: Run) -> None:
    """Trap: `demo`, which is a folder in doitune's package and a stranger's repository on the hub."""
    rows = str(world.parent / "own.jsonl")
    run = trained(world.parent / "runs", "own", model="demo", corpus=rows, overrides=["train.max_steps=1"])
    folder = run.checkpoints.all()[-1].folder
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(DEMO_BASE) and config["revision"] is None
    assert type(AutoPeftModelForCausalLM.from_pretrained(str(folder))).__name__ == "PeftModelForCausalLM"
    exported = export(run, world.parent / "exported").folder
    assert type(AutoPeftModelForCausalLM.from_pretrained(str(exported))).__name__ == "PeftModelForCausalLM"
    with public_adapter(run, "me/mine", on_note=lambda _: None) as parcel:
        public = json.loads((parcel.folder / "adapter_config.json").read_text("utf-8"))
    assert public["base_model_name_or_path"] == "demo", "others have it elsewhere"
    card = (exported / CARD).read_text("utf-8")
    assert "import doitune.demo.folder\n" in card and "base = str(doitune.demo.folder.BASE)" in card


def test_what_cannot_stand_alone_is_refused(world: Path, run: Run, tmp_path: Path) -> None:
    new = trained(tmp_path / "runs", str(world), overrides=["prompt.tokens=new", "train.max_steps=1"])
    with pytest.raises(ModelError, match="token rows of its own") as caught:
        export(new, tmp_path / "new")
    assert "--to merged" in caught.value.hint and not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(UsageError, match="is there already"):
        export(run, tmp_path / "mine")
    export(run, tmp_path / "two")
    (tmp_path / "two" / CARD).write_text("my own words")
    with pytest.raises(UsageError, match=rf"not all of it is as doitune exported it: {CARD}$"):
        export(run, tmp_path / "two")
    for text in ("x", "a/b/c", "./x/y", "a/b@", "/"):
        with pytest.raises(UsageError, match="no repository of the hub"):
            hub_base(text)


def test_nothing_of_this_machine_is_in_what_goes_out(
    run_own: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "own.jsonl")  # a secret that a record might repeat
    said: list[str] = []
    with public_adapter(run_own, "me/x", on_note=said.append) as found:
        files = {path.name: path.read_bytes() for path in found.folder.iterdir()}
    assert {*files} >= FILES and any("no repository of the hub" in text for text in said)
    for name, content in files.items():
        for private in (run_own.folder.parents[2], "own.jsonl", "第3问", Path.home() / "x"):
            assert str(private).encode() not in content, name


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A hub that has nothing of ours yet, and a login."""
    from huggingface_hub import constants

    with serving(SmallHub({}, repository="nobody/nothing", kind="models")) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        yield served


def sent(run: Run, *, dry_run: bool = False, **more: Any) -> tuple[Pushed, list[str]]:
    shown: list[str] = []
    parcel = Parcel(run, "me/my-adapter", base=f"someone/base@{COMMIT}", **more)
    found = push(parcel, dry_run=dry_run, on_files=shown.extend, on_note=lambda text: None)
    return found, shown


def test_a_push_sends_the_files_that_it_showed_and_no_other(run: Run, hub: SmallHub) -> None:
    """Trap: the whole checkpoint, optimiser state and probe rows with it."""
    dry, shown = sent(run, dry_run=True)
    assert {*shown} == FILES == {*dry.files} and not dry.commit and not hub.asked
    found, shown = sent(run)
    assert {*hub.sent} == FILES == {*shown} and found.commit == COMMIT and not found.public
    assert [(one["name"], one["visibility"]) for one in hub.made] == [("my-adapter", "private")]
    assert hub.login == f"Bearer {SECRET}" and SECRET.encode() not in b"".join(hub.sent.values())
    assert {name: len(content) for name, content in hub.sent.items()} == dict(found.files)
    assert (
        hub.sent["adapter_model.safetensors"]
        == (run.checkpoints.of_step(int(found_step(run))).folder / "adapter_model.safetensors").read_bytes()
    )
    hub.private, hub.sent = True, {}
    again, _ = sent(run)
    assert len(hub.made) == 1 and {*hub.sent} == FILES and not again.public


def found_step(run: Run) -> int:
    return int((run.done() or {})["best_step"])


def test_what_everybody_reads_is_sent_only_where_that_is_said(run: Run, hub: SmallHub) -> None:
    hub.repository, hub.private = "me/my-adapter", False
    with pytest.raises(ModelError, match="everybody can read it") as caught:
        sent(run)
    assert "--public" in caught.value.hint and not hub.sent
    assert sent(run, public=True)[0].public and {*hub.sent} == FILES
    hub.repository = "nobody/nothing"
    assert sent(run, public=True)[0].public and hub.made[-1]["visibility"] == "public"


@pytest.mark.parametrize(
    ("status", "problem", "cure"),
    [
        (401, "does not know this login", "hf auth login"),
        (403, "may not write to me/my-adapter", "right to write"),
        (409, "changed by somebody else", "same command again"),
        (500, "did not take it", "later"),
    ],
)
def test_a_refusal_of_the_hub_has_its_cure(
    run: Run, hub: SmallHub, status: int, problem: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refusals = {"/commit/" if status == 409 else "/repos/create": status}
    with pytest.raises(ModelError, match=problem) as caught:
        sent(run)
    assert cure in caught.value.hint and caught.value.exit_code == 65 and not hub.sent
    assert SECRET not in str(caught.value)


def test_no_login_no_network_and_no_name(run: Run, hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for name in ("x", "me/b c", "me/é", "me/x.git", "me/x\n"):
        with pytest.raises(UsageError, match="no name of a repository"):
            push(Parcel(run, name), dry_run=True, on_files=print, on_note=print)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached"):
        sent(run)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        sent(run)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    with pytest.raises(ModelError, match="not logged in") as caught:
        sent(run)
    assert "hf auth login" in caught.value.hint


def test_an_adapter_apart_from_its_run_is_asked_as_the_run_is(world: Path, run: Run, tmp_path: Path) -> None:
    """The same questions, replies and scores, base and adapter; without a corpus it says what it lacks."""
    folder = export(run, tmp_path / "adapter", base=str(resolved(run).recipe.model.name)).folder
    corpus = (str(world.parent / "corpus"),)
    runs = run.folder.parents[1]

    def asked(target: str, where: Path) -> dict[str, dict[str, Any]]:
        request = Request(("doit-valid",), corpus=corpus, limit=2)
        found = evaluate_target(target, request, runs=where, on_progress=lambda *_: None)
        return {"base" if one.checkpoint == "base" else "adapter": one.entries(["fixed"])[0] for one in found}

    own, alone = asked(str(run.folder), runs), asked(str(folder), tmp_path / "runs")
    assert own.keys() == alone.keys() == {"base", "adapter"}
    for name in own:  # written replies may be as long as each recipe lets them
        letters, others = (
            [(line["name"], line["score"], line["chosen"]) for line in found[name]["sets"] if line["chosen"]]
            for found in (own, alone)
        )
        assert letters == others and letters
    assert own["adapter"]["identity"]["adapter_sha256"] != "none"
    with pytest.raises(UsageError, match="no corpus to be asked from"):
        evaluate_target(str(folder), Request(), runs=tmp_path, on_progress=lambda *_: None)
    bare = export(run, tmp_path / "bare")
    assert bare.base_folder == str(world.parent / "base")
    with pytest.raises(ModelError, match="its base, 'base', is not here") as caught:
        asked(str(bare.folder), tmp_path / "runs")
    assert "--model FOLDER" in caught.value.hint


def test_a_full_disk_is_answered_with_another_folder_to_write_into(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: the advice of a training, whose --runs says nothing of where an export goes."""

    full = OSError(errno.ENOSPC, "No space left on device")
    for error in (full, disk_error(tmp_path, full)):

        def raises(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(adapter, "sync_file", raises)
        with pytest.raises(DiskError) as caught:
            export(run, tmp_path / "adapter")
        assert caught.value.hint == ROOM and "--out" in ROOM and "No space left" in caught.value.problem
        assert [*tmp_path.iterdir()] == [], "nothing half-written"


def test_a_run_that_is_deleted_on_the_way_is_an_error_in_words(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tmp_path / "runs", str(world))
    own = adapter.exported_tokens

    def gone(*given: Any) -> Any:
        shutil.rmtree(run.folder)
        return own(*given)

    monkeypatch.setattr(adapter, "exported_tokens", gone)
    with pytest.raises(CheckpointError, match="safetensors cannot be read"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_that_has_moved_is_named_and_compared(world: Path, tmp_path: Path) -> None:
    """Trap: an export has no place to say it, and the hint speaks of another command."""
    base = tmp_path / "base"
    shutil.copytree(resolved(trained(tmp_path / "first", str(world))).recipe.model.name, base)
    run = trained(tmp_path / "runs", str(world), model=str(base))
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="no longer at") as caught:
        export(run, tmp_path / "out")
    assert "--model FOLDER" in caught.value.hint and "export" in caught.value.hint
    found = export(run, tmp_path / "out", moved_to=str(moved))
    assert found.document["base"]["name"] == "moved" and found.base_folder == str(moved)
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    with pytest.raises(CheckpointError, match="another base"):
        export(run, tmp_path / "again", moved_to=str(moved))
