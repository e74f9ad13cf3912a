"""What a preview shows is what the model is given: nothing of a row is missing, added, or shown as trained
that is not."""

from __future__ import annotations

import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from doitune.backends.tokenizer import tokenizer_template
from doitune.data.example import Message
from doitune.errors import UsageError
from doitune.prepare.preview import Piece, Row, cut, preview
from doitune.prompt.encode import encode, encode_question
from doitune.prompt.template import Template, open_template
from doitune.recipe.resolve import resolve

BASICS = ["<unk>", "<s>", "</s>", "<free_a>", "<free_b>"]


def level() -> PreTrainedTokenizerFast:
    """Byte-level: a token is a byte, but for merges across and inside of characters and one that starts
    with a space."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("ł", "ä"),
        ("ä", "½"),
        ("Ġ", "t"),
        ("Ġt", "h"),
    ]  # the last byte of 怠 with the first of 你; the first two of 你
    vocabulary = {
        name: number for number, name in enumerate([*BASICS, *alphabet, *(a + b for a, b in merges)])
    }
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return _wrapped(made)


def pieces() -> PreTrainedTokenizerFast:
    """As LLaMA's: spaces are ▁, one is put before a text and dropped from it again, unknown characters
    fall back to bytes."""
    known = ["▁", "你", "好", "t", "h", "e", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: number for number, name in enumerate([*BASICS, *known])}
    made = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    return _wrapped(made)


def _wrapped(made: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=BASICS[3:],
    )


def doit(tokenizer: PreTrainedTokenizerFast, tokens: str = "reuse") -> Template:
    return open_template(tokenizer, kind="doit", tokens=tokens, vocabulary_rows=len(tokenizer))


def chatml(tokenizer: PreTrainedTokenizerFast) -> Template:
    """A template of the base's own, whose header is text and stands right before the answer."""
    tokenizer.chat_template = "{% for m in messages %}<free_a>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<free_a>assistant\n{% endif %}"
    return open_template(tokenizer, kind="model", tokens="reuse", vocabulary_rows=len(tokenizer))


TEMPLATES = {
    "level": doit(level()),
    "pieces": doit(pieces()),
    "new rows": doit(level(), "new"),
    "level, the base's own template": chatml(level()),
    "pieces, the base's own template": chatml(pieces()),
}
TALK = (
    Message("user", "怠你好 the\n the?"),
    Message("assistant", "你 the 😀"),
    Message("user", "𠮷\ufffd é"),
    Message("assistant", "A"),
)
texts = st.text(
    st.characters(codec="utf-8", exclude_characters="▁", exclude_categories=("Cc", "Cs")),
    min_size=1,
    max_size=12,
)
said = texts.map(str.strip).filter(lambda text: text and not any(name in text for name in BASICS))
"""What people say; the name of a control token is refused."""


def shown(template: Template, messages: tuple[Message, ...]) -> list[Piece]:
    return list(cut(encode(messages, template), template))


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(st.lists(said, min_size=1, max_size=2), said)
def test_pieces_are_the_whole_row_and_read_back_as_it_decodes(
    name: str, before: list[str], answer: str
) -> None:
    template = TEMPLATES[name]
    talk = tuple(Message(role, text) for text in [*before, answer] for role in ("user", "assistant"))  # type: ignore[arg-type]
    whole = encode(talk, template)
    found = list(cut(whole, template))
    assert [token for piece in found for token in piece.ids] == list(whole.ids)
    assert [label != -100 for label in whole.labels] == [piece.trained for piece in found for _ in piece.ids]
    assert sum(len(piece.ids) for piece in found if piece.trained) == whole.trained
    for control, run in groupby(found, key=lambda piece: piece.control):
        if not control:
            run = list(run)
            ids = [token for piece in run for token in piece.ids]
            assert "".join(piece.text for piece in run) == template.tokenizer.decode(
                ids, clean_up_tokenization_spaces=False
            )


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(st.lists(said, min_size=2, max_size=4))
def test_trained_pieces_are_the_answers_and_their_ends(name: str, contents: list[str]) -> None:
    template = TEMPLATES[name]
    talk = tuple(Message(role, text) for text in contents for role in ("user", "assistant"))  # type: ignore[arg-type]
    end = "<eot>" if template.new_rows else "</s>"
    found = [piece for piece in shown(template, talk) if piece.trained]
    assert "".join(piece.text for piece in found) == "".join(content + end for content in contents)
    assert [piece.control for piece in found if piece.control] == ["end"] * len(contents)


@pytest.mark.parametrize("name", ["level", "pieces"])
def test_a_piece_is_a_token_wherever_the_token_is_whole_characters(name: str) -> None:
    """Trap: a preview that decodes token by token shows U+FFFD for every Chinese character, or loses the
    space of every English word."""
    found = [(piece.text, len(piece.ids)) for piece in shown(TEMPLATES[name], TALK[:2])]
    assert found == {
        "level": [("<free_a>", 1), ("怠你", 5), ("好", 3), (" th", 1), ("e", 1), ("\n", 1), (" th", 1), ("e", 1), ("?", 1), ("</s>", 1),
                  ("<free_b>", 1), ("你", 2), (" th", 1), ("e", 1), (" ", 1), ("😀", 4), ("</s>", 1)],
        "pieces": [("<free_a>", 1), ("", 1), ("怠", 3), ("你", 1), ("好", 1), (" ", 1), ("t", 1), ("h", 1), ("e", 1), ("\n", 1), (" ", 1),
                   ("t", 1), ("h", 1), ("e", 1), ("?", 1), ("</s>", 1),
                   ("<free_b>", 1), ("", 1), ("你", 1), (" ", 1), ("t", 1), ("h", 1), ("e", 1), (" ", 1), ("😀", 4), ("</s>", 1)],
    }[name]  # fmt: skip


def test_role_tokens_have_their_duty_and_name() -> None:
    assert [(piece.text, piece.control) for piece in shown(TEMPLATES["level"], TALK) if piece.control] == [
        ("<free_a>", "user"),
        ("</s>", "end"),
        ("<free_b>", "assistant"),
        ("</s>", "end"),
    ] * 2
    assert [
        (piece.text, piece.control) for piece in shown(TEMPLATES["new rows"], TALK[:2]) if piece.control
    ] == [("<user>", "user"), ("<eot>", "end"), ("<assistant>", "assistant"), ("<eot>", "end")]
    own = shown(TEMPLATES["level, the base's own template"], TALK[:2])
    assert [(piece.text, piece.control) for piece in own if piece.control] == [
        ("<free_a>", "control"),
        ("</s>", "end"),
        ("<free_a>", "control"),
        ("</s>", "end"),
    ]


def test_the_same_ids_are_shown_that_the_question_is_asked_with() -> None:
    for template in TEMPLATES.values():
        ids = [token for piece in shown(template, TALK) for token in piece.ids]
        question = encode_question(TALK[:-1], template)
        assert tuple(ids[: len(question)]) == question


@pytest.fixture(scope="module")
def tiny_template(tiny_base: Path) -> Template:
    from doitune.base.find import find_base
    from doitune.recipe.fields import PromptSection

    return tokenizer_template(find_base(str(tiny_base)), PromptSection())


def test_one_row_of_each_ability_that_the_recipe_draws(tiny_recipe: Path, tiny_template: Template) -> None:
    rows = preview(resolve(str(tiny_recipe)), tiny_template).rows
    assert [row.ability for row in rows] == ["biology", "history", "code", "math"]
    for row in rows:
        assert row.id.startswith(f"curated/1000/{row.ability}#") and ".json:" in row.place
        assert (
            row.tokens
            == sum(len(piece.ids) for piece in row.pieces)
            > row.trained
            == sum(len(p.ids) for p in row.pieces if p.trained)
            > 1
        )
        assert not row.overlong
    by_name = {row.ability: row for row in rows}
    trained = "".join(piece.text for piece in by_name["code"].pieces if piece.trained)
    assert trained.startswith("print(") and trained.endswith("+1)</s>")
    assert preview(resolve(str(tiny_recipe)), tiny_template).rows == rows


def test_only_the_abilities_asked_for(tiny_recipe: Path, tiny_template: Template) -> None:
    resolved = resolve(str(tiny_recipe))
    rows = preview(resolved, tiny_template, abilities=["math", "biology"]).rows
    assert [row.ability for row in rows] == ["biology", "math"]
    with pytest.raises(UsageError, match="recipe tiny draws no row of `ethics`") as caught:
        preview(resolved, tiny_template, abilities=["ethics"])
    assert caught.value.hint == "it draws biology, history, code, math"


def test_a_row_over_the_limit_is_shown_whole_and_said_so(tiny_recipe: Path, tiny_template: Template) -> None:
    """Trap: a preview of what is left of a row after a cut that training never makes."""
    whole = preview(resolve(str(tiny_recipe)), tiny_template).rows
    short = preview(resolve(str(tiny_recipe), overrides=["train.max_tokens=20"]), tiny_template).rows
    assert any(row.overlong for row in short)
    assert [(row.pieces, row.overlong) for row in short] == [(row.pieces, row.tokens > 20) for row in whole]


def test_a_row_of_two_thousand_tokens_takes_no_minute(tiny_template: Template) -> None:
    """Trap: decoding every prefix of a row is quadratic."""
    found = shown(tiny_template, (Message("user", "问" * 3000), Message("assistant", "答" * 3000)))
    assert len(found) == 6004


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, doitune.prepare.preview, doitune.prepare.histogram; print([name for name in ('torch', 'transformers', 'rich') if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_rows_are_values(tiny_recipe: Path, tiny_template: Template) -> None:
    row = preview(resolve(str(tiny_recipe)), tiny_template).rows[0]
    assert isinstance(row, Row) and hash(row) == hash(
        preview(resolve(str(tiny_recipe)), tiny_template).rows[0]
    )
