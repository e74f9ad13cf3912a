"""What the paper says, what its released code does, what this recipe does, and why.

The first two columns are facts about arXiv 2310.19651 and its repository (bugs by what they do, no text of
theirs). The third is computed from the resolved recipe, and the fourth says where a value comes from whenever
it is not the paper's, so that neither can become false.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from doitune.recipe.budget import Share
from doitune.recipe.fields import BudgetSection, PromptSection, TrainSection
from doitune.recipe.files import list_recipes
from doitune.recipe.resolve import Resolved, resolve

PAPER: dict[str, float] = {
    "examples_per_step": 64, "epochs": 15, "learning_rate": 1e-5, "end_rate": 1e-6,
    "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1, "eps": 1e-8, "clip_norm": 1.0,
    "max_tokens": 2048, "select_after_epoch": 5,
}  # fmt: skip
"""The paper's numbers, by field of `train`."""
PAPER_EPOCHS = {10: 25, 40: 20, 160: 18}
"""Epochs by the total of examples, where they are not the usual ones."""


@dataclass(frozen=True)
class Row:
    """One topic of the comparison."""

    topic: str
    paper: str
    code: str
    here: str
    why: str


def explain(resolved: Resolved) -> tuple[Row, ...]:
    """The comparison, topic by topic."""
    return tuple(topic(resolved) for topic in _TOPICS)


def _origin(resolved: Resolved, field: str) -> str:
    """Who set a field, in words."""
    origin = resolved.origins.get(field, "default")
    return "doitune's default" if origin == "default" else origin


def _why(resolved: Resolved, field: str, *, as_paper: bool, ours: str, same: str = "as in the paper") -> str:
    """The reason: the paper's way, or a departure with who made it; `ours` is the reason of the choice
    that doitune makes itself."""
    if as_paper:
        return same
    return f"a departure, from {_origin(resolved, field)}{': ' + ours if ours else ''}"


def _other_numbers(train: TrainSection, *fields: str) -> list[str]:
    """Those of the fields that have another number than the paper's."""
    return [name for name in fields if getattr(train, name) != PAPER[name]]


def _setting(resolved: Resolved) -> tuple[str, int | None]:
    """The paper's setting behind a recipe, from its name or the recipe that it renames: kind and total
    (None where none is named)."""
    name = resolved.recipe.alias_of or resolved.name
    if name not in (card.name for card in list_recipes()):
        return "", None
    match = re.fullmatch(r"(curated|synthetic|mix)-(\d+)", name)
    if match:
        return match[1], int(match[2])
    return (name, None) if name in ("reconstruct", "maximum") else ("", None)


def _data(resolved: Resolved) -> Row:
    kind, total = _setting(resolved)
    paper = {
        "curated": f"{(total or 0) // 10:,} of each of ten abilities, {total or 0:,} in all",
        "synthetic": f"{total or 0:,} GPT-4 instructions",
        "reconstruct": "10,000 rows; ethics, role-play and creative writing capped, "
        "small abilities whole, the rest equal",
        "maximum": "all rows but for the capped abilities, about 40,000",
        "mix": f"the maximum and {total or 0:,} GPT-4 instructions",
    }.get(kind, "no setting of the paper has this name")
    code = {
        "reconstruct": "fixed numbers, 1,305 and for Chinese 1,306: 10,000 rows only where biology has 1,041 "
        "(10,001 with 1,042); a file with too few rows under-fills without a word",
        "maximum": "39,618 rows of the published data; the caps take the first rows of a file",
        "mix": "both parts in one folder, where files of one name would overwrite each other",
    }.get(kind, "the same sizes; an earlier run's files stay in the folder and are trained on")
    data = resolved.recipe.data
    corpora = " + ".join(one.place for one in data.corpora)
    here = (
        f"{_budget_text(data.budget)}; from {data.source} of the corpus {corpora}; "
        f"a shortfall: {data.on_shortfall}"
    )
    why = (
        "no setting of the paper"
        if not kind
        else "the rule behind the paper's numbers, so that it holds for any corpus"
    )
    if kind and not _draws_as_named(resolved):
        why = "a departure: other rows than the setting of this name draws"
    return Row("data", paper, code, here, why)


def _draws_as_named(resolved: Resolved) -> bool:
    """Whether the budget is the built-in recipe's of the same name, whatever a flag or another file said."""
    named = resolve(resolved.recipe.alias_of or resolved.name).recipe.data
    data = resolved.recipe.data
    return (data.budget, data.source) == (named.budget, named.source)


def _budget_text(budget: BudgetSection) -> str:
    """A budget in words."""
    named = [f"{name} {_amount_text(amount)}" for name, amount in budget.abilities.items()]
    if budget.to_budget().is_everything:
        return "every row"
    if budget.share_equally is None:
        return ", ".join(named)
    rest = "the other abilities share equally" if named else "ten abilities share equally"
    units = "one each to the first" if budget.leftover == "spread" else "left out"
    return f"{budget.share_equally:,} in all: {', '.join([*named, rest])}, units that do not divide {units}"


def _amount_text(amount: int | str | Share) -> str:
    if isinstance(amount, Share):
        return f"an equal share and {amount.extra} more" if amount.extra else "an equal share"
    return amount if isinstance(amount, str) else f"{amount:,}"


def _selection(resolved: Resolved) -> Row:
    data = resolved.recipe.data
    nested = data.select == "nested"
    here = (
        f"nested, seed {data.seed}: one order for each ability, of which a budget takes the beginning"
        if nested
        else f"paper, seed {data.seed}: the released procedure on files sorted by name"
    )
    reason = "sizes differ only by added rows, and the picks do not depend on the order of files"
    return Row(
        "selection",
        "random subsets; the procedure is not among the facts we have",
        "one generator seeded 0 over files in the file system's order: other subsets on another machine, "
        "and a small one is not inside a larger; caps take the first rows",
        here,
        _why(
            resolved,
            "data.select",
            as_paper=not nested,
            ours=reason,
            same="to repeat the released procedure, made independent of the disk",
        ),
    )


def _epochs(resolved: Resolved) -> Row:
    kind, total = _setting(resolved)
    usual = PAPER["epochs"]
    wanted = PAPER_EPOCHS.get(total or 0, usual) if kind in ("curated", "synthetic") else usual
    train = resolved.recipe.train
    here = f"{train.epochs}" + (f", at most {train.max_steps} steps" if train.max_steps is not None else "")
    same = "the paper's number" if wanted == usual else "the paper's intent, which its script never applies"
    as_paper = bool(kind) and train.epochs == wanted and train.max_steps is None
    field = "train.epochs" if train.epochs != wanted or train.max_steps is None else "train.max_steps"
    return Row(
        "epochs",
        f"{usual}; by the script's intent 25, 20 and 18 where 10, 40 and 160 rows are learnt from in all",
        f"always {usual}: the script looks for `_` in names that are written with `-`, "
        "so its overrides never fire",
        here,
        _why(resolved, field, as_paper=as_paper, ours="", same=same),
    )


def _learning_rate(resolved: Resolved) -> Row:
    train = resolved.recipe.train
    as_paper = not _other_numbers(train, "learning_rate", "end_rate")
    reason = (
        "an adapter takes a larger rate than full fine-tuning; 2e-4 up to 13b and 1e-4 above are "
        "the QLoRA authors' (arXiv 2305.14314)"
    )
    ours = "" if resolved.origins.get("train.learning_rate", "").startswith("--set") else reason
    return Row(
        "learning rate",
        f"{_rate(PAPER['learning_rate'])}, falling to {_rate(PAPER['end_rate'])}, for full fine-tuning",
        "1e-5 on the first step, 0 on the second, 1e-5 on the next two, then falling to 0",
        f"{_rate(train.learning_rate)}, {_end(train)}",
        _why(resolved, "train.learning_rate", as_paper=as_paper, ours=ours),
    )


def _rate(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def _end(train: TrainSection) -> str:
    if train.schedule == "constant":
        return "to the end"
    share, papers = train.end_rate / train.learning_rate, PAPER["end_rate"] / PAPER["learning_rate"]
    return f"falling to {_rate(train.end_rate)} ({share:.3g} of it; the paper: {papers:.3g})"


def _schedule(resolved: Resolved) -> Row:
    train = resolved.recipe.train
    power = f" of power {train.polynomial_power:g}" if train.schedule == "polynomial" else ""
    warm = f"{train.warmup_steps} warm-up steps" if train.warmup_steps else "no warm-up"
    as_paper = (
        train.schedule == "linear" or (train.schedule == "polynomial" and train.polynomial_power == 1)
    ) and not train.warmup_steps
    field = "train.warmup_steps" if train.warmup_steps else "train.schedule"
    return Row(
        "schedule",
        "linear, no warm-up",
        "its own schedule is dead: the DeepSpeed configuration brings another, linear to 0 with two "
        "logarithmic warm-up steps",
        f"{train.schedule}{power}, {warm}",
        _why(resolved, field, as_paper=as_paper, ours=""),
    )


def _optimiser(resolved: Resolved) -> Row:
    train = resolved.recipe.train
    other = _other_numbers(train, "beta1", "beta2", "weight_decay", "eps", "clip_norm")
    here = f"{train.optimizer}, betas {train.beta1:g} and {train.beta2:g}, eps {_rate(train.eps)}"
    why = "the paper's numbers; the base is frozen, so only the adapter can decay"
    if other:
        why = "departures: " + ", ".join(
            f"{name} from {_origin(resolved, 'train.' + name)}" for name in other
        )
    clip = f"norm clipped at {train.clip_norm:g}" if train.clip_norm else "no clipping"
    return Row(
        "optimiser",
        "AdamW, betas 0.9 and 0.95, eps 1e-8, weight decay 0.1, gradient norm clipped at 1",
        "betas 0.9 and 0.999, for its configuration names none; decay on every weight, norms and biases too",
        f"{here}, weight decay {train.weight_decay:g} on the adapter, {clip}",
        why,
    )


def _batch(resolved: Resolved) -> Row:
    size = resolved.recipe.train.examples_per_step
    same = (
        "as in the paper; the loss is a mean over the step's trained tokens, "
        "so micro-batches do not change it"
    )
    return Row(
        "batch",
        f"{PAPER['examples_per_step']} examples a step",
        "8 processes of 8; fewer rows than that make smaller batches, filled up with repeated rows "
        "(10 rows become 16)",
        f"{size} examples a step",
        _why(
            resolved,
            "train.examples_per_step",
            as_paper=size == PAPER["examples_per_step"],
            ours="",
            same=same,
        ),
    )


def _template(resolved: Resolved) -> Row:
    prompt = resolved.recipe.prompt
    as_paper = prompt.template == "doit" and prompt.tokens == "new"
    field = "prompt.tokens" if prompt.template == "doit" else "prompt.template"
    reason = (
        "new rows for embedding and head do not fit a 24 GB card beside 33b; "
        "tokens that text never uses serve as well"
    )
    return Row(
        "template",
        "role token, content, end token for each turn; three added tokens, whose rows are trained with all "
        "others; loss on answers only",
        "the same; it fails for a tokenizer that brings special tokens of its own",
        _template_text(prompt),
        _why(resolved, field, as_paper=as_paper, ours=reason if field == "prompt.tokens" else ""),
    )


def _template_text(prompt: PromptSection) -> str:
    if prompt.template == "model":
        return "the base model's own chat template"
    if prompt.template == "auto" and prompt.tokens == "reuse":
        return "the base model's own chat template where it was tuned for chat, else the paper's turns"
    if prompt.tokens == "new":
        return "the paper's turns, three added tokens with rows of their own"
    names = [
        f"{role} {text or 'chosen by the tokenizer'}"
        for role, text in zip(
            ("user", "assistant", "end"),
            (prompt.user_token, prompt.assistant_token, prompt.end_token),
            strict=True,
        )
    ]
    return f"the paper's turns, with tokens that the vocabulary has: {', '.join(names)}"


def _method(resolved: Resolved) -> Row:
    recipe = resolved.recipe
    weights = "in 4 bits (NF4, double quantisation)" if recipe.model.quantise == "nf4" else "unquantised"
    targets = recipe.lora.targets if isinstance(recipe.lora.targets, str) else ", ".join(recipe.lora.targets)
    return Row(
        "method",
        "full fine-tuning of Chinese-LLaMA Plus 7b, 13b and 33b on eight cards",
        "the same, in fp16; the first steps are skipped while its loss scale is found",
        f"{recipe.model.name} frozen, {weights}; "
        f"LoRA of rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g} on {targets}",
        "a departure by design: an adapter is what one card can train; growth with data may differ from "
        "full fine-tuning",
    )


def _length(resolved: Resolved) -> Row:
    recipe = resolved.recipe
    what = (
        "a longer row stops the run"
        if recipe.data.on_overlong == "refuse"
        else "a longer row is dropped and counted"
    )
    reason = (
        f"; max_tokens is from {_origin(resolved, 'train.max_tokens')}"
        if recipe.train.max_tokens != PAPER["max_tokens"]
        else ""
    )
    return Row(
        "length",
        f"{PAPER['max_tokens']:,} tokens",
        f"cut at {PAPER['max_tokens']:,} from the right, so that a row may lose its answer and teach nothing",
        f"{recipe.train.max_tokens:,} tokens; {what}",
        f"a cut answer teaches the wrong ending, so no answer is cut{reason}",
    )


def _checkpoint(resolved: Resolved) -> Row:
    train = resolved.recipe.train
    rows = train.validation_rows_per_ability
    after = f"after epoch {train.select_after_epoch}" if train.select_after_epoch else "of all"
    rhythm = "each epoch" if train.validate_every == "epoch" else f"every {train.validate_every} steps"
    stop = f", stopping after {train.patience} validations without a gain" if train.patience else ""
    here = (
        f"the best validation score {after}; {rows} rows of each ability, {rhythm}{stop}"
        if rows
        else "the last one: no validation"
    )
    as_paper = (
        rows >= 100
        and not _other_numbers(train, "select_after_epoch")
        and train.validate_every == "epoch"
        and not train.patience
    )
    fields = ("select_after_epoch", "validation_rows_per_ability", "validate_every", "patience")
    who = ", ".join(f"{name} from {_origin(resolved, 'train.' + name)}" for name in fields)
    return Row(
        "checkpoint",
        "the best on the validation sets among those after epoch 5; benchmarks at epochs 5, 10 and 15",
        "chosen by hand; it keeps 15, so a run of 25 epochs loses epochs 6 to 10 before the choice",
        here,
        "as in the paper, done by the run itself" if as_paper else f"a departure: {who}",
    )


def _averaging(resolved: Resolved) -> Row:
    return Row(
        "averaging",
        "the plain mean over sets: ten in-domain, and three out-of-domain in the test",
        "half of that mean: it divides by twice the number of sets",
        f"the plain mean over the sets of {', '.join(resolved.recipe.eval.suite)}, "
        "each set's score in 0..1 with its chance level",
        "the paper's intent; the published overall curves very probably show halved values",
    )


_TOPICS: tuple[Callable[[Resolved], Row], ...] = (
    _data, _selection, _epochs, _learning_rate, _schedule, _optimiser,
    _batch, _template, _method, _length, _checkpoint, _averaging,
)  # fmt: skip
