"""A family of runs from one plan: which there are, having them run, and going on after any end."""
