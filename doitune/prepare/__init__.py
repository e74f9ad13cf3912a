"""From a resolved recipe to all that a run learns from."""
