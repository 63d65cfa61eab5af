"""How parts become a model."""
