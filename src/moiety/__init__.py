"""Train a large model by training its parts."""
