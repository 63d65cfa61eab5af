"""Nodes of a federation: what they do with a letter, and how Flower moves it."""
