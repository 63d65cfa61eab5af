"""The optimiser of the server."""
