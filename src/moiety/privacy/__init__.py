"""What is promised to a worker, or to a row, whoever sees the models: clipping, noise, epsilon."""
