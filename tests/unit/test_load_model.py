import pytest
import torch

import moiety


def test_a_torch_module_is_refused_where_a_model_is_meant(tmp_path):
    net = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"Linear\(...\) is a torch module; give from_module"):
        moiety.load_model(tmp_path, module=net)  # type: ignore[arg-type]
