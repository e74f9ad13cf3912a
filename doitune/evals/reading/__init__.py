"""From replies to verdicts: no model and no torch."""
