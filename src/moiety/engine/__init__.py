"""Where the jobs of a round run."""
