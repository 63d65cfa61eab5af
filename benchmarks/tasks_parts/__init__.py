"""Parts of the benchmark of tasks: data, networks, the plain loop, runs."""
