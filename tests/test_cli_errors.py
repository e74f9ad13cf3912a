"""What a user does wrong is answered by one clear message, the right exit code and no traceback (issue 2,
last line)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import HANGS

from doitune.__main__ import main


@dataclass(frozen=True)
class World:
    """A recipe, a base and a corpus that a test may spoil, under one folder."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def recipe(self) -> Path:
        return self.root / "mine.yaml"

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text, "the spoiling must spoil something"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path, tiny_base: Path, tiny_corpus: Path, tiny_recipe: Path) -> World:
    made = World(tmp_path / "a world")
    made.root.mkdir()
    shutil.copytree(tiny_base, made.base)
    shutil.copytree(tiny_corpus, made.corpus)
    text = (
        tiny_recipe.read_text(encoding="utf-8")
        .replace(str(tiny_base), str(made.base))
        .replace(str(tiny_corpus), str(made.corpus))
    )
    made.recipe.write_text(text, encoding="utf-8")
    return made


@dataclass(frozen=True)
class Said:
    """What a command left."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Said:
    """A command in this process: what is not a user's error escapes and fails the test with its traceback."""
    monkeypatch.setattr(sys, "argv", ["doitune", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr()
    code = caught.value.code
    return Said(code if isinstance(code, int) else 0, shown.out, shown.err)


def assert_clear(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    assert said.out == ""
    assert said.err.count("error: ") == 1, said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, f"{word!r} is not in {said.err!r}"


def train(world: World, *more: str) -> list[str]:
    return ["train", str(world.recipe), "--runs", str(world.root / "runs"), *more]


# Spoilt worlds: how, exit code, words of the message


def _unknown_field(world: World) -> None:
    world.edit(world.recipe, "  rank: 4", "  rnk: 4")


def _bad_value(world: World) -> None:
    world.edit(world.recipe, "learning_rate: 1e-2", "learning_rate: fast")


def _bad_role(world: World) -> None:
    world.edit(
        world.corpus / "curated" / "1000" / "math_1000.json", '"role": "assistant"', '"role": "assitant"'
    )


def _torn_row(world: World) -> None:
    path = world.corpus / "curated" / "1000" / "math_1000.json"
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")


def _missing_file(world: World) -> None:
    (world.corpus / "curated" / "1000" / "math_1000.json").unlink()


def _missing_corpus(world: World) -> None:
    shutil.rmtree(world.corpus)


def _empty_corpus(world: World) -> None:
    paths = list((world.corpus / "curated" / "1000").glob("*.json"))
    assert paths
    for path in paths:
        path.write_text("")


def _no_layout(world: World) -> None:
    shutil.rmtree(world.corpus / "curated")


def _forged_turn(world: World) -> None:
    path = world.corpus / "curated" / "1000" / "math_1000.json"
    path.write_text(path.read_text(encoding="utf-8").replace("+1=?", "+1=?</s>"), encoding="utf-8")


def _no_weights(world: World) -> None:
    (world.base / "model.safetensors").unlink()


def _cut_weights(world: World) -> None:
    path = world.base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _no_tokenizer(world: World) -> None:
    (world.base / "tokenizer.json").unlink()


def _broken_tokenizer(world: World) -> None:
    (world.base / "tokenizer.json").write_text("{")


def _unlawful_template(world: World) -> None:
    (world.base / "chat_template.jinja").write_text(
        "{{ messages | length }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    world.edit(world.recipe, "train:\n", "prompt:\n  template: model\ntrain:\n")


def _too_many_asked(world: World) -> None:
    world.edit(world.recipe, "math: 8", "math: 4000")


def _too_long(world: World) -> None:
    world.edit(world.recipe, "max_tokens: 256", "max_tokens: 20")


SPOILT: dict[str, tuple[Callable[[World], None], int, tuple[str, ...]]] = {
    "unknown field": (_unknown_field, 65, ("mine.yaml:5", "lora.rnk", "did you mean `rank`")),
    "bad value": (_bad_value, 65, ("mine.yaml:", "learning_rate", "fast")),
    "bad role": (_bad_role, 65, ("math_1000.json:1", "assitant")),
    "torn row": (_torn_row, 65, ("math_1000.json:40",)),
    "missing corpus file": (_missing_file, 65, ("math",)),
    "missing corpus": (_missing_corpus, 65, ("corpus",)),
    "empty corpus": (_empty_corpus, 65, ()),
    "no layout": (_no_layout, 65, ("corpus",)),
    "forged turn": (_forged_turn, 65, ("math_1000.json:", "</s>")),
    "no weights": (_no_weights, 65, ("holds no weights", "model.safetensors")),
    "cut weights": (_cut_weights, 65, ("not a whole safetensors file", "model.safetensors")),
    "no tokenizer": (_no_tokenizer, 65, ("holds no tokenizer",)),
    "broken tokenizer": (_broken_tokenizer, 65, ("tokenizer", "cannot be loaded")),
    "unlawful template": (_unlawful_template, 65, ("breaks the law", "prompt.template=doit")),
    "budget not met": (_too_many_asked, 65, ("math", "4,000", "40")),
    "rows too long": (_too_long, 65, ("more than train.max_tokens 20", "on_overlong=drop")),
}


@pytest.mark.parametrize("name", list(SPOILT))
def test_a_spoilt_world_is_one_clear_message(
    name: str, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, code, words = SPOILT[name]
    spoil(world)
    said = run(capsys, monkeypatch, *train(world))
    assert said.code == code, said.err
    assert said.out == "" and "Traceback" not in said.err
    assert 1 <= said.err.count("error: ") <= 6, said.err  # several rows of one kind may be named
    for word in words:
        assert word in said.err, said.err
    assert not list((world.root / "runs").glob("*/*/recipe.yaml")), "a refused training leaves no run behind"


@pytest.mark.parametrize(
    "name", ["unknown field", "bad role", "empty corpus", "no weights", "unlawful template"]
)
def test_a_spoilt_world_is_one_json_document(
    name: str, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, code, words = SPOILT[name]
    spoil(world)
    said = run(capsys, monkeypatch, *train(world, "--json"))
    document = json.loads(said.out)
    assert said.code == code
    assert next(iter(document)) == "schema" and document["schema"] == "doitune.error/1"
    assert document["kind"] in {"recipe", "data", "model"} and document["problem"]
    assert document["hint"] or "did you mean" in document["problem"], "an error names its cure"
    text = json.dumps(document, ensure_ascii=False)
    assert all(word in text for word in words)
    assert "error:" not in said.err and "Traceback" not in said.err


# The disk


def test_no_room_is_told_before_the_model_is_loaded(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.system import disk

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))
    assert_clear(run(capsys, monkeypatch, *train(world)), 74, "MiB free", "--runs")


def test_a_disk_that_fills_up_stops_the_run_and_keeps_it_resumable(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room at the start and none at the second checkpoint."""
    from doitune.run.find import list_runs
    from doitune.run.folder import Run
    from doitune.system import disk
    from doitune.train import retention

    real = retention.save_checkpoint

    def full(run: Run, step: int, fill: Callable[[Path], None], wanted_bytes: int = 0) -> object:
        def fill_up(folder: Path) -> None:
            fill(folder)
            if step > 1:
                raise OSError(28, "No space left on device")

        return real(run, step, fill_up, wanted_bytes)

    monkeypatch.setattr(retention, "save_checkpoint", full)
    said = run(capsys, monkeypatch, *train(world))
    assert said.code == 74 and "No space left on device" in said.err and "Traceback" not in said.err
    assert disk.shutil is shutil
    (left,) = list_runs(world.root / "runs")
    assert [found.step for found in left.checkpoints.all()] == [1]
    assert left.checkpoints.of_step(1).verify() == []
    monkeypatch.setattr(retention, "save_checkpoint", real)
    assert run(capsys, monkeypatch, "resume", "last", "--runs", str(world.root / "runs")).code == 0
    assert left.done() is not None


def test_a_runs_folder_that_cannot_be_written(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "runs").write_text("a file")
    assert_clear(run(capsys, monkeypatch, *train(world)), 74, "cannot write in", "--runs")


# Names and the command line

NAMES: dict[str, tuple[list[str], int, tuple[str, ...]]] = {
    "unknown recipe": (["train", "no-such-recipe"], 65, ("no-such-recipe",)),
    "near recipe": (["train", "dmeo"], 65, ("demo",)),
    "unknown field on the command line": (["train", "demo", "--set", "lora.rnk=3"], 65, ("rnk", "rank")),
    "set without a value": (["train", "demo", "--set", "lora.rank"], 2, ("lora.rank",)),
    "unknown run": (["resume", "no-such-run", "--runs", "nowhere"], 2, ("no-such-run",)),
    "no run at all": (["eval", "last", "--runs", "nowhere"], 2, ("there is no run under",)),
    "unknown target": (["eval", "no-such-thing", "--runs", "nowhere"], 2, ("no-such-thing",)),
    "unknown option": (["train", "demo", "--fast"], 2, ("--fast",)),
    "unknown command": (["trian"], 2, ("trian",)),
    "missing argument": (["train"], 2, ("recipe",)),
    "not a number": (["eval", "last", "--limit", "few"], 2, ("--limit",)),
}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", list(NAMES))
def test_wrong_names_and_options(
    name: str,
    as_json: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments, code, words = NAMES[name]
    monkeypatch.chdir(tmp_path)
    said = run(capsys, monkeypatch, *arguments, *(["--json"] if as_json else []))
    assert "Traceback" not in said.err
    if as_json:
        document = json.loads(said.out)
        assert said.code == code and document["schema"] == "doitune.error/1"
        assert all(word.lower() in json.dumps(document, ensure_ascii=False).lower() for word in words), (
            document
        )
    else:
        assert said.code == code, said.err
        assert said.err.count("error: ") == 1 and said.out == "", (said.err, said.out)
        assert all(word.lower() in said.err.lower() for word in words), said.err
    assert not list(tmp_path.iterdir()), "a wrong name leaves nothing behind"


def test_an_unknown_model(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_clear(run(capsys, monkeypatch, *train(world, "--model", "./no-such-folder")), 65, "no-such-folder")


def test_a_backend_that_this_machine_cannot_use(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_clear(run(capsys, monkeypatch, *train(world, "--set", "model.backend=unsloth")), 78, "unsloth")


def test_packing_that_is_asked_for_and_not_exact(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.train import arrangement as room
    from doitune.train.packing import PackingProof

    monkeypatch.setattr(
        room, "prove_packing", lambda model, encoded: PackingProof(False, 1.0, 1.0, 1e-4, "planted")
    )
    said = run(capsys, monkeypatch, *train(world, "--set", "train.arrangement=packed"))
    assert said.code == 78 and "planted" in said.err and "train.arrangement=auto" in said.err


def test_a_real_process_says_the_same(world: World) -> None:
    """Through the installed entry point: nothing else on stdout, no traceback, the exit code of the shell."""
    _no_weights(world)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NO_COLOR": "1"}
    for more in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "doitune", *train(world, *more)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=HANGS,
            check=False,
        )
        assert done.returncode == 65, done.stderr
        assert "Traceback" not in done.stderr
        if more:
            assert "holds no weights" in json.loads(done.stdout)["problem"]
        else:
            assert (
                done.stdout == "" and done.stderr.count("error: ") == 1 and "holds no weights" in done.stderr
            )


def test_a_bug_of_ours_keeps_its_traceback(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a handler that hides every error also hides ours."""
    from doitune.train import session

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(session, "plan_training", broken)
    monkeypatch.setattr(sys, "argv", ["doitune", *train(world)])
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr().err
    assert (
        left.value.code == 70
        and "Traceback" in shown
        and "ZeroDivisionError: ours" in shown
        and "this is a bug in doitune" in shown
    )


def test_a_librarys_known_error_is_a_sentence(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.train import session

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore lines")

    monkeypatch.setattr(session, "plan_training", broken)
    monkeypatch.setattr(sys, "argv", ["doitune", *train(world)])
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr().err
    assert left.value.code == 78 and "Traceback" not in shown and "no code for the card" in shown
    assert "hint: " in shown and "more lines" not in shown


@pytest.mark.parametrize("command", ["chat --prompt x", "serve", "eval"])
def test_a_file_for_llama_cpp_is_no_run_that_was_not_found(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trap: who has exported to GGUF is told that no run has this name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "model-f16.gguf").touch()
    for target in ("gguf", "gguf/model-f16.gguf"):
        said = run(capsys, monkeypatch, *command.split(), target)
        assert said.code == 2 and "is for llama.cpp" in said.err and "README.md" in said.err
