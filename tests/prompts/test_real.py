"""A pretrained language model: the tuner around real numbers. Its folder is named by MOIETY_LM."""

import os

import pytest
import torch

from moiety.prompts.base import open_language
from tests.prompts.conftest import score, tune

FOLDER = os.environ.get("MOIETY_LM", "")


@pytest.mark.skipif(not FOLDER, reason="MOIETY_LM names no folder of a language model")
def test_a_real_model_goes_on_as_before_and_prompts_change_it():
    """Off, it says what the bare model says, to the bit; prompts move it."""
    language = open_language(FOLDER, "bfloat16")
    ids = torch.tensor([language.tokenizer.encode("The capital of France is")])
    bare = score(language.model, ids)
    assert "Paris" in language.tokenizer.decode([int(bare[0, -1].argmax())])
    model = tune(language.model, gate_layer=None, prompts_per_expert=4)
    with model.disable_adapter():
        assert torch.equal(score(model, ids), bare)
    told = score(model, ids)
    assert told.isfinite().all()
    assert not torch.equal(told, bare)
    made = model.generate(input_ids=ids, max_new_tokens=2, do_sample=False)
    assert int(made[0, ids.shape[1]]) == int(told[0, -1].argmax())
