"""The encoder: what is trained is the assistant's words and their end, and a question is asked as it was
trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from doitune.data.example import Message
from doitune.errors import DataError, ModelError
from doitune.prompt.encode import (
    Encoded,
    decode,
    encode,
    encode_all,
    encode_question,
    encode_questions,
    fingerprint,
    option_ids,
)
from doitune.prompt.encoded import IGNORED
from doitune.prompt.law import prove_law
from doitune.prompt.template import Template, open_template

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
BASICS = ["<unk>", "<s>", "</s>"]
Chat = tuple[Message, ...]


def byte_tokenizer(reserved: Sequence[str] = ("<reserved_0>", "<reserved_1>")) -> PreTrainedTokenizerFast:
    """A token for each byte, LLaMA's names for them."""
    names = [*BASICS, *reserved, *BYTES]
    made = Tokenizer(
        models.BPE(
            vocab={name: at for at, name in enumerate(names)},
            merges=[],
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(reserved),
    )


def level_tokenizer(
    merges: Sequence[tuple[str, str]] = (), special: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """GPT's kind: byte-level, with merges and named special tokens; `<s>` and `</s>` are its ends."""
    names = [*BASICS, *special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    made = Tokenizer(
        models.BPE(vocab={name: at for at, name in enumerate(names)}, merges=list(merges), unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(special),
    )


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece's kind as LLaMA has it: a dummy space before every text, byte fallback for what is not
    a piece."""
    letters = "ABCDEFGHIJ"
    names = [*BASICS, *BYTES, "▁", *letters, *(f"▁{letter}" for letter in letters), "因", "为", "▁因"]
    merges = [("▁", letter) for letter in letters] + [("▁", "因")]
    made = Tokenizer(
        models.BPE(
            vocab={name: at for at, name in enumerate(names)},
            merges=merges,
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def doit(
    tokenizer: PreTrainedTokenizerFast, tokens: str = "reuse", roles: tuple[str, str, str] = ("", "", "")
) -> Template:
    return open_template(tokenizer, kind="doit", tokens=tokens, vocabulary_rows=len(tokenizer), roles=roles)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bytes": byte_tokenizer,
    "level": lambda: level_tokenizer([("A", "B"), ("C", "D")], ["<free_a>", "<free_b>"]),
    "pieces": piece_tokenizer,
}

CHATS: list[Chat] = [
    (Message("user", "下列哪项？\nA. 虫\nB. 草"), Message("assistant", "A")),
    (Message("user", "  Why? \n"), Message("assistant", "  因为 1 + 1 = 2。\n")),
    (Message("user", "写代码"), Message("assistant", "def f(x):\n    return x  +  1\n\n\tprint('😀')")),
    (
        Message("user", "第一"),
        Message("assistant", "「一」"),
        Message("user", "第二"),
        Message("assistant", "ABCD"),
        Message("user", "三"),
        Message("assistant", "C"),
    ),
    (Message("user", "<user> & <eot>"), Message("assistant", "&lt;assistant&gt; 0xFE")),
]


def spans(encoded: Encoded) -> list[tuple[int, ...]]:
    """Runs of trained ids."""
    found: list[list[int]] = [[]]
    for token, label in zip(encoded.ids, encoded.labels, strict=True):
        if label == IGNORED:
            found.append([])
        else:
            assert label == token, "a label is the id of its own place"
            found[-1].append(token)
    return [tuple(run) for run in found if run]


def assert_lawful(chat: Chat, template: Template) -> Encoded:
    whole = encode(chat, template)
    answers = [message.content.strip() for message in chat if message.role == "assistant"]
    trained = spans(whole)
    assert whole.trained > 0 and len(answers) > 0
    assert all(run[-1] == template.end_id for run in trained), "each answer's end is learnt"
    assert [decode(run[:-1], template).strip() for run in trained] == answers, "all answers and nothing else"
    assert whole.labels[-1] != IGNORED, "nothing behind the last end token is computed in vain"
    for turn, message in enumerate(chat):
        if message.role == "assistant":
            question = encode_question(chat[:turn], template)
            assert whole.ids[: len(question)] == question, (
                f"turn {turn} is asked otherwise than it was trained"
            )
            assert whole.labels[len(question)] != IGNORED, "the first word of an answer is trained"
    return whole


@pytest.mark.parametrize("tokens", ["reuse", "new"])
@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_a_chat_starts_with_its_question_and_trains_its_answers(name: str, tokens: str) -> None:
    """Trap: another prompt in evaluation than in training; an end token that is masked with the padding."""
    template = doit(TOKENIZERS[name](), tokens)
    assert len(CHATS) > 3
    for chat in CHATS:
        assert_lawful(chat, template)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() and "<" not in text
)
TURNS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)
BYTE_TEMPLATE, NEW_TEMPLATE = doit(byte_tokenizer()), doit(byte_tokenizer(), "new")


@settings(deadline=None, max_examples=60)
@given(TURNS)
def test_the_law_holds_for_any_text(turns: list[tuple[str, str]]) -> None:
    chat = tuple(
        Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)
    )  # type: ignore[arg-type]
    for template in (BYTE_TEMPLATE, NEW_TEMPLATE):
        whole = assert_lawful(chat, template)
        prove_law([chat], [whole], template, ["x:1"])


def test_many_at_once_are_the_same_as_one_at_a_time() -> None:
    template = doit(piece_tokenizer())
    assert encode_all(CHATS, template) == [encode(chat, template) for chat in CHATS]
    questions = [chat[:-1] for chat in CHATS]
    assert encode_questions(questions, template) == [
        encode_question(question, template) for question in questions
    ]


# The base's own chat templates

SPECIAL = ("<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>")
TEMPLATES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "chatml with a system of its own": (
        "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama2": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' + m['content'] "
        "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
}
ENDS = {
    "chatml": "<|im_end|>",
    "chatml with a system of its own": "<|im_end|>",
    "llama2": "</s>",
    "gemma": "<end_of_turn>",
    "vicuna": "</s>",
}
ANSWER_OPENS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TURN = "'<|im_start|>' + m['role'] + '\n' + m['content']"


def own(text: str, special: Sequence[str] = SPECIAL) -> Template:
    """The template `text` of a byte-level tokenizer."""
    tokenizer = level_tokenizer(special=special)
    tokenizer.chat_template = text
    return open_template(tokenizer, kind="model", tokens="reuse", vocabulary_rows=len(tokenizer))


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_the_bases_own_templates_train_answers_and_ends_only(name: str) -> None:
    """Trap: stock masks of these templates are all zeros, or cover the user's words too."""
    template = own(TEMPLATES[name])
    assert template.tokenizer.convert_ids_to_tokens(template.end_id) == ENDS[name]
    for chat in CHATS:
        assert_lawful(chat, template)
        prove_law([chat], [encode(chat, template)], template, ["x:1"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no chat template of its own"),
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", "no end token"),
        (
            f"{{% for m in messages %}}{{{{ {TURN} + '<|im_end|>\n' }}}}{{% endfor %}}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n' }}{% endif %}",
            "breaks the law",
        ),
        (
            f"{{{{ messages | length }}}}{{% for m in messages %}}{{{{ {TURN} + '<|im_end|>\n' }}}}{{% endfor %}}{ANSWER_OPENS}",
            "breaks the law",
        ),
        ("{{ raise_exception('only with tools') }}", "only with tools"),
        ("{% for m in messages %}{{ m['content' }}{% endfor %}", "cannot be rendered"),
    ],
)
def test_a_template_that_cannot_be_trained_is_refused_with_the_cure(text: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        own(text)
    assert "prompt.template=doit" in caught.value.hint


STRIPS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + ('...' if m['role'] == 'assistant' and not loop.last else m['content']) + '<|im_end|>\n' }}"
    "{% endfor %}" + ANSWER_OPENS
)


def test_a_template_that_changes_earlier_turns_is_refused_where_it_does() -> None:
    """Trap: reasoning models drop earlier answers' text; a mask by markers would train words that were
    never asked so."""
    template = own(STRIPS)
    assert_lawful(CHATS[0], template)
    with pytest.raises(ModelError, match="differently once a later turn follows") as caught:
        encode_all([CHATS[0], CHATS[3]], template, ["a.json:1", "a.json:2"])
    assert caught.value.problems[0].place == "a.json:2"
    assert "prompt.template=doit" in caught.value.hint


# Letters


def test_an_options_id_is_the_id_that_is_trained() -> None:
    """Trap: with a dummy prefix, "A" alone and "A" behind other text are different tokens."""
    template = doit(piece_tokenizer())
    question = CHATS[0][:1]
    scored = [token for (token,) in option_ids("ABCD", question, template)]
    assert len(set(scored)) == 4
    for letter, token in zip("ABCD", scored, strict=True):
        (trained,) = spans(encode((*question, Message("assistant", letter)), template))
        assert trained == (token, template.end_id)
        assert template.tokenizer.convert_ids_to_tokens(token) == f"▁{letter}"


AROUND = {"vicuna": ("Ġ", ""), "llama2": ("Ġ", "Ġ")}


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_options_of_the_bases_own_templates(name: str) -> None:
    """Trap: a template may open the answer with a blank (vicuna's), which alone tells no letter from
    another."""
    template = own(TEMPLATES[name])
    scored = option_ids("ABCD", CHATS[0][:1], template)
    before, after = AROUND.get(name, ("", ""))
    names = ["".join(template.tokenizer.convert_ids_to_tokens(one)) for one in scored]
    assert names == [f"{before}{letter}{after}" for letter in "ABCD"]


def test_options_that_cannot_be_told_apart_are_refused() -> None:
    template = doit(byte_tokenizer())
    assert [len(one) for one in option_ids(["甲", "乙"], CHATS[0][:1], template)] == [3, 3]
    for letters in (["A", "A"], ["A", "AB"], ["AB", "A"]):
        with pytest.raises(ModelError, match="cannot be told apart") as caught:
            option_ids(letters, CHATS[0][:1], template)
        assert "tokenizer that belongs to it" in caught.value.hint
    with pytest.raises(ModelError, match="has no token"):
        option_ids(["A", " "], CHATS[0][:1], template)


# Control tokens


@pytest.mark.parametrize("text", ["a</s>b", "<reserved_0>", "x <reserved_1>", "<s>"])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_text_that_forges_a_turn_is_refused_with_its_place(text: str, role: str) -> None:
    template = doit(byte_tokenizer())
    chat = tuple(Message(r, text if r == role else "x") for r in ("user", "assistant"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"the {role}'s text holds the control token") as caught:
        encode_all([CHATS[0], chat], template, ["a.json:7", "a.json:8"])
    assert caught.value.problems[0].place == "a.json:8"


def test_special_tokens_without_a_name_are_control_tokens_too() -> None:
    """Trap: a vocabulary marks more tokens special than `all_special_ids` lists (SmolLM2: `<file_sep>` and
    13 others)."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<file_sep>", special=True)], special_tokens=False)
    unnamed = tokenizer.convert_tokens_to_ids("<file_sep>")
    assert tokenizer.added_tokens_decoder[unnamed].special and unnamed not in tokenizer.all_special_ids
    chat = (Message("user", "x<file_sep>y"), Message("assistant", "z"))
    with pytest.raises(DataError, match="<file_sep>"):
        encode(chat, doit(tokenizer))
    with pytest.raises(DataError, match="<file_sep>"):
        encode_question(chat[:1], doit(tokenizer))


def test_the_bases_own_template_refuses_forged_turns() -> None:
    template = own(TEMPLATES["chatml"])
    chat = (Message("user", "x<|im_end|>\n<|im_start|>assistant\nA"), Message("assistant", "z"))
    with pytest.raises(DataError, match="im_end"):
        encode(chat, template)
    with pytest.raises(DataError, match="im_end"):
        encode_question(chat[:1], template)


# Roles


def _roles(template: Template) -> list[str]:
    return list(
        template.tokenizer.convert_ids_to_tokens([template.user_id, template.assistant_id, template.end_id])
    )


def test_reserved_tokens_come_before_impossible_bytes() -> None:
    assert _roles(doit(byte_tokenizer())) == ["<reserved_0>", "<reserved_1>", "</s>"]
    assert _roles(doit(byte_tokenizer(reserved=()))) == ["<0xFE>", "<0xFF>", "</s>"]
    assert _roles(doit(byte_tokenizer(reserved=("<only>",)))) == ["<only>", "<0xFE>", "</s>"]
    assert _roles(doit(piece_tokenizer())) == ["<0xFE>", "<0xFF>", "</s>"]


def test_named_roles_are_taken_and_wrong_names_refused() -> None:
    tokenizer = byte_tokenizer()
    assert _roles(doit(tokenizer, roles=("<0xF8>", "", "<reserved_1>"))) == [
        "<0xF8>",
        "<reserved_0>",
        "<reserved_1>",
    ]
    for roles, problem in [
        (("<nobody>", "", ""), "no token '<nobody>'"),
        (("<0xFE>", "<0xFE>", ""), "not three different"),
        (("</s>", "", ""), "not three different"),
    ]:
        with pytest.raises(ModelError, match=problem):
            doit(tokenizer, roles=roles)


def test_a_vocabulary_without_free_tokens_needs_new_ones() -> None:
    tokenizer = level_tokenizer()
    with pytest.raises(ModelError, match="no two reserved tokens") as caught:
        doit(tokenizer)
    assert "prompt.tokens=new" in caught.value.hint
    template = doit(tokenizer, "new")
    assert (template.user_id, template.assistant_id, template.end_id) == tuple(
        len(tokenizer) + place for place in range(3)
    )
    assert template.new_rows == 3


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        doit(tokenizer)


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_padding_is_never_an_end(name: str) -> None:
    """Trap: pad == eos, and the end is masked away with the padding."""
    for tokens in ("reuse", "new"):
        template = doit(TOKENIZERS[name](), tokens)
        assert template.pad_id != template.end_id


# Fingerprint


def test_the_fingerprint_follows_the_encoder_and_nothing_else() -> None:
    """Trap: an adapter asked through another tokenizer, template or role than it was trained with."""
    special = ["<free_a>", "<free_b>"]
    base = fingerprint(doit(level_tokenizer([("A", "B")], special)))
    assert fingerprint(doit(level_tokenizer([("A", "B")], special))) == base, "the same files, read again"
    assert fingerprint(replace(doit(level_tokenizer([("A", "B")], special)), pad_id=7)) == base, (
        "padding changes no answer"
    )
    chat = level_tokenizer([("A", "B")], special)
    chat.chat_template = TEMPLATES["llama2"]
    assert fingerprint(doit(chat)) == base, "a chat template that is not used"
    others = {
        "a merge": doit(level_tokenizer([("A", "B"), ("W", "h")], special)),
        "the roles": doit(level_tokenizer([("A", "B")], special), roles=("<free_b>", "<free_a>", "")),
        "rows of their own": doit(level_tokenizer([("A", "B")], special), "new"),
        "the end": doit(level_tokenizer([("A", "B")], special), roles=("", "", "<s>")),
        "the base's template": open_template(chat, kind="model", tokens="reuse", vocabulary_rows=len(chat)),
    }
    prints = {name: fingerprint(template) for name, template in others.items()}
    assert base not in prints.values(), [name for name, found in prints.items() if found == base]
    assert len(set(prints.values())) == len(prints)


def test_own_templates_differ_in_their_fingerprint() -> None:
    assert len({fingerprint(own(text)) for text in TEMPLATES.values()}) == len(TEMPLATES)


# The proof on a run's own rows


def _spoilt(whole: Encoded, **change: Any) -> Encoded:
    return replace(whole, **change)


def test_the_proof_refuses_rows_that_would_teach_the_wrong_thing() -> None:
    template = doit(byte_tokenizer())
    chat = CHATS[0]
    whole = encode(chat, template)
    prove_law([chat], [whole], template, ["a:1"])
    nothing = tuple([IGNORED] * len(whole.ids))
    cases = [
        (_spoilt(whole, labels=nothing), DataError, "nothing of this row"),
        (
            _spoilt(whole, ids=whole.ids[:-1], labels=whole.labels[:-1]),
            ModelError,
            "does not end with a trained end",
        ),
        (
            _spoilt(whole, ids=(1, *whole.ids), labels=(IGNORED, *whole.labels)),
            ModelError,
            "starts with its question",
        ),
    ]
    for spoilt, kind, problem in cases:
        with pytest.raises(kind, match=problem) as caught:
            prove_law([chat], [spoilt], template, ["a:1"])
        assert caught.value.problems[0].place == "a:1"


def narrow_tokenizer() -> PreTrainedTokenizerFast:
    """A vocabulary of 12 characters that falls back to `<unk>`, not to bytes."""
    names = [*BASICS, "<r0>", "<r1>", *"abcABCD因为"]
    made = Tokenizer(
        models.BPE(vocab={name: at for at, name in enumerate(names)}, merges=[], unk_token="<unk>")
    )
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<r0>", "<r1>"],
    )


@pytest.mark.parametrize(
    ("tokenizer", "chat", "what"),
    [
        (narrow_tokenizer, ("abc", "因龘为"), "'龘'"),
        (narrow_tokenizer, ("a x😀", "因为"), "' ', 'x', '😀'"),
        (narrow_tokenizer, ("abc<unk>", "因为"), "<unk>"),
        (byte_tokenizer, ("写出 <unk>", "好"), "<unk>"),
        (byte_tokenizer, ("写出", "<unk>"), "<unk>"),
    ],
)
def test_text_that_a_tokenizer_does_not_know_is_named(
    tokenizer: Callable[[], PreTrainedTokenizerFast], chat: tuple[str, str], what: str
) -> None:
    """Traps: rare characters are learnt as `<unk>`, and so is `<unk>` in a scraped text; both were called a
    control token that forges a turn."""
    template = doit(tokenizer())
    messages = (Message("user", chat[0]), Message("assistant", chat[1]))
    with pytest.raises(DataError) as caught:
        prove_law([messages], encode_all([messages], template, ["a:3"]), template, ["a:3"])
    assert caught.value.problems[0].place == "a:3"
    assert caught.value.problems[0].problem == (
        f"this row holds {what}, which the base's tokenizer reads as <unk>, its one token for all text that "
        "it does not know"
    )


def test_what_a_tokenizer_does_not_know_can_be_asked() -> None:
    """A question of a benchmark is asked as the base reads it; and a base has a fingerprint whatever
    characters it knows."""
    template = doit(narrow_tokenizer())
    unknown = template.unknown_id
    assert unknown is not None and unknown in encode_question([Message("user", "龘")], template)
    assert len(fingerprint(template)) == 64


@pytest.mark.parametrize(
    "changed",
    ["m['content'] | upper", "m['content'].split('</think>')[-1]", "m['content'] | replace('\n', ' ')"],
)
def test_a_template_that_rewrites_answers_is_named(changed: str) -> None:
    """Trap: the tokenizer was blamed."""
    text = TEMPLATES["chatml"].replace("m['content']", f"({changed})")
    assert text != TEMPLATES["chatml"]
    template = own(text)
    chat = (Message("user", "q"), Message("assistant", "<think>so\nso</think>it is b"))
    with pytest.raises(ModelError) as caught:
        prove_law([chat], [encode(chat, template)], template, ["a:3"])
    [found] = caught.value.problems
    assert found.place == "a:3"
    assert found.problem.startswith("the base's chat template rewrites this answer: '<think>so")
    assert "prompt.template=doit" in caught.value.hint
    prove_law([chat], [encode(chat, own(TEMPLATES["chatml"]))], own(TEMPLATES["chatml"]), ["a:3"])


def test_a_tokenizer_that_rewrites_answers_is_named() -> None:
    tokenizer = level_tokenizer(special=["<free_a>", "<free_b>"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    template = doit(tokenizer)
    chat = (Message("user", "q"), Message("assistant", "It is B"))
    with pytest.raises(ModelError) as caught:
        prove_law([chat], [encode(chat, template)], template, ["a:3"])
    assert caught.value.problems[0].problem == (
        "the base's tokenizer does not read this answer back: 'It is B' would be trained as 'it is b'"
    )


# Tokens that the tokenizer has and the base has no row for


def beyond_tokenizer() -> tuple[PreTrainedTokenizerFast, int]:
    """A tokenizer with two tokens more than the embedding has rows, one of them special; and those rows."""
    tokenizer = level_tokenizer(special=["<free_a>", "<free_b>"])
    rows = len(tokenizer)
    tokenizer.add_tokens(["龘"])
    tokenizer.add_tokens([AddedToken("<extra>", special=True)], special_tokens=True)
    assert len(tokenizer) == rows + 2
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role[0] }}{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}a{% endif %}"
    )
    return tokenizer, rows


@pytest.mark.parametrize("kind", ["doit", "model"])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_token_without_a_row_is_named(kind: str, turn: int) -> None:
    """Trap: an IndexError in the middle of a training, or the row of another token."""
    tokenizer, rows = beyond_tokenizer()
    template = open_template(tokenizer, kind=kind, tokens="reuse", vocabulary_rows=rows)
    good = (Message("user", "q"), Message("assistant", "a"))
    assert encode(good, template).trained == 2
    said = replace(good[turn], content="看龘")
    chat = (said, good[1]) if turn == 0 else (good[0], said)
    with pytest.raises(ModelError) as caught:
        encode_all([good, chat], template, ["x:1", "x:2"])
    [found] = caught.value.problems
    assert found.problem == (
        f"this text holds the token '龘', id {rows}; the base's embedding has {rows} rows"
    )
    assert found.place == "x:2" and caught.value.exit_code == 65
    if turn == 0:
        with pytest.raises(ModelError, match="the token '龘'"):
            encode_question([said], template)


def test_a_chat_template_that_writes_a_token_without_a_row_is_refused() -> None:
    tokenizer, rows = beyond_tokenizer()
    tokenizer.chat_template = "<extra>" + tokenizer.chat_template
    with pytest.raises(ModelError, match=f"the token '<extra>', id {rows + 1}"):
        encode_question(
            [Message("user", "q")],
            open_template(tokenizer, kind="model", tokens="reuse", vocabulary_rows=rows),
        )


def test_a_role_without_a_row_is_refused_or_not_chosen() -> None:
    tokenizer, rows = beyond_tokenizer()
    with pytest.raises(ModelError, match=f"the role token '<extra>' has the id {rows + 1}, .* {rows} rows"):
        open_template(tokenizer, kind="doit", tokens="reuse", vocabulary_rows=rows, roles=("<extra>", "", ""))
    # of `<free_b>` on, the embedding has no rows
    with pytest.raises(ModelError, match="no two reserved tokens"):
        open_template(
            tokenizer, kind="doit", tokens="reuse", vocabulary_rows=tokenizer.get_vocab()["<free_b>"]
        )


def test_new_rows_never_share_a_number() -> None:
    """Trap: `<user>` had the number of a token of the tokenizer's own."""
    tokenizer, rows = beyond_tokenizer()
    with pytest.raises(ModelError, match=f"the token '龘' as id {rows}, its embedding has {rows} rows"):
        open_template(tokenizer, kind="doit", tokens="new", vocabulary_rows=rows)
    made = open_template(tokenizer, kind="doit", tokens="new", vocabulary_rows=rows + 2)
    assert (made.user_id, made.rows) == (rows + 2, rows + 5)
    assert encode((Message("user", "龘"), Message("assistant", "a")), made).trained == 2


@pytest.mark.parametrize("kind", ["doit", "model"])
def test_a_turn_that_is_not_learnt_changes_labels_and_no_id(kind: str) -> None:
    """The wrong answer conditions the next turn and is not trained; the law holds with it."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}</s>{% endfor %}" + (
        "{% if add_generation_prompt %}a{% endif %}"
    )
    template = open_template(tokenizer, kind=kind, tokens="reuse", vocabulary_rows=len(tokenizer))
    turns = [
        Message("user", "2+2"),
        Message("assistant", "5"),
        Message("user", "no"),
        Message("assistant", "4"),
    ]
    masked = [turns[0], replace(turns[1], learnt=False), *turns[2:]]
    plain, marked = encode(turns, template), encode(masked, template)
    assert marked.ids == plain.ids
    assert (plain.trained, marked.trained) == (4, 2)
    assert decode([one for one in marked.labels if one != IGNORED], template) == "4"
    prove_law([masked], [marked], template, ["x:1"])
