"""Complete runs as typed records."""
