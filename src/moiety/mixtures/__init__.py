"""Statistical mixtures of experts: the model, its fit, and the reduction of many to one."""
