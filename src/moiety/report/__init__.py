"""Ledger in, tables and pictures out."""
