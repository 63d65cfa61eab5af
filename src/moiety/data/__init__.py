"""Data sets, files of the user, and their partition over workers."""
