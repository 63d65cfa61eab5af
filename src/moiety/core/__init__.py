"""The idea: axes, parts, the fold, state, streams, protocols and one round."""
