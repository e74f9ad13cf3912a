"""Shared starts of prompts: one run of a shared start says what each whole prompt says alone, on plain, grouped,
quantised and adapted models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_evals import examples, tiny

from doitune.backends.hf import load
from doitune.backends.loaded import LoadRequest
from doitune.backends.tokenizer import load_tokenizer
from doitune.base.find import find_base
from doitune.data.example import Message
from doitune.evals.ask import Kept, Limits, _positions, ask, ask_batch, cut
from doitune.evals.evaluate import evaluate
from doitune.evals.letters import bare_ids, one_each
from doitune.evals.prompts import prepare
from doitune.evals.suites import doit
from doitune.evals.task import Item, Reply, Task
from doitune.prompt.batch import MICRO_BATCH_COST_TOKENS
from doitune.prompt.encode import encode_question, option_ids
from doitune.prompt.template import open_template

LETTERS = ("A", "B", "C", "D")


def with_examples(
    count: int, sets: tuple[str, ...] = ("甲", "乙"), shots: int = 3, bare: bool = True
) -> list[Item]:
    """Letter questions of several sets; those of a set start with the same solved examples."""
    found = []
    for name in sets:
        for number in range(count):

            def question(kept: int, name: str = name, number: int = number) -> tuple[Message, ...]:
                start = f"{name}：" + "".join(f"例{n}{name}的答案是B。\n" for n in range(kept))
                return (Message("user", f"{start}第{number}题" + "长" * (number * 3 % 17)),)

            label = LETTERS[number % 4]
            item = Item(
                f"{name}#{number}",
                name,
                "single_choice",
                "letters",
                question(shots),
                label,
                LETTERS,
                shots=shots,
                fewer=question,
                bare=bare,
            )
            found.append(item)
    return found


def replies(model, template, items, limits) -> dict[str, Reply]:
    found = {
        item.id: reply
        for batch in ask(model, template, prepare(items, template, limits.context_tokens), limits)
        for item, reply in batch
    }
    assert len(found) == len(items) > 0
    return found


def best(reply: Reply) -> int:
    return max(range(len(reply.option_scores)), key=reply.option_scores.__getitem__)


@pytest.fixture(scope="module")
def loaded():
    return tiny()


@pytest.fixture(scope="module", params=["none", "nf4"])
def from_disk(request, tiny_base):
    """The tiny base as a run loads it, its LoRA adapter not zero."""
    model = load(LoadRequest(find_base(str(tiny_base)), quantise=request.param, rank=4, seed=1))
    generator = torch.Generator().manual_seed(3)
    for _, parameter in model.trainable():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    model.training(False)
    template = open_template(
        load_tokenizer(tiny_base), kind="doit", tokens="reuse", vocabulary_rows=model.head.vocabulary_rows
    )
    return model, template


def the_same(model, template, items) -> None:
    """Shared and alone agree, and the sharing did take place."""
    prompts = prepare(items, template)
    assert any(batch[0].shared for batch in cut(prompts, Limits(batch_tokens=2000)))
    together = replies(model, template, items, Limits(batch_tokens=2000))
    alone = replies(model, template, items, Limits(exact=True))
    for key, reply in together.items():
        assert best(reply) == best(alone[key])
        assert reply.option_scores == pytest.approx(alone[key].option_scores, abs=1e-4)
        assert reply.released_scores == pytest.approx(alone[key].released_scores, abs=1e-4)
        assert replace(reply, option_scores=(), released_scores=()) == replace(
            alone[key], option_scores=(), released_scores=()
        )


def test_a_shared_start_says_what_whole_prompts_say(loaded):
    """The tiny model has grouped heads and an adapter that isn't zero."""
    assert loaded[0].shares_prefix
    the_same(*loaded, with_examples(12))


def test_so_it_does_in_four_bits_with_an_adapter(from_disk):
    model, template = from_disk
    assert model.shares_prefix
    the_same(model, template, with_examples(10))
    with model.without_adapter():
        bare = replies(model, template, with_examples(3), Limits(exact=True))
    adapted = replies(model, template, with_examples(3), Limits(exact=True))
    assert any(
        abs(a - b) > 1e-3 for key in bare for a, b in zip(bare[key].option_scores, adapted[key].option_scores)
    )


def test_a_prefix_is_not_changed_by_what_follows_it(loaded):
    model, template = loaded
    prompts = next(
        batch
        for batch in cut(prepare(with_examples(12), template), Limits(batch_tokens=400))
        if batch[0].shared
    )
    kept = Kept()
    first = ask_batch(model, template, prompts, kept)
    (held,) = kept.prefixes.values()
    assert ask_batch(model, template, prompts, kept) == first, "the second use says the same"
    assert list(kept.prefixes.values()) == [held], "and was not run again"
    assert held.state.get_seq_length() == held.tokens == prompts[0].shared


def test_what_is_shared_is_the_longest_common_start_and_each_row_keeps_a_token(loaded):
    items = with_examples(12, sets=("甲",))
    items.append(replace(items[0], id="甲#again"))
    prompts = [prompt for batch in cut(prepare(items, loaded[1]), Limits()) for prompt in batch]
    (shared,) = {prompt.shared for prompt in prompts}
    assert len({prompt.ids[:shared] for prompt in prompts}) == 1
    assert all(len(prompt.ids) > shared for prompt in prompts)
    assert len({prompt.ids[: shared + 1] for prompt in prompts}) > 1, "a longer one is not common"
    same = cut(prepare([replace(items[0], id=str(n)) for n in range(9)], loaded[1]), Limits())
    assert same[0][0].shared == len(same[0][0].ids) - 1, "equal prompts keep their last token"


def test_little_is_not_shared_and_sets_are_then_asked_together(loaded):
    batches = cut(prepare(with_examples(2, shots=0), loaded[1]), Limits())
    assert [prompt.shared for batch in batches for prompt in batch] == [0] * 4 and len(batches) == 1
    assert not any(
        prompt.shared
        for batch in cut(prepare(with_examples(12), loaded[1]), Limits(exact=True))
        for prompt in batch
    )
    assert not any(
        prompt.shared
        for batch in cut(prepare(with_examples(12), loaded[1]), Limits(), shares=False)
        for prompt in batch
    )


def test_sets_too_small_for_a_start_of_their_own_go_on_from_what_all_begin_with(loaded, tmp_path):
    """Trap: `--limit 1` of CMMLU asks 67 sets, each of which starts like no other but for the template."""
    model, template = loaded
    sets = tuple("甲乙丙丁戊己庚辛")
    items = [
        replace(one, question=(Message("user", "以下是单项选择题，请直接给出正确答案。" + one.to_read),))
        for one in with_examples(1, sets=sets, shots=0)
    ]
    batches = cut(prepare(items, template), Limits(), cost_tokens=model.batch_cost_tokens)
    prompts = [prompt for batch in batches for prompt in batch]
    (shared,) = {prompt.shared for prompt in prompts}
    assert len(prompts) == len(sets) and shared > 0
    assert (
        len({prompt.ids[:shared] for prompt in prompts})
        == 1
        < len({prompt.ids[: shared + 1] for prompt in prompts})
    )
    one = Limits(exact=True)
    alone, together = replies(model, template, items, one), replies(model, template, items, Limits())
    for key, reply in together.items():
        assert reply.option_scores == pytest.approx(alone[key].option_scores, abs=1e-4)


def test_a_batch_costs_a_cpu_less_and_is_then_padded_less(loaded):
    prompts = prepare(with_examples(12, shots=0), loaded[1])
    few, many = (cut(prompts, Limits(), cost_tokens=cost) for cost in (1, MICRO_BATCH_COST_TOKENS))
    positions = [sum(_positions(batch) for batch in batches) for batches in (few, many)]
    assert positions[0] < positions[1] and len(few) > len(many)
    assert loaded[0].device.type == "cpu" and loaded[0].batch_cost_tokens < MICRO_BATCH_COST_TOKENS


def test_a_ranking_runs_its_question_once(loaded, monkeypatch):
    model, template = loaded
    ranked = [item for item in doit.task("doit-test", examples()).items if item.way == "rank"]
    items = [
        replace(item, question=(*item.question[:-1], Message("user", f"{item.id}背景。" * 12)))
        for item in ranked
    ]
    alone = replies(model, template, items, Limits(exact=True))
    read, after, real, loss = [], [], model.read, model.loss
    monkeypatch.setattr(model, "read", lambda ids: read.append(len(ids)) or real(ids))
    monkeypatch.setattr(model, "loss", lambda *asked: after.append(asked[2]) or loss(*asked))
    together = replies(model, template, items, Limits())
    assert len(read) == len(items)
    assert after and None not in after, "the whole question for every candidate"
    for key, reply in together.items():
        assert [one.tokens for one in reply.candidates] == [one.tokens for one in alone[key].candidates]
        assert [one.loss for one in reply.candidates] == pytest.approx(
            [one.loss for one in alone[key].candidates], abs=1e-3
        )


def test_memory_that_ran_out_once_is_remembered(loaded, monkeypatch):
    model, template = loaded
    items = with_examples(24, sets=("甲",))
    expected = replies(model, template, items, Limits(batch_tokens=400))
    batches = cut(prepare(items, template), Limits(batch_tokens=400))
    assert len(batches) > 2 and len(batches[0]) > 4
    sizes, real = [], model.logits

    def tight(batch, ids, prefix=None):
        sizes.append(batch.ids.numel())
        if sizes[-1] > 60:
            raise torch.OutOfMemoryError("too much")
        return real(batch, ids, prefix)

    monkeypatch.setattr(model, "logits", tight)
    kept = Kept()
    found = {item.id: reply for batch in batches for item, reply in ask_batch(model, template, batch, kept)}
    failures = [place for place, size in enumerate(sizes) if size > 60]
    assert failures and failures == list(range(len(failures))), f"later batches tried again: {sizes}"
    assert kept.most_positions < _positions(batches[0])
    assert {key: reply.prompt for key, reply in found.items()} == {
        key: reply.prompt for key, reply in expected.items()
    }
    for key, reply in found.items():
        assert reply.option_scores == pytest.approx(expected[key].option_scores, abs=1e-4)


def test_bare_letters_are_scored_from_the_same_forward(loaded):
    model, template = loaded
    item = with_examples(1)[0]
    assert bare_ids(LETTERS, template) == tuple(template.tokenizer.convert_tokens_to_ids(list(LETTERS)))
    reply = replies(model, template, [item], Limits())[item.id]
    with torch.no_grad():
        logits = model.base(torch.tensor([encode_question(item.question, template)])).logits[0, -1].float()
    assert reply.released_scores == pytest.approx(
        logits[list(bare_ids(LETTERS, template))].tolist(), abs=1e-4
    )
    assert reply.option_scores == pytest.approx(
        logits[list(one_each(option_ids(LETTERS, item.question, template)))].tolist(), abs=1e-4
    )
    assert Reply.from_json(reply.to_json()) == reply
    assert bare_ids(("A", "没有这个"), template) == ()


def test_paper_reads_the_bare_letters_and_fixed_those_that_were_taught(loaded, tmp_path, monkeypatch):
    """Bare letters that stand for other tokens give another answer: the report shows it, and the manifest
    says which tokens they were."""
    model, template = loaded
    taught = one_each(option_ids(LETTERS, (Message("user", "?"),), template))
    other = tuple(reversed(taught))
    monkeypatch.setattr("doitune.evals.letters.bare_ids", lambda letters, template: other)
    items = tuple(with_examples(10))
    report = evaluate(model, template, Task("cmmlu", items, shots=3), tmp_path, identity={"base": "tiny"})
    from doitune.evals.saved import read_lines, read_manifest

    lines = read_lines(tmp_path).values()
    assert len(lines) == len(items)
    for line in lines:
        assert line.reply.released_scores == tuple(reversed(line.reply.option_scores))
        assert "ABCD".index(line.verdicts["paper"].parsed) == 3 - "ABCD".index(line.verdicts["fixed"].parsed)
    assert report.table("paper").mean_as_released is None, "only the scorer of the ten abilities halves"
    manifest = read_manifest(tmp_path)
    assert manifest.option_ids == dict(zip(LETTERS, taught)) and manifest.bare_ids == dict(
        zip(LETTERS, other)
    )


def test_a_released_question_with_other_shots_is_asked_beside(loaded):
    model, template = loaded
    items = [
        replace(item, released=lambda count, item=item: (item.fewer(1), 1)) for item in with_examples(12)
    ]
    shared = {
        (prompt.shared, prompt.released_shared)
        for batch in cut(prepare(items, template), Limits())
        for prompt in batch
    }
    assert all(own > released > 0 for own, released in shared), (
        "each kind of prompt goes on from a start of its own"
    )
    asked = replies(model, template, items, Limits(batch_tokens=2000))
    own = replies(
        model,
        template,
        [replace(item, question=item.fewer(1), released=None) for item in items],
        Limits(exact=True),
    )
    whole = replies(model, template, [replace(item, released=None) for item in items], Limits(exact=True))
    for item in items:
        reply = asked[item.id]
        assert (reply.shots, reply.released_shots) == (3, 1)
        assert reply.option_scores == pytest.approx(whole[item.id].option_scores, abs=1e-4)
        assert reply.released_scores == pytest.approx(own[item.id].released_scores, abs=1e-4)
        assert reply.prompt != whole[item.id].prompt, "a reply to one question doesn't stand for both"
    tight = prepare(items[:1], template, len(encode_question(items[0].fewer(1), template)) - 1)[0]
    assert (tight.shots, tight.released_shots, len(tight.rows)) == (0, 0, 1), (
        "a released prompt over the context is not cut"
    )


def test_whole_batches_may_be_interrupted_between_shared_starts(loaded, tmp_path):
    """Five interruptions change no score, bit for bit: the batches and their prefixes depend on the
    questions alone."""
    task = Task("cmmlu", tuple(with_examples(30)), shots=3)
    limits = Limits(batch_tokens=200)
    whole = evaluate(*loaded, task, tmp_path / "whole", identity={"base": "tiny"}, limits=limits)
    calls = []

    class Interrupted(BaseException):
        pass

    def stop(progress):
        calls.append(progress)
        if len(calls) % 2 == 0 and len(calls) <= 10:
            raise Interrupted

    interruptions = 0
    for _ in range(6):
        try:
            parts = evaluate(
                *loaded, task, tmp_path / "parts", identity={"base": "tiny"}, limits=limits, on_progress=stop
            )
        except Interrupted:
            interruptions += 1
    assert interruptions == 5 and parts.tables == whole.tables
    lines = [
        sorted((tmp_path / name / "outcomes.jsonl").read_text("utf-8").splitlines())
        for name in ("whole", "parts")
    ]
    assert lines[0] == lines[1] and len(lines[0]) == len(task.items)
