"""How fast each ability learns, why, and what budget that suggests."""
