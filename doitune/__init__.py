"""doitune: fine-tune a language model on one card, ability by ability, and measure what each ability
gained."""

__version__ = "0.2.0"
