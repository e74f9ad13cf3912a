"""Asking: a batch says what one question alone says, whatever is padded beside it; nothing is cut in
silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_evals import examples, tiny, with_shots

from doitune.data.example import Message
from doitune.errors import FitError
from doitune.evals.ask import Limits, ask, ask_batch, cut
from doitune.evals.prompts import prepare
from doitune.evals.reading.answers import judge_reply
from doitune.evals.suites import doit
from doitune.evals.task import Reply
from doitune.prompt.batch import pad
from doitune.prompt.encode import encode, encode_question
from doitune.prompt.encoded import IGNORED, Encoded

CAPS = {"math": 6, "tf": 4, "single_choice": 4}


@pytest.fixture(scope="module")
def loaded():
    return tiny()


def answers(model, template, items, limits) -> dict[str, Reply]:
    found = [pair for batch in ask(model, template, prepare(items, template), limits) for pair in batch]
    assert len(found) == len(items)
    return {item.id: reply for item, reply in found}


@pytest.mark.parametrize("choice", ["letters", "write"])
def test_a_batch_says_what_each_question_says_alone(loaded, choice):
    items = doit.task("doit-test", examples(), choice=choice, caps=CAPS).items
    together = answers(*loaded, items, Limits(batch_tokens=1000))
    alone = answers(*loaded, items, Limits(exact=True))
    assert set(together) == {item.id for item in items}
    for key, reply in together.items():
        assert reply.text == alone[key].text and reply.stopped == alone[key].stopped
        assert reply.option_scores == pytest.approx(alone[key].option_scores, abs=1e-4)
        assert [one.tokens for one in reply.candidates] == [one.tokens for one in alone[key].candidates]
        assert [one.loss for one in reply.candidates] == pytest.approx(
            [one.loss for one in alone[key].candidates], abs=1e-3
        )


def test_letters_are_scored_by_the_tokens_that_encode_teaches(loaded):
    model, template = loaded
    item = doit.task("doit-test", examples()).items[0]
    reply = answers(model, template, [item], Limits())[item.id]
    prompt = encode_question(item.question, template)
    with torch.no_grad():
        logits = model.base(torch.tensor([prompt])).logits[0, -1].float()
    taught = [
        encode((*item.question, Message("assistant", letter)), template).ids[len(prompt)]
        for letter in item.options
    ]
    assert len(set(taught)) == 4
    assert reply.option_scores == pytest.approx([logits[token].item() for token in taught], abs=1e-4)


def test_written_choices_keep_the_first_steps_scores(loaded):
    items = [
        item for item in doit.task("doit-test", examples(), choice="write", caps=CAPS).items if item.options
    ]
    written, ranked = (
        answers(*loaded, items, Limits()),
        answers(*loaded, [replace(one, way="letters") for one in items], Limits()),
    )
    for key, reply in written.items():
        gaps = [a - b for a, b in zip(reply.option_scores, ranked[key].option_scores, strict=True)]
        assert max(gaps) - min(gaps) < 1e-3  # log-probabilities against logits: one constant apart


def test_paper_reads_a_written_choice_by_its_last_steps_scores_and_fixed_by_its_first(loaded):
    """The released code returns the last step's scores; they decide wherever the reply is not exactly one
    character."""
    items = [
        item
        for item in doit.task("doit-test", examples(), choice="write", caps=CAPS).items
        if item.form == "single_choice"
    ]
    replies = answers(*loaded, items, Limits())
    assert items and any(reply.released_scores != reply.option_scores for reply in replies.values())
    for item in items:
        reply = replace(
            replies[item.id],
            text="看不出来",
            option_scores=(4.0, 3.0, 2.0, 1.0),
            released_scores=(1.0, 2.0, 3.0, 4.0),
        )
        assert (
            judge_reply(item, reply, "paper").parsed == "D"
            and judge_reply(item, reply, "fixed").parsed == "A"
        )


def test_ranking_is_the_candidates_own_losses_and_no_earlier_turns(loaded):
    model, template = loaded
    item = next(item for item in doit.task("doit-test", examples()).items if item.way == "rank")
    reply = answers(model, template, [item], Limits())[item.id]
    start = len(encode_question(item.question, template))
    for choice, candidate in zip(item.choices, reply.candidates, strict=True):
        whole = encode((*item.question, Message("assistant", choice)), template)
        with torch.no_grad():
            logits = model.base(torch.tensor([whole.ids])).logits[0].float()
        targets = torch.tensor(whole.ids[start:])
        loss = torch.nn.functional.cross_entropy(logits[start - 1 : -1], targets, reduction="sum").item()
        assert candidate.tokens == len(targets) and whole.ids[-1] in template.stop_ids
        assert candidate.loss == pytest.approx(loss, abs=1e-3)
    assert (
        encode((*item.question, Message("assistant", "甲")), template).labels[:start] != (IGNORED,) * start
    ), "the trap: earlier turns"


def test_out_of_memory_halves_the_batch_and_goes_on(loaded, monkeypatch):
    model, template = loaded
    items = [item for item in doit.task("doit-test", examples(8)).items if item.way == "letters"]
    expected = answers(model, template, items, Limits())
    sizes, real = [], model.logits

    def tight(batch, token_ids, prefix):
        sizes.append(len(batch.lengths))
        if len(batch.lengths) > 1:
            raise torch.OutOfMemoryError("too much")
        return real(batch, token_ids, prefix)

    monkeypatch.setattr(model, "logits", tight)
    found = answers(model, template, items, Limits())
    assert sizes[0] > 1 and min(sizes) == 1
    assert {key: one.prompt for key, one in found.items()} == {
        key: one.prompt for key, one in expected.items()
    }
    monkeypatch.setattr(model, "logits", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(FitError, match="no memory for one question"):
        answers(model, template, items[:1], Limits())


def test_batches_keep_to_the_budget_and_start_with_the_longest(loaded):
    prompts = prepare(doit.task("doit-test", examples(12)).items, loaded[1])
    batches = cut(prompts, Limits(batch_tokens=700))
    assert sum(len(batch) for batch in batches) == len(prompts)
    for batch in batches:
        rows = sum(len(prompt.rows) for prompt in batch)
        assert len(batch) == 1 or rows * max(prompt.length for prompt in batch) <= 700
        assert len({(prompt.item.way, prompt.item.max_new_tokens) for prompt in batch}) == 1
    letters = [batch[0].length for batch in batches if batch[0].item.way == "letters"]
    assert letters == sorted(letters, reverse=True)


def test_a_long_prompt_loses_shots_and_is_never_cut(loaded):
    template = loaded[1]
    item = with_shots(3)
    whole, one, none = (prepare([item], template, size)[0] for size in (4096, 80, 3))
    assert (whole.shots, whole.too_long) == (3, False)
    assert (
        one.shots in (1, 2)
        and one.ids == encode_question(item.fewer(one.shots), template)
        and one.length <= 80
    )
    assert none.too_long and none.reply().too_long
    bare = prepare([replace(item, fewer=None)], template, 80)[0]
    assert bare.too_long, "without fewer shots to fall back on it is refused, not cut"
    asked = [pair for batch in ask(*loaded, [none], Limits()) for pair in batch]
    assert asked == [(item, none.reply())]


def test_padding_bare_prompts_needs_no_labels():
    batch = pad([Encoded((1, 2), (IGNORED,) * 2), Encoded((3,), (IGNORED,))], pad_id=9)
    assert batch.ids.tolist() == [[1, 2], [3, 9]] and batch.lengths == (2, 1)


def test_one_batch_holds_one_way(loaded):
    prompts = prepare(doit.task("doit-test", examples()).items, loaded[1])
    for batch in cut(prompts, Limits()):
        assert [item.id for item, _ in ask_batch(*loaded, batch)] == [prompt.item.id for prompt in batch]
