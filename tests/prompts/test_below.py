"""What the blocks below the gate make of a text may be kept, and given in its place."""

import pytest
import torch

from tests.prompts.conftest import label_from, make_base, make_rows, tune


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gpt_neox"])
def test_what_stands_below_the_gate_may_be_kept(kind):
    """The same scores and gradients to the bit, and blocks below do not run."""
    model, ids = tune(make_base(kind), gate_layer=2), make_rows()
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    told = {"attention_mask": mask, "labels": label_from(ids, 5)}
    below = model.base_model.read_below(input_ids=ids, attention_mask=mask)
    ran = []
    for place, block in enumerate(model.base_model.blocks):
        block.register_forward_hook(lambda m, a, out, place=place: ran.append(place))
    found = []
    for text in ({"input_ids": ids}, {"below": below}):
        ran.clear()
        model.zero_grad()
        out = model(**text, **told)
        out.loss.backward()
        found.append([out.logits, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert ran == [2]
    assert all(map(torch.equal, *found))
    again = model(input_ids=ids, **told)
    assert torch.equal(again.logits, found[0][0])
    with pytest.raises(ValueError, match="below= stands for the tokens"):
        model(input_ids=ids, below=below, **told)


def test_a_model_that_adds_positions_runs_whole():
    model, ids = tune(make_base("gpt2")), make_rows()
    below = model.base_model.read_below(input_ids=ids)
    with pytest.raises(ValueError, match="adds positions to what it is given"):
        model(below=below)
