"""How fast and how good, measured against others; run from the project's root."""
