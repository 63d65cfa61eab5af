"""Masks of a base: by hand, by what they keep of a layer's answers, and in whole models."""

import pytest
import torch
from torch.testing import assert_close

from moiety.prompts.compress import DAMPING, MASKS, prune_language
from tests.prompts.conftest import make_base, make_rows

KINDS = tuple(MASKS)


def test_by_hand():
    """An input ten times as large saves its numbers; what is dropped, the other input makes up."""
    weight = torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double()
    gram = torch.tensor([[1.0, 3.0], [3.0, 100.0]]).double()
    assert MASKS["magnitude"](weight, gram, 0.5).tolist() == [[3, 0], [0, 2]]
    assert MASKS["wanda"](weight, gram, 0.5).tolist() == [[0, 1], [0, 2]]
    made_up = 3 / (100 + DAMPING * 50.5)  # least squares: the shared part of both inputs
    wanted = torch.tensor([[0, 1 + 3 * made_up], [0, 2 + made_up]]).double()
    assert_close(MASKS["sparsegpt"](weight, gram, 0.5), wanted)


def test_each_keeps_more_of_the_answers_than_the_last():
    """Over columns of more than one block, some of which are never used."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(400, 12, generator=rng) @ torch.randn(12, 150, generator=rng)
    x = (x + torch.randn(x.shape, generator=rng)).double() * torch.linspace(0.2, 2, 150)
    x[:, 7] = 0
    weight = torch.randn(20, 150, generator=rng).double()
    lost = {}
    for kind in KINDS:
        found = MASKS[kind](weight, x.T @ x, 0.5)
        assert abs((found == 0).double().mean() - 0.5) < 0.01
        lost[kind] = float((x @ (found - weight).T).square().mean())
    assert lost["sparsegpt"] < 0.5 * lost["wanda"] < lost["magnitude"]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_blocks_are_pruned_by_what_pruned_blocks_give(kind):
    """Padding says nothing, all else of the model stays, and hooks are gone."""
    ids, mask = make_rows(4), torch.ones(4, 9).long()
    mask[:2, :3] = 0
    found = prune_language(make_base(kind), 0.5, input_ids=ids, attention_mask=mask)
    other = ids.masked_fill(mask == 0, 5)
    again = prune_language(make_base(kind), 0.5, input_ids=other, attention_mask=mask)
    whole = make_base(kind).state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
        block = tensor.ndim == 2 and (".layers." in name or ".h." in name)
        zeros = (tensor == 0).double().mean()
        assert abs(zeros - 0.5) < 0.03 if block else torch.equal(tensor, whole[name])
    first = make_base(kind)
    blocks = first.get_submodule("model.layers" if kind == "llama" else "transformer.h")
    blocks[0].load_state_dict({
        name.split(".0.", 1)[1]: t for name, t in found.state_dict().items() if ".0." in name
    })  # fmt: skip
    rest = prune_language(first, 0.5, input_ids=ids, attention_mask=mask).state_dict()
    assert all(torch.equal(t, rest[n]) for n, t in found.state_dict().items())


def test_what_cannot_be_pruned_is_refused():
    ids = make_rows()
    for share, kind in ((1.0, "wanda"), (-0.1, "wanda"), (0.5, "wander")):
        with pytest.raises(ValueError, match="choose one of"):
            prune_language(make_base(), share, kind, input_ids=ids)
    broken = make_base()
    broken.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj .* not finite"):
        prune_language(broken, 0.5, input_ids=ids)
