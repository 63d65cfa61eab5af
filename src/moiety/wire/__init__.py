"""What is sent is coded: stages that make few bytes of tensors, and what of it workers remember."""
