"""The run: loop, cohort, checkpoints, ledger, command line."""
