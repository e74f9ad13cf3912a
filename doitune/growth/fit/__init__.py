"""What a growth says: curves, traits and budgets, by plain arithmetic over its scores."""
