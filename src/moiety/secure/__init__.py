"""Sums of what workers send, of which nobody sees a term: cells, a ring, masks and shared keys."""
