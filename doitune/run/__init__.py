"""The directory of one training: its files, its checkpoints, what changed since, its model."""
