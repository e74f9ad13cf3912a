"""Take the result away, with a proof that it is the trained model.

A format is a file (`merged`). What formats share: `source`, the model as it was trained; `tokenizer`, the one
that gives the prompts of training; `trial`, what both models are asked; `measure`, asking them; `parity`, how
far they agree; `report`, export.json and the verdict; `card`, README.md.
"""
