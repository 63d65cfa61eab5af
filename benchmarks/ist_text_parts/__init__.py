"""Parts of the benchmark of dealt transformers."""
