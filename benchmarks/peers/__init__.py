"""Other libraries on the same work; each script runs in the environment of its library."""
