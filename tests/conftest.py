"""One thread for every test: two threads on a loaded machine can be far slower than one."""

import torch

torch.set_num_threads(1)
