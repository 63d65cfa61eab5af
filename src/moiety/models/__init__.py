"""Models with named axes, gates, and the adapter for any module."""
