"""The sections of the benchmark of mixtures of experts."""
