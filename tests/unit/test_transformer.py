"""Transformers: attention against a slow twin, pieces against masks, sizes against the formula."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from moiety.core.axes import Part, read_axis_lengths, take_piece
from moiety.core.rows import TableRows
from moiety.core.streams import stream
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.blocks import Sizes, run_attention, scale_branches
from moiety.models.encoder import TextEncoder, build_encoder, draw_encoder, rebuild_encoder
from moiety.models.transformer import gpt, lay_assigned_axes
from moiety.models.vit import vit
from moiety.ops.attention import attend
from moiety.recipes.options import make_network, with_options
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.serve.config import rebuild_model
from moiety.serve.personal import FrozenFeatures, deploy_subnet
from moiety.tasks.losses import token_cross_entropy
from moiety.tasks.tokens import Tokens

SIZES = Sizes.even(12, 4, 10, 3)
HANDS = {
    "layers.1.head": torch.tensor([1, 3]), "layers.1.hidden": torch.tensor([0, 4, 9]),
    "layers.2.head": torch.tensor([0]), "layers.2.hidden": torch.tensor([2, 3]),
}  # fmt: skip


def shaken(model):
    """Move every value, so that biases and norms count."""
    rng = stream(5, "shake")
    params = {n: t + 0.3 * torch.randn(t.shape, generator=rng) for n, t in model.params.items()}
    return replace(model, params=params)


def decoder(shared=(0,)):
    return shaken(gpt(7, 6, SIZES, stream(0, "net"), shared_blocks=shared))


def images():
    return shaken(vit((2, 8, 8), 5, SIZES, stream(0, "net"), shared_blocks=(0,)))


def text(rows=3):
    return torch.randint(7, (rows, 6), generator=stream(1, "text"))


def words():
    made = TextEncoder(draw_encoder((6, 7), 5, SIZES, stream(0, "net")), lay_assigned_axes(3, (0,)))
    return shaken(made)


BATCHES = {
    "encoder": (words, lambda: {"x": text()}),
    "gpt": (decoder, lambda: {"x": text()}),
    "vit": (images, lambda: {"x": torch.randn(3, 2, 8, 8, generator=stream(1, "images"))}),
}


@pytest.fixture(params=BATCHES)
def case(request):
    make, batch = BATCHES[request.param]
    return make(), batch()


def masked(model, hands):
    """Silence heads and units outside the hands, by zeros where they write."""
    params = dict(model.params)
    for axis, kept in hands.items():
        layer, kind = axis.rsplit(".", 1)
        name = f"{layer}.{'wo' if kind == 'head' else 'w2'}"
        mask = torch.isin(torch.arange(len(params[name])), kept).float()
        params[name] = params[name] * mask.view(-1, *[1] * (params[name].ndim - 1))
    return params


@pytest.mark.parametrize("causal", [True, False])
def test_attention_agrees_with_loops(causal):
    params, x = decoder().params, torch.randn(2, 5, 12, generator=stream(2, "x"))
    at, wanted = "layers.1", torch.zeros(2, 5, 12)
    for row in range(2):
        for head in range(4):
            q, k, v = (
                [
                    params[f"{at}.w{n}"][head] @ x[row, t] + params[f"{at}.b{n}"][head]
                    for t in range(5)
                ]
                for n in "qkv"
            )
            for t in range(5):
                seen = range(t + 1 if causal else 5)
                weight = torch.stack([torch.exp(q[t] @ k[s] / 3**0.5) for s in seen])
                mixed = (weight / weight.sum()) @ torch.stack([v[s] for s in seen])
                wanted[row, t] += mixed @ params[f"{at}.wo"][head]
    found = run_attention(params, at, x, causal=causal)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_stacked_attention_and_loss_agree_with_single_ones(causal):
    rng = stream(3, "stack")
    q, k, v = torch.randn(3, 4, 2, 3, 5, 2, generator=rng)
    stacked = torch.vmap(partial(attend, causal=causal))(q, k, v)
    for place in range(4):
        single = attend(q[place], k[place], v[place], causal=causal)
        torch.testing.assert_close(stacked[place], single, rtol=1e-5, atol=1e-6)
    logits, y = (
        torch.randn(4, 3, 5, 6, generator=rng),
        torch.randint(-1, 6, (4, 3, 5), generator=rng),
    )
    losses = torch.vmap(token_cross_entropy)(logits, y)
    for place in range(4):
        single = token_cross_entropy(logits[place], y[place])
        torch.testing.assert_close(losses[place], single, rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_text_is_the_mean_of_its_labelled_tokens():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], [[0.5, 0.5]] * 3]))
    found = token_cross_entropy(logits, torch.tensor([[0, 0, -1], [-1, -1, -1]]))
    assert found.tolist() == pytest.approx([(0.693147 + 1.386294) / 2, 0.0], abs=1e-5)


def test_no_position_sees_a_later_one():
    model, x = decoder(), text(1)
    before = model.logits(model.params, {"x": x}, {})
    for place in range(6):
        other = x.clone()
        other[0, place] = (x[0, place] + 1) % 7
        after = model.logits(model.params, {"x": other}, {})
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


def test_gpt2_small_has_its_size_and_pieces_theirs():
    """Specification 9.1: 124,439,808 numbers; .658, .488, .402 in a piece of n = 2, 4, 8."""
    sizes = Sizes.even(768, 12, 3072, 12)
    for shared, shares in (((), (0.658, 0.488, 0.402)), ((0, -1), (0.715, 0.573, 0.502))):
        model = gpt(50257, 1024, sizes, stream(0), shared_blocks=shared)
        count = {name: t.numel() for name, t in model.params.items()}
        whole, dealt = sum(count.values()), sum(count[name] for name in model.axes)
        assert whole == 124_439_808
        assert dealt == (12 - len(shared)) * (12 * 768**2 + 7 * 768)
        found = [round((whole - dealt + dealt / n) / whole, 3) for n in (2, 4, 8)]
        assert found == list(shares)


def test_shared_blocks_lie_on_no_axis():
    model = gpt(7, 6, Sizes.even(12, 4, 10, 4), stream(0))
    assert read_axis_lengths(model.params, model.axes) == {
        "layers.1.head": 4, "layers.1.hidden": 10, "layers.2.head": 4, "layers.2.hidden": 10,
    }  # fmt: skip
    with pytest.raises(ValueError, match="there are 3 blocks"):
        gpt(7, 6, SIZES, stream(0), shared_blocks=(3,))


def test_a_piece_is_the_whole_without_the_other_heads_and_units(case):
    model, batch = case
    small = deploy_subnet(model, model.params, Part(HANDS))
    assert small.params["layers.1.wq"].shape == (2, 3, 12)
    found = small.logits(small.params, batch, HANDS)
    wanted = model.logits(masked(model, HANDS), batch, {})
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, model.logits(model.params, batch, {}), atol=1e-2)


def test_the_gradient_of_a_piece_is_the_masked_gradient_of_the_whole(case):
    model, batch = case
    whole = {n: t.clone().requires_grad_() for n, t in model.params.items()}
    piece = {
        n: t.requires_grad_() for n, t in take_piece(model.params, model.axes, Part(HANDS)).items()
    }
    one = model.forward(piece, batch, HANDS)[0].square().mean()
    two = model.forward(masked(replace(model, params=whole), HANDS), batch, {})[0].square().mean()
    grads = dict(zip(piece, torch.autograd.grad(one, list(piece.values())), strict=True))
    found = torch.autograd.grad(two, list(whole.values()), materialize_grads=True)
    wanted = take_piece(dict(zip(whole, found, strict=True)), model.axes, Part(HANDS))
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-4, atol=1e-5)


def test_branches_are_scaled_before_their_biases_and_only_where_they_were_dealt(case):
    """Scaled by f, the branch of the whole is the mean over all disjoint hands of theirs."""
    model, _ = case
    scaled = model.calibrate(model.params, None, {"layers.1.head": 0.25, "layers.2.hidden": 0.5})
    changed = {n for n in scaled if not torch.equal(scaled[n], model.params[n])}
    assert changed == {"layers.1.wo", "layers.2.w2"}
    assert torch.equal(scaled["layers.1.wo"], 0.25 * model.params["layers.1.wo"])
    x = torch.randn(2, 5, 12, generator=stream(2, "x"))
    hands = [
        take_piece(model.params, model.axes, Part({"layers.1.head": torch.tensor([h])}))
        for h in range(4)
    ]
    mean = sum(run_attention(hand, "layers.1", x, causal=True) for hand in hands) / 4
    found = run_attention(
        scale_branches(model.params, {"layers.1.head": 0.25}), "layers.1", x, causal=True
    )
    torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt", "vit"])
def test_the_lift_counts_in_training_on_cut_axes_alone(kind):
    make, take = BATCHES[kind]
    model, batch = make(), take()
    lifted = replace(model, lift=4.0)
    here = {"layers.1.head": torch.arange(4)}
    found = lifted.forward(model.params, batch, here)[0]
    four = {**model.params, "layers.1.wo": 4 * model.params["layers.1.wo"]}
    torch.testing.assert_close(found, model.logits(four, batch, {}), rtol=1e-4, atol=1e-4)
    plain = model.logits(model.params, batch, {})
    assert torch.equal(lifted.forward(model.params, batch, {})[0], plain)
    assert torch.equal(lifted.logits(model.params, batch, here), plain)


def test_models_are_built_again_whole_and_cut(case):
    model, batch = case
    for one in (model, deploy_subnet(model, model.params, Part(HANDS))):
        again = rebuild_model(json.loads(json.dumps(one.config())))
        assert again.axes == one.axes
        assert {n: t.shape for n, t in again.params.items()} == {
            n: t.shape for n, t in one.params.items()
        }
        assert torch.equal(again.logits(one.params, batch, {}), one.logits(one.params, batch, {}))
    one, two = (model.redraw(stream(seed, "first")) for seed in (0, 1))
    assert one.keys() == model.params.keys()
    assert not torch.equal(one["layers.0.wq"], two["layers.0.wq"])


def circle():
    """Three workers that count round, each from numbers of its own."""
    x = (torch.arange(21)[:, None] + torch.arange(7)) % 7
    table = {"x": x[:, :-1], "y": x[:, 1:]}
    return {w: TableRows(table, torch.arange(21)[w::3]) for w in range(3)}


def dealt(**options):
    model = gpt(7, 6, Sizes.even(12, 6, 12, 3), stream(0, "net"))
    local = LocalTraining(
        "adamw", 1e-2, batch=4, epochs=0, steps=6, betas=(0.9, 0.95), optimizer_state="send"
    )
    task = Task(model, local, rounds=5, workers=3, objective=Tokens(tuple("abcdefg")))
    return ist(task, **options)


def test_bytes_are_those_of_the_formula():
    """P_shared + P_dealt / n with 12 d^2 + 7 d dealt in a block (F = d here: 6 d^2 + 4 d)."""
    method = dealt()
    whole = sum(t.numel() for t in method.model.params.values())
    block = 6 * 12**2 + 4 * 12
    piece = whole - block + block // 3
    adam = 2 * piece + 2 * len(method.model.params)  # two moments, two counts a tensor
    for job in make_jobs(method, initialise_state(method), [0, 1, 2], {}, 0):
        assert job.down_bytes == 4 * (piece + adam)


@pytest.mark.parametrize(
    "options", [{}, {"assignment": "quota", "keep": 0.5}, {"shared": ("*.head",)}]
)
def test_engines_agree_and_the_whole_learns(options):
    method, data, ends = dealt(**options), circle(), []
    for engine in (Serial(data.__getitem__), Vectorized(data.__getitem__),
                   Pool(data.__getitem__, processes=1)):  # fmt: skip
        state = initialise_state(method)
        for _ in range(5):
            state = play_round(method, engine, state, [0, 1, 2], 0)
        ends.append(state.params)
    for name, tensor in ends[0].items():
        assert torch.equal(ends[2][name], tensor)
    x = data[0].table["x"]
    told = [method.model.logits(method.calibrate(end, None), {"x": x}, {}) for end in ends]
    # Not the parameters: a bias of keys has no effect, and Adam moves it by rounding alone.
    torch.testing.assert_close(told[1], told[0], rtol=1e-2, atol=1e-2)
    guess = told[0].argmax(-1)
    assert (guess == data[0].table["y"]).double().mean() > 0.9


def test_a_frozen_network_is_a_view():
    model = images()
    batch = {"x": torch.randn(3, 128, generator=stream(1)), "y": torch.arange(3)}
    seen = FrozenFeatures(model, model.params)(batch)
    assert torch.equal(seen["x"], model.features(model.params, batch))
    assert torch.equal(seen["y"], batch["y"])


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of heads=5"):
        Sizes.even(12, 5, 8, 2)
    with pytest.raises(ValueError, match="6x8 do not divide"):
        vit((1, 6, 8), 3, SIZES, stream(0))
    model = decoder()
    with pytest.raises(ValueError, match="9 tokens, but the model knows 6"):
        model.logits(model.params, {"x": torch.zeros(1, 9, dtype=torch.long)}, {})


@pytest.mark.parametrize("lift", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_factor_on_branches_is_finite_and_above_nothing(lift):
    """Refused where the network is made, before anything is written."""
    options = with_options(vit={"lift": lift})
    with pytest.raises(ValueError, match="choose a finite factor above 0"):
        make_network("vit", options, (1, 8, 8), 3, 0)


def test_an_encoder_averages_the_words_that_are_there_and_reads_no_further():
    """By hand: without blocks' branches a text is the mean of its normed embeddings."""
    model = build_encoder((9, 7), 3, stream(0, "net"), length=4, width=8, heads=2)
    still = {name: torch.zeros_like(t) if name.split(".")[-1] in ("wo", "w2", "bo", "b2") else t
             for name, t in model.params.items()}  # fmt: skip
    x = torch.tensor([[3, 5, 0, 0, 6, 6], [0, 0, 0, 0, 1, 1]])
    found = model.features(still, {"x": x})
    each = still["words"][x[0, :2]] + still["places"][:2]
    each = (each - each.mean(-1, keepdim=True)) / (each.var(-1, correction=0) + 1e-5).sqrt()[
        :, None
    ]
    torch.testing.assert_close(found[0], each.mean(0))
    assert not found[1].any()
    again = rebuild_encoder(stream(1), **{n: v for n, v in model.config().items() if n != "kind"})
    assert torch.equal(
        again.logits(model.params, {"x": x}, {}), model.logits(model.params, {"x": x}, {})
    )
    with pytest.raises(ValueError, match="length=0"):
        build_encoder((9, 7), 3, stream(0), length=0)
