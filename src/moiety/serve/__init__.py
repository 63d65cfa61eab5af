"""Finished models: choose a part, answer, save, load, personalise."""
