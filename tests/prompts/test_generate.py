"""Generation: with a cache as without, padded or not, and the gate's weights kept for a request."""

import copy

import pytest
import torch
from torch.testing import assert_close

from tests.prompts.conftest import FAMILIES, make_base, make_rows, score, tune

FORMS = [
    {},
    {"injection": "token"},
    {"gate_mode": "post_softmax"},
    {"gate_mode": "separate"},
    {"prompt_space": "kv"},
    {"top_k": 1},
    {"gate_pooling": "last"},
]


def go_on(model, ids, steps, **more):
    """Generate greedily without a cache: the request is always the first tokens."""
    cur, length = ids, ids.shape[1]
    for _ in range(steps):
        labels = torch.zeros_like(cur)
        labels[:, :length] = -100
        mask = torch.cat([(ids != 0).long(), torch.ones_like(cur[:, length:])], 1)
        told = score(model, cur, labels=labels, attention_mask=mask, **more)
        cur = torch.cat([cur, told[:, -1].argmax(-1)[:, None]], 1)
    return cur


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_cache_changes_nothing(kind, attention):
    model, ids = tune(make_base(kind, attention)), make_rows(2, 5)
    made = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)
    assert torch.equal(made, go_on(model, ids, 6))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_cache_changes_nothing_in_any_form(kind, form):
    model, ids = tune(make_base(kind), **form), make_rows(2, 5)
    made = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)
    assert torch.equal(made, go_on(model, ids, 6))


@pytest.mark.parametrize(
    "form", [{}, {"gate_pooling": "all"}, {"gate_pooling": "prefix", "gate_context": 8}], ids=str
)
@pytest.mark.parametrize("beams", [1, 2])
def test_transformers_without_a_cache_generates_the_same(form, beams):
    """However the request is padded and described, the gate reads nothing that was generated."""
    model, ids = tune(make_base(), **form), make_rows(2, 5)
    told = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams}
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
    mask = (padded != 0).long()
    made = model.generate(ids, **told)
    assert torch.equal(model.generate(ids, **told, use_cache=False), made)
    bare = model.generate(
        input_ids=padded, attention_mask=mask, **told, use_cache=False, instruction_mask=mask
    )
    assert torch.equal(bare[:, 3:], made)
    for cache in (False, True):
        bare = model.generate(input_ids=padded, attention_mask=mask, **told, use_cache=cache)
        assert torch.equal(bare[:, 3:], made)


@pytest.mark.parametrize("injection", ["deep", "token"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_left_padding_changes_nothing(kind, injection):
    model, ids = tune(make_base(kind), injection=injection), make_rows(2, 5)
    padded = torch.cat([torch.zeros(2, 4, dtype=torch.long), ids], 1)
    mask = (padded != 0).long()
    places = (mask.cumsum(-1) - 1).clamp_min(0)
    bare = score(model, ids)
    assert_close(
        score(model, padded, attention_mask=mask, position_ids=places)[:, 4:],
        bare,
        rtol=1e-4,
        atol=1e-4,
    )
    made = model.generate(input_ids=padded, attention_mask=mask, max_new_tokens=5, do_sample=False)
    assert torch.equal(
        made[:, 4:], model.generate(input_ids=ids, max_new_tokens=5, do_sample=False)
    )


def test_a_row_is_what_it_is_alone():
    """Rows of a batch have their own experts."""
    model, ids = tune(make_base()), make_rows(3, 6)
    weights = model.base_model.gate_weights(input_ids=ids)
    assert (weights[0] - weights[1]).abs().max() > 0.05
    alone = torch.cat([score(model, ids[row : row + 1]) for row in range(3)])
    assert_close(score(model, ids), alone, rtol=1e-4, atol=2e-5)


def test_sampling_and_beams():
    """One draw with a cache as without; and beams find what scores no less than greed."""
    model, ids = tune(make_base()), make_rows(2, 5)
    drawn = []
    for cached in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn.append(
                model.generate(
                    input_ids=ids, max_new_tokens=6, do_sample=True, use_cache=cached,
                    instruction_mask=torch.ones(2, 5),
                ) if cached else sample_without_cache(model, ids, 6)
            )  # fmt: skip
    assert torch.equal(*drawn)
    greedy = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)
    beams = model.generate(input_ids=ids, max_new_tokens=6, num_beams=4, do_sample=False)
    assert beams.shape == greedy.shape
    assert (sum_scores(model, beams) >= sum_scores(model, greedy) - 1e-4).all()


def sample_without_cache(model, ids, steps):
    """Draw as ``generate`` does: one multinomial a step."""
    cur = ids
    for _ in range(steps):
        labels = torch.zeros_like(cur)
        labels[:, : ids.shape[1]] = -100
        odds = score(model, cur, labels=labels)[:, -1].softmax(-1)
        top = odds.topk(50, -1)
        kept = torch.zeros_like(odds).scatter(-1, top.indices, top.values)
        cur = torch.cat([cur, torch.multinomial(kept / kept.sum(-1, keepdim=True), 1)], 1)
    return cur


def sum_scores(model, made):
    """Sum the log-probabilities of what was made behind five tokens, [B]."""
    labels = made.clone()
    labels[:, :5] = -100
    told = score(model, made, labels=labels).log_softmax(-1)[:, 4:-1]
    return told.gather(-1, made[:, 5:, None]).sum((1, 2))


def test_beams_with_the_truth_and_with_adapters():
    """What is said of requests is said of their beams."""
    model, ids = tune(make_base(), gate_mode="oracle"), make_rows(2, 5)
    told = {"expert_ids": torch.tensor([0, 2])}
    both = model.generate(input_ids=ids, max_new_tokens=4, num_beams=3, do_sample=False, **told)
    alone = model.generate(
        input_ids=ids[1:], max_new_tokens=4, num_beams=3, do_sample=False, expert_ids=[2]
    )
    assert torch.equal(both[1:], alone)


def test_a_loop_of_ones_own():
    """The gate's weights are remembered with the cache, also one that the model made itself."""
    model, ids = tune(make_base()), make_rows(2, 9)
    labels = ids.clone()
    labels[:, :5] = -100
    whole = score(model, ids, labels=labels)
    with torch.no_grad():
        out = model(input_ids=ids[:, :5], use_cache=True)
        assert_close(out.logits, whole[:, :5], rtol=1e-4, atol=2e-5)
        for place in range(5, 9):
            step = model(input_ids=ids[:, place : place + 1], past_key_values=out.past_key_values)
            assert_close(step.logits[:, 0], whole[:, place], rtol=1e-4, atol=2e-5)


def test_prompts_that_learnt_since_are_not_taken_from_before():
    """Keys and values are kept for a request only as long as the prompts stay the same."""
    model, ids = tune(make_base()), make_rows(2, 6)
    with torch.no_grad():
        cache = model(input_ids=ids[:, :5], use_cache=True).past_key_values
        twin = copy.deepcopy(cache)
        before = model(input_ids=ids[:, 5:], past_key_values=cache).logits
        model.base_model.layers()[2].mops_prompts["default"].mul_(3)
        cache.crop(-1)
        after = model(input_ids=ids[:, 5:], past_key_values=cache).logits
        model.base_model.adapters(["default"])["default"].gate.out.bias[0] += 5
        cache.crop(-1)
        regated = model(input_ids=ids[:, 5:], past_key_values=cache).logits
    assert (after - before).abs().max() > 1e-3
    assert (regated - after).abs().max() > 1e-3
    with pytest.raises(ValueError, match="the gate has not read the request in this cache"):
        score(model, ids[:, 5:], past_key_values=twin)


def test_tokens_behind_a_cache_make_nothing_anew():
    """Neither gate nor prompts are worked on again for a token that is decoded."""
    model, ids = tune(make_base()), make_rows(2, 5)
    made = []
    for layer in model.base_model.layers().values():
        inner = layer.make_keys
        layer.make_keys = lambda *of, inner=inner: made.append(1) or inner(*of)
    model.generate(input_ids=ids, max_new_tokens=5, do_sample=False)
    assert len(made) == 2  # once in each layer of prompts


def test_a_new_turn():
    """The weights stay by default; where asked, the gate reads the new turn."""
    ids, turn = make_rows(2, 5), make_rows(2, 4, seed=8)
    told = {}
    for again in (False, True):
        model = tune(make_base(), regate_on_new_turn=again)
        with torch.no_grad():
            cache = model(input_ids=ids, use_cache=True).past_key_values
            model(input_ids=turn, past_key_values=cache)
        request = model.base_model.remembered.recall(cache)
        told[again] = request.pooled["default"]
    first = tune(make_base()).base_model.read_gate(input_ids=ids)
    assert_close(told[False], first, rtol=1e-4, atol=2e-5)
    assert (told[True] - first).abs().max() > 1e-2
