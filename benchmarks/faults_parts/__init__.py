"""Faults of real life: each part says how many were tried and how many ended well."""
