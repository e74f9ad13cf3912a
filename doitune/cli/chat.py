"""`doitune chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from doitune.cli import completion
from doitune.cli.options import Json, Moved, Runs, finite
from doitune.errors import UsageError
from doitune.run.default import RUNS

if TYPE_CHECKING:
    from doitune.chat.partner import Partner
    from doitune.chat.reply import Style

Target = Annotated[
    str,
    typer.Argument(
        help="A run (`last`, a name, a folder), an adapter's or checkpoint's folder, or a base (demo, "
        "a hub name, a folder).",
        autocompletion=completion.targets,
    ),
]
Checkpoint = Annotated[str, typer.Option("--checkpoint", help="best, last or a step number.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        callback=finite,
        help="0: the likeliest token each time. Default: what the base's generation_config.json asks for, "
        "else 0.",
    ),
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", callback=finite, help="Draw from the likeliest tokens of this share alone."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="The longest reply. Default: 1024.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Of the draws. Default: another each time.")]


def chat(
    target: Target = "last",
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Ask this alone, print the reply, and leave.")
    ] = None,
    system: Annotated[str, typer.Option("--system", help="What stands before the conversation.")] = "",
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            help="Ask another run or model the same beside it; `base`: the run's own base.",
            autocompletion=completion.targets,
        ),
    ] = None,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines", help="Each line of stdin is a turn or a command; else all of it is one prompt."
        ),
    ] = False,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = None,
    checkpoint: Checkpoint = "best",
    model: Moved = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Talk to a run, an adapter or a base: with the encoder that trained it, its replies as they are written.

    On a terminal lines are edited, /help lists the commands, Ctrl-C ends a reply and Ctrl-D leaves.
    Otherwise stdin is the prompt.

    Example: doitune chat last --prompt "1+1=?"
    """
    from doitune.chat.commands import compare as ask_beside
    from doitune.chat.find import open_partner
    from doitune.chat.session import Session
    from doitune.console import progress, screen, talk

    turns = _turns(prompt, lines, as_json)

    def open_other(name: str) -> Partner:
        with progress.LiveLine():
            return open_partner(name, runs=runs)

    with progress.LiveLine():
        partner = open_partner(target, runs=runs, checkpoint=checkpoint, moved_to=model)
    style = style_of(partner, Sampled(temperature, top_p, max_new_tokens, seed))
    session = Session(partner, style, system=system)
    if compare is not None:
        ask_beside(session, "" if compare == "base" else compare, open_other)
    talk.introduce([side.partner for side in session.sides], style)
    if turns is None:
        talk.converse(session, open_other)
        return
    said = talk.follow(session, turns, open_other if lines else None, shown=not as_json)
    if as_json:
        screen.show_json({"schema": "doitune.chat/1", **talk.record(session, said)})


def _turns(prompt: str | None, lines: bool, as_json: bool) -> list[str] | None:
    """What is asked; None where a reader types it. UsageError where nobody says anything."""
    if prompt is not None:
        found = [prompt]
    elif sys.stdin.isatty():
        if as_json or lines:
            raise UsageError(
                f"{'--json' if as_json else '--lines'} is for scripts, and stdin is a terminal",
                "--prompt TEXT asks one question; or send questions to stdin",
            )
        return None
    else:
        text = sys.stdin.read()
        found = text.splitlines() if lines else [text]
    if not any(one.strip() for one in found):
        raise UsageError("the prompt is empty", "--prompt TEXT, or a text on stdin")
    return found


class Sampled(NamedTuple):
    """The options of drawing; None: nothing was said."""

    temperature: float | None
    top_p: float | None
    max_new_tokens: int | None
    seed: int | None


def style_of(partner: Partner, wish: Sampled) -> Style:
    """How a partner's replies are to be. UsageError out of bounds."""
    from secrets import randbelow

    from doitune.chat.reply import MOST_NEW_TOKENS, Style
    from doitune.chat.sampling import changed

    seed = randbelow(1 << 31) if wish.seed is None else wish.seed
    sampling = changed(partner.own, temperature=wish.temperature, top_p=wish.top_p, seed=seed)
    return Style(sampling, wish.max_new_tokens or MOST_NEW_TOKENS)
