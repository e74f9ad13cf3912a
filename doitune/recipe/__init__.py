"""All that a run is asked to do: fields, YAML, parents and overrides, budgets."""
