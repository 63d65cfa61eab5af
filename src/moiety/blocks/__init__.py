"""A model that no process holds whole: how it lies, how its blocks travel, its checkpoints."""
