"""What a run costs before it runs: counting, measuring, choosing."""
