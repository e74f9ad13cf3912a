"""What a recipe needs on a card, before any download."""
