"""Whether the trained model ends its replies: an end token that was masked, cut or never learnt shows in
no loss, only in replies that run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from doitune.backends.out_of_memory import OutOfMemory, in_parts
from doitune.data.rows import id_bytes, together
from doitune.prompt.encode import encode_questions
from doitune.prompt.encoded_rows import answer_tokens, rows_of
from doitune.prompt.template import Template
from doitune.system.doing import doing
from doitune.system.spent import spent_on
from doitune.train.setup import Setup

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.prompt.encoded import Encoded

ASKED = 20
SHORT_ANSWER_TOKENS = 32
SLACK_TOKENS = 16
LEAST_SHARE = 0.95

LEAST_ASKED, CPU_POSITIONS = 4, 1536
"""On the CPU, where reading long questions takes a step's time, those with short questions are asked: as many
as fit so many positions, padding included, but at least so many."""


@dataclass(frozen=True)
class Endings:
    """How many of the `asked` replies were ended by the model within `max_new_tokens`."""

    asked: int
    ended: int
    max_new_tokens: int

    @property
    def marked(self) -> bool:
        """Whether too few ended for the run to be trusted."""
        return self.ended <= LEAST_SHARE * self.asked

    @property
    def text(self) -> str:
        """The same as a sentence."""
        said = f"{self.ended} of {self.asked} replies ended within {self.max_new_tokens} tokens"
        if not self.marked:
            return said
        return (
            f"{said}: this model has not learnt to stop (more than {100 * LEAST_SHARE:.0f} % should end): "
            "train more steps, or at a higher rate; `doitune data preview` shows the ends that are learnt"
        )


def ask_endings(
    model: LoadedModel, template: Template, examples: Sequence[Example], encoded: Sequence[Encoded]
) -> Endings:
    """Let the model answer up to ASKED of the rows with short answers. At least one row is given.

    The model is left in evaluation mode. A reply may take the longest known answer twice and SLACK_TOKENS.
    """
    rows = _short(examples, encoded, on_cpu=model.device.type == "cpu")
    longest = max(length for _, length in rows)
    room = 2 * longest + SLACK_TOKENS
    doing(f"asking {len(rows)} questions to see whether the model ends its replies")
    model.training(False)
    prompts = encode_questions([example.question for example, _ in rows], template)
    written = in_parts(
        lambda part: model.generate(part, max_new_tokens=room, stop_ids=template.stop_ids), prompts
    )
    return Endings(len(written), sum(one.stopped for one in written), room)


@spent_on("asking for replies")
def reply_endings(setup: Setup) -> dict[str, Any]:
    """Whether the model ends its replies, as done.json has it; reported where too few end. Validation
    rows are asked, else trained ones; none where the recipe wants no validation."""
    material = setup.material
    if not setup.recipe.train.validation_rows_per_ability:
        return {"asked": 0, "ended": 0, "max_new_tokens": 0, "marked": False}
    names = list(material.valid)
    examples = together([material.valid[name] for name in names]) or material.examples
    encoded = [one for name in names for one in material.valid_encoded[name]] or material.encoded
    try:
        found = ask_endings(setup.model, material.template, examples, encoded)
    except OutOfMemory as error:  # the training is whole all the same
        setup.note(f"warning: whether replies end is not known: {error.problem}")
        return {"asked": 0, "ended": 0, "max_new_tokens": 0, "marked": True}
    if found.marked:
        setup.note(f"warning: {found.text}")
    return {**asdict(found), "marked": found.marked}


def _short(
    examples: Sequence[Example], encoded: Sequence[Encoded], *, on_cpu: bool
) -> list[tuple[Example, int]]:
    """ASKED rows and the tokens of their answers: spread over those with short answers, or the shortest
    there are. On the CPU see CPU_POSITIONS."""
    import numpy as np

    rows = rows_of(encoded)
    answers = np.array(answer_tokens(rows))
    order = np.lexsort((id_bytes(examples), answers))
    short = int((answers <= SHORT_ANSWER_TOKENS).sum())
    if on_cpu:
        order = order[: max(short, ASKED)]
        order = order[np.argsort(rows.lengths[order], kind="stable")]
        widths = rows.lengths[order] * np.arange(1, len(order) + 1)
        fitting = max(LEAST_ASKED, int((widths <= CPU_POSITIONS).sum()))
        chosen = order[: min(ASKED, fitting)].tolist()
    else:
        places = [place * short // ASKED for place in range(ASKED)] if short >= ASKED else range(ASKED)
        chosen = order[places[: len(order)]].tolist()
    return [(examples[place], int(answers[place])) for place in chosen]
