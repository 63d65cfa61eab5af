"""Low-rank parts of a language model: PEFT's own, over workers."""

import warnings
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close

from moiety.core.axes import Part, take_piece
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.lora import lora
from moiety.methods.mops import make_skill_workers
from moiety.models.base import find_constants
from moiety.prompts import make_prompted, save_lora
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.serve.config import rebuild_model
from tests.prompts.conftest import make_base, make_rows, score, tune


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_what_was_learnt_is_an_adapter_of_peft(kind, tmp_path):
    """Loaded into the bare model it answers alike; GPT-2 keeps its matrices turned."""
    model = make_prompted(tune(make_base(kind))).make_low_rank(3, 0.5, (), stream(0, "lora"))
    rng, ids = stream(1, "values"), make_rows()
    params = {name: torch.randn(t.shape, generator=rng) for name, t in model.params.items()}
    bare = score(make_base(kind), ids)
    assert torch.equal(model.logits(model.params, {"x": ids}, {}), bare)
    told = model.logits(params, {"x": ids}, {}).detach()
    assert (told - bare).abs().max() > 1e-2
    save_lora(model, params, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        again = PeftModel.from_pretrained(make_base(kind), tmp_path)
    assert_close(score(again, ids), told)
    thin = take_piece(params, model.axes, Part({"rank": torch.tensor([0, 1])}))
    assert model.logits(thin, {"x": ids}, {}).shape == told.shape
    assert torch.equal(model.logits(model.params, {"x": ids}, {}), bare)


def test_workers_of_unequal_ranks_learn_and_are_built_again():
    """The constants are the frozen model; a finished one is built again from what it says."""
    task, data = make_skill_workers(stream(0, "demo"))
    method = lora(task, ranks=(1, 2))
    model: Any = method.model
    state = initialise_state(method)
    names = {name for pair in model.pairs for name in pair}
    assert set(state.params) == names
    assert not any("mops" in name or "lora" in name for name in method.constants)
    frozen = find_constants(task.model)
    assert sum(t.numel() for t in frozen.values()) == sum(
        t.numel() for t in method.constants.values()
    )
    after = play_round(method, Serial(data.__getitem__), state, [0, 1], 0)
    assert any((after.params[left] != 0).any() for left, _ in model.pairs)
    again = rebuild_model(model.config())
    batch = data[0].take(torch.arange(2))
    assert torch.equal(again.logits(after.params, batch, {}), model.logits(after.params, batch, {}))


def test_a_layer_that_is_not_there_is_named():
    task, _ = make_skill_workers(stream(0, "demo"))
    with pytest.raises(ValueError, match=r"lora.targets=\['nothing'\]"):
        lora(task, targets=("nothing",))
