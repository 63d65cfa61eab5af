"""What is learned: objectives and losses."""
