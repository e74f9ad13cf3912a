"""README.md of an export: the model card that the hub reads, and a person."""
