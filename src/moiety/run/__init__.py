"""The run: loop, roster, checkpoints, ledger, command line."""
