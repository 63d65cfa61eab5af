"""What the benchmark of federations is made of."""
