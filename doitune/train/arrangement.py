"""How micro-batches are made: packed where the recipe allows it and a proof shows it exact, else sorted by
length."""

from __future__ import annotations

from dataclasses import asdict, replace

from doitune.errors import FitError
from doitune.system.spent import spent_on
from doitune.train.loop import Training
from doitune.train.packing import prove_packing


def choose_arrangement(training: Training) -> None:
    """Choose, and log the proof. Errors: FitError where packing is asked for and not exact; ModelError where
    padded batches are not exact."""
    setup, proof = training.setup, None
    wanted = setup.recipe.train.arrangement
    with spent_on("proving padded batches"):
        training.retention.probes.prove_batches()
    if wanted != "sorted":
        with spent_on("proving packed rows"):
            proof = prove_packing(setup.model, setup.material.encoded)
        if wanted == "packed" and not proof.exact:
            raise FitError(
                f"packed micro-batches are not exact here: {proof.reason}", "use --set train.arrangement=auto"
            )
        if not proof.exact:
            setup.note(f"micro-batches are sorted by length, not packed: {proof.reason}")
    training.at = replace(training.at, packed=proof is not None and proof.exact)
    setup.run.log.add(
        {
            "event": "arrangement",
            "step": 0,
            "packed": training.at.packed,
            "proof": None if proof is None else asdict(proof),
        }
    )
