"""The server's optimizers."""
