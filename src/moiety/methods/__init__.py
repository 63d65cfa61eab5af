"""Named choices, one file each, with its paper and its demo problem."""
