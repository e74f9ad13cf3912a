"""Replies do not depend on what is asked beside them; where they would, every question is asked alone, and
the report says so."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_evals import examples, tiny

from doitune.data.example import Message
from doitune.errors import CheckpointError
from doitune.evals.ask import Limits, ask_batch
from doitune.evals.batching import QUESTIONS, Batching, _alike, _choose, compare_batching, read_batching
from doitune.evals.evaluate import evaluate, score_folder
from doitune.evals.evaluation import Evaluation
from doitune.evals.markdown import report_markdown
from doitune.evals.prompts import prepare
from doitune.evals.suites import doit
from doitune.run.layout import BATCHING, OUTCOMES

CAPS = {"math": 6, "tf": 6}
EACH = 6
ASKED = QUESTIONS + 2 * EACH
"""Written ones, letters, rankings."""
LIMITS = Limits(batch_tokens=4096)


def _task() -> Any:
    return doit.task("doit-test", examples(EACH), caps=CAPS)


def _run(model: Any, template: Any, folder: Any, limits: Limits = LIMITS) -> Any:
    return evaluate(model, template, _task(), folder, identity={"base": "tiny"}, limits=limits)


def _padded_on_the_right(model: Any) -> None:
    """A batch whose padding the model reads: what a wrong side or an ignored mask does. One question alone
    has no padding."""
    real = model.generate

    def generate(prompts: Any, **more: Any) -> Any:
        longest = max(len(prompt) for prompt in prompts)
        return real([(*prompt, *[7] * (longest - len(prompt))) for prompt in prompts], **more)

    model.generate = generate


def _texts(folder: Any) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / OUTCOMES).read_text("utf-8").splitlines()]
    return {line["id"]: line["reply"]["text"] for line in lines}


def test_sound_batches_give_the_replies_of_single_questions(tmp_path):
    model, template = tiny()
    report = _run(model, template, tmp_path / "a")
    assert read_batching(tmp_path / "a") == Batching(ASKED, ASKED, 0)
    assert report.batching == ""


def test_padding_that_is_read_is_found_and_every_question_is_asked_alone(tmp_path):
    """Trap: left padding that a kernel ignores in 4 bits; the scores of an evaluation then depend on its
    batches."""
    model, template = tiny()
    _run(model, template, tmp_path / "alone", Limits(exact=True))
    assert not (tmp_path / "alone" / BATCHING).exists()
    _padded_on_the_right(model)
    report = _run(model, template, tmp_path / "a")
    found = read_batching(tmp_path / "a")
    assert found is not None and found.parted and found.asked == ASKED
    assert _texts(tmp_path / "a") == _texts(tmp_path / "alone")
    assert "all were asked one at a time" in report.batching
    assert "all were asked one at a time" in report_markdown(report).replace("\\", "")
    assert score_folder(tmp_path / "a").batching == report.batching
    assert json.loads((tmp_path / "a" / "report.json").read_text("utf-8"))["batching"] == report.batching


def test_what_was_found_first_holds_for_the_rest_of_an_evaluation(tmp_path, monkeypatch):
    """Trap: an evaluation that is interrupted goes on the other way."""
    model, template = tiny()
    (tmp_path / BATCHING).write_text(
        json.dumps({"schema": "doitune.batching/1", "asked": 8, "same": 7, "ties": 0, "parted": ["x"]})
    )
    monkeypatch.setattr("doitune.evals.batching.compare_batching", lambda *_: pytest.fail("asked again"))
    real = model.generate
    sizes = []
    model.generate = lambda prompts, **more: sizes.append(len(prompts)) or real(prompts, **more)
    _run(model, template, tmp_path)
    assert set(sizes) == {1}


def test_a_tie_is_no_fault():
    """Two tokens as likely as each other part by rounding alone, on a card in half precision all the time;
    nothing is slowed down for that."""
    model, template = tiny()
    prompts = prepare(_task().items, template)
    head = model.base.get_output_embeddings()
    twin, other = 40, 41
    with torch.no_grad():
        head.weight[other] = head.weight[twin] = 0
    head.register_forward_hook(
        lambda module, args, logits: logits.index_fill(-1, torch.tensor([twin, other]), 1e3)
    )
    real = model.generate

    def generate(asked: Any, **more: Any) -> Any:
        replies = real(asked, **more)
        if len(asked) == 1:
            return replies
        return [
            type(one)(
                tuple(other if token == twin else token for token in one.ids), one.stopped, one.first_scores
            )
            for one in replies
        ]

    model.generate = generate
    found, _ = compare_batching(model, template, prompts, 4096)
    assert (found.asked, found.same, found.ties, found.parted) == (ASKED, 2 * EACH, QUESTIONS, ())
    assert (
        found.text == f"{ASKED} questions asked together and one at a time: {2 * EACH} replies are the same, "
        f"{QUESTIONS} part at a tie"
    )


def test_a_reply_that_goes_on_where_the_other_ends_is_a_fault():
    model, template = tiny()
    prompts = prepare(_task().items, template)
    model.base.get_output_embeddings().register_forward_hook(
        lambda module, args, logits: logits.index_fill(-1, torch.tensor(50), 1e3)
    )
    real = model.generate

    def generate(asked: Any, **more: Any) -> Any:
        replies = real(asked, **more)
        return (
            replies
            if len(asked) == 1
            else [type(one)(one.ids[:1], True, one.first_scores) for one in replies]
        )

    model.generate = generate
    assert len(compare_batching(model, template, prompts, 4096)[0].parted) == QUESTIONS


def test_the_questions_fit_a_batch_of_the_evaluation_and_are_of_all_lengths():
    model, template = tiny()
    prompts = prepare(doit.task("doit-test", examples(20), caps=CAPS).items, template)
    asked: list[int] = []
    real = model.generate
    model.generate = lambda some, **more: asked.extend(map(len, some)) or real(some, **more)
    compare_batching(model, template, prompts, 10_000)
    together = asked[:QUESTIONS]
    assert max(together) - min(together) > 100
    asked.clear()
    compare_batching(model, template, prompts, 500)
    assert len(asked) >= 4 and max(asked) * QUESTIONS <= 500
    assert (
        compare_batching(model, template, prompts, 10)
        == compare_batching(model, template, [], 10_000)
        == (Batching(0, 0, 0), [])
    )


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "other"}', '{"schema": "doitune.batching/1", "asked": 8}']
)
def test_a_broken_record_is_named(tmp_path, text):
    (tmp_path / BATCHING).write_text(text)
    with pytest.raises(CheckpointError, match=r"batching\.json cannot be read"):
        read_batching(tmp_path)


def test_a_score_says_whose_it_is(tmp_path):
    """Trap: best and last mixed up. Every line carries the hash of who was asked, the report and each
    entry of --json all of it."""
    model, template = tiny()
    report = _run(model, template, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / OUTCOMES).read_text("utf-8").splitlines()]
    assert len({line["model"] for line in lines}) == 1 and all(len(line["document"]) == 16 for line in lines)
    (entry,) = Evaluation("x", "step-000001", report).entries(("fixed",))
    assert (
        entry["identity"] == {"base": "tiny"}
        and len(entry["fingerprint"]) == 64
        and len(entry["document"]) == 16
    )


def test_a_set_whose_replies_often_cannot_be_read_is_marked():
    from doitune.evals.report import Outcome, score_set

    def of(unread: int) -> Any:
        return score_set(
            "x", [Outcome(str(n), "x", 0.0 if n < unread else 1.0, 0.5, read=n >= unread) for n in range(100)]
        )

    assert not of(2).unread_marked and of(3).unread_marked


def _reads_its_neighbours(model: Any, name: str) -> None:
    """What a row's scores are in a batch of several: those of the row before it."""
    real = getattr(model, name)

    def rolled(batch: Any, *more: Any, **words: Any) -> Any:
        found = real(batch, *more, **words)
        if name == "logits":
            return found.roll(1, 0)
        return replace(found, sums=found.sums.roll(1, 0))

    setattr(model, name, rolled)


@pytest.mark.parametrize(("way", "name"), [("letters", "logits"), ("rank", "loss")])
def test_scores_that_depend_on_their_neighbours_are_found_in_every_way_of_asking(way: str, name: str) -> None:
    """Trap: CMMLU and AGIEval ask by letters alone, and a batch of letters was trusted unseen."""
    model, template = tiny()
    prompts = [one for one in prepare(_task().items, template) if one.item.way == way]
    assert len(prompts) == EACH
    assert compare_batching(model, template, prompts, 4096)[0] == Batching(EACH, EACH, 0)
    _reads_its_neighbours(model, name)
    found, _ = compare_batching(model, template, prompts, 4096)
    assert set(found.parted) == {one.item.id for one in prompts}


def test_scored_questions_are_compared_where_that_is_little_work() -> None:
    """Trap: eight rows as wide as the longest question take longer than the rest of a small evaluation; and
    one short question leaves too few near it."""
    template = tiny()[1]
    letters = [one for one in prepare(_task().items, template) if one.item.way == "letters"]
    made = [replace(letters[0], length=100 + place) for place in range(60)] + [
        replace(letters[0], length=500) for _ in range(40)
    ]
    chosen = _choose(made, "letters", 100_000)
    assert [chosen[0].length, chosen[-1].length] == [100, 150] and len(chosen) == QUESTIONS
    short = _choose([replace(letters[0], length=10), *made], "letters", 100_000)
    assert len(short) == QUESTIONS and short[-1].length == 106


def test_a_start_that_letters_share_is_compared_with_whole_questions() -> None:
    """Trap: keys and values of a shared start that are off by a position."""
    model, template = tiny()
    long = "下面是一道很长的开头。" * 40
    items = [
        replace(one, question=(Message("user", long + one.question[-1].content),))
        for one in _task().items
        if one.way == "letters"
    ]
    prompts = prepare(items, template)
    run = _positions_run(model)
    assert compare_batching(model, template, prompts, 100_000)[0] == Batching(EACH, EACH, 0)
    assert sum(run) < 4 * max(len(one.ids) for one in prompts), "each long start was run again"
    real = model.read
    model.read = lambda ids: real((*ids[1:], ids[0]))  # type: ignore[method-assign]
    assert len(compare_batching(model, template, prompts, 100_000)[0].parted) == 1
    model.compute_dtype = "bfloat16"
    run.clear()
    compare_batching(model, template, prompts, 100_000)
    assert sum(run) > EACH * min(len(one.ids) for one in prompts), "a best option alone proves no start"


def _positions_run(model: Any) -> list[int]:
    """Filled with the positions of every batch that the decoder runs."""
    run: list[int] = []
    model.decoder.register_forward_pre_hook(
        lambda module, args, words: run.append(words["input_ids"].numel()), with_kwargs=True
    )
    return run


def test_letters_of_sets_with_a_question_each_are_compared() -> None:
    """Trap: `--limit 1` of CMMLU: 67 sets share their batches, and none has two questions to compare."""
    model, template = tiny()
    letters = [one for one in prepare(_task().items, template) if one.item.way == "letters"]
    apart = [replace(one, item=replace(one.item, set=f"set {place}")) for place, one in enumerate(letters)]
    assert compare_batching(model, template, apart, 4096)[0] == Batching(EACH, EACH, 0)
    _reads_its_neighbours(model, "logits")
    assert len(compare_batching(model, template, apart, 4096)[0].parted) == EACH


def test_in_half_precision_the_best_option_decides() -> None:
    """Rounding moves every score there; only another choice that is no tie is a fault."""
    assert _alike([(1.0, 0.2)], [(1.4, 0.3)], "bfloat16") == "same"
    assert _alike([(1.0, 0.9)], [(0.95, 1.1)], "bfloat16") == "tie"
    assert _alike([(1.0, 0.2)], [(0.3, 0.9)], "bfloat16") == "parted"
    assert _alike([(1.0, 0.2)], [(1.4, 0.3)], "float32") == "parted"
    assert _alike([(1.0, 0.2)], [(float("nan"), 0.2)], "float32") == "parted"


def test_what_the_proof_asked_together_is_not_asked_again(tmp_path, monkeypatch):
    """Of scored questions the replies are whole; those of an older version's proof were not kept."""
    model, template = tiny()
    times: Counter[str] = Counter()

    def counting(model_: Any, template_: Any, batch: Any, *more: Any) -> Any:
        times.update(one.item.id for one in batch)
        return ask_batch(model_, template_, batch, *more)

    monkeypatch.setattr("doitune.evals.batching.ask_batch", counting)
    monkeypatch.setattr("doitune.evals.ask.ask_batch", counting)
    scored = [one.id for one in _task().items if one.way != "write"]
    _run(model, template, tmp_path / "new")
    assert len(scored) == 2 * EACH and all(times[name] == 2 for name in scored), "together and alone"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / BATCHING).write_bytes((tmp_path / "new" / BATCHING).read_bytes())
    times.clear()
    _run(model, template, tmp_path / "old")
    assert set(times) == {one.id for one in _task().items} and set(times.values()) == {1}


def test_an_evaluation_that_is_killed_after_its_proof_ends_with_the_same_bytes(tmp_path, monkeypatch):
    model, template = tiny()
    _run(model, template, tmp_path / "whole")
    with monkeypatch.context() as until_then:
        until_then.setattr("doitune.evals.evaluate._batches", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _run(model, template, tmp_path / "cut")
    (tmp_path / "cut" / BATCHING).unlink()  # the replies are written first
    _run(model, template, tmp_path / "cut")
    assert (tmp_path / "cut" / OUTCOMES).read_bytes() == (tmp_path / "whole" / OUTCOMES).read_bytes()


def test_progress_counts_what_the_proof_answers(tmp_path):
    """Trap: an evaluation that the proof answers whole, and nobody hears of it."""
    model, template = tiny()
    letters = replace(_task(), items=tuple(one for one in _task().items if one.way == "letters"))
    heard: list[int] = []
    evaluate(
        model,
        template,
        letters,
        tmp_path,
        identity={"base": "tiny"},
        limits=LIMITS,
        on_progress=lambda progress: heard.append(progress.done),
    )
    assert heard == [EACH]
