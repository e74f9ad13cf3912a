"""How the shipped base model was made: its text, its tokenizer, its start, its training. Not in the wheel."""
