"""Models that run on any piece of themselves."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from moiety.core.axes import Part, read_axis_lengths, take_piece
from moiety.models.cnn import cnn, group_norm
from moiety.models.mlp import linear, mlp
from moiety.models.normed import normed
from moiety.serve.config import rebuild_model


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def masked(params, axes, part, silent: tuple[str, ...]):
    """Set to zero what a part leaves out, in the parameters that feed a unit."""
    mask = {}
    for name, tensor in params.items():
        ids = torch.arange(tensor.numel()).reshape(tensor.shape)
        held = take_piece({name: ids}, axes, part)[name].flatten()
        flat = torch.zeros(tensor.numel())
        flat[held] = 1.0
        mask[name] = flat.reshape(tensor.shape)
    return {n: t * mask[n] if n in silent else t for n, t in params.items()}


@pytest.mark.parametrize(
    "kept", [{"h1": [0, 3]}, {"h2": [1]}, {"h1": [0, 1, 4], "h2": [0, 2]}, {"h1": [2], "h2": [3]}]
)
def test_a_piece_of_a_perceptron_is_the_masked_whole(kept):
    """A unit whose weights and bias are zero gives ReLU(0) = 0, as if it were not there."""
    model = mlp((6, 5, 4, 3), rng())
    part = Part({axis: torch.tensor(ids) for axis, ids in kept.items()})
    batch = {"x": torch.randn(8, 2, 3, generator=rng())}
    piece = take_piece(model.params, model.axes, part)
    full = masked(model.params, model.axes, part, tuple(model.params))
    found = model.logits(piece, batch, {})
    torch.testing.assert_close(found, model.logits(full, batch, {}))
    wanted = [len(kept.get("h1", range(5))), len(kept.get("h2", range(4)))]
    assert model.features(piece, batch).shape == (8, wanted[1])
    assert [len(piece["layer1.w"]), len(piece["layer2.w"])] == wanted


def test_a_perceptron_is_torchs_own():
    model = mlp((6, 5, 3), rng())
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        for own, name in zip(net.parameters(), model.params, strict=True):
            own.copy_(model.params[name])
    x = torch.randn(8, 6, generator=rng())
    torch.testing.assert_close(model.logits(model.params, {"x": x}, {}), net(x).detach())


def test_first_values_are_torchs_uniform():
    """Within 1 / sqrt(fan in), and filling it: the standard deviation is bound / sqrt(3)."""
    weight = mlp((100, 200, 2), rng()).params["layer1.w"]
    assert float(weight.abs().max()) <= 0.1
    assert float(weight.std()) == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_a_linear_classifier_has_no_axis_to_cut():
    model = linear(4, 3, rng())
    assert read_axis_lengths(model.params, model.axes) == {}
    x = torch.randn(5, 4, generator=rng())
    assert torch.equal(model.features(model.params, {"x": x}), x)
    wanted = x @ model.params["layer1.w"].T + model.params["layer1.b"]
    torch.testing.assert_close(model.logits(model.params, {"x": x}, {}), wanted)


def small_cnn(channels=(8, 16), hidden: int = 6):
    return cnn((1, 9, 8), 3, rng(), channels=channels, hidden=hidden)


IMAGES = {"x": torch.randn(4, 1, 9, 8, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("axis", ["c1", "c2", "h1"])
@pytest.mark.parametrize("kept", [[5], [1, 4], [0, 2, 3, 5]])
def test_any_piece_of_a_cnn_runs(axis, kept):
    """Widths are those of the piece, everything is finite and depends on the images."""
    model = small_cnn()
    part = Part({axis: torch.tensor(kept)})
    piece = take_piece(model.params, model.axes, part)
    whole = {"c1": "conv1.w", "c2": "conv2.w", "h1": "fc1.w"}
    assert len(piece[whole[axis]]) == len(kept)
    logits = model.logits(piece, IMAGES, {})
    assert logits.shape == (4, 3)
    assert logits.isfinite().all()
    alive = model.features(piece, IMAGES).std(0) > 0
    assert (logits.std(0) > 0).all() == alive.any()
    if axis == "h1":
        wanted = model.features(model.params, IMAGES)[:, kept]
        torch.testing.assert_close(model.features(piece, IMAGES), wanted)
    else:
        assert alive.any()
    narrow = {"c1": (len(kept), 16, 6), "c2": (8, len(kept), 6), "h1": (8, 16, len(kept))}[axis]
    shapes = cnn((1, 9, 8), 3, rng(), channels=narrow[:2], hidden=narrow[2]).params
    assert {n: t.shape for n, t in piece.items()} == {n: t.shape for n, t in shapes.items()}


def test_a_cnn_cut_behind_its_norms_is_the_masked_whole():
    model = small_cnn()
    part = Part({"h1": torch.tensor([1, 2, 5])})
    full = masked(model.params, model.axes, part, ("fc1.w", "fc1.b", "fc2.w"))
    piece = take_piece(model.params, model.axes, part)
    torch.testing.assert_close(model.logits(piece, IMAGES, {}), model.logits(full, IMAGES, {}))


def test_a_cnn_cut_by_whole_groups_is_the_masked_whole():
    """Group norm sees its group alone, so that dropping a whole group leaves the others' norm."""
    model = small_cnn()
    part = Part({"c2": torch.arange(8, 16)})
    names = ("conv2.w", "conv2.b", "norm2.w", "norm2.b", "fc1.w")
    full = masked(model.params, model.axes, part, names)
    piece = take_piece(model.params, model.axes, part)
    torch.testing.assert_close(
        model.logits(piece, IMAGES, {}), model.logits(full, IMAGES, {}), rtol=1e-4, atol=1e-5
    )


def test_a_cnn_cut_within_a_group_is_not_the_masked_whole():
    """It is normalised over what is there: a piece is a net of its own, not a masked one."""
    model = small_cnn()
    part = Part({"c1": torch.arange(4)})
    full = masked(model.params, model.axes, part, tuple(model.params))
    piece = take_piece(model.params, model.axes, part)
    apart = model.logits(piece, IMAGES, {}) - model.logits(full, IMAGES, {})
    assert float(apart.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (7, 1), (8, 1), (16, 2), (24, 3), (20, 2), (17, 1), (32, 4)]
)
def test_groups_have_at_least_eight_channels(channels, groups):
    x = torch.randn(2, channels, 3, 3, generator=rng())
    weight, bias = torch.rand(channels, generator=rng()), torch.rand(channels, generator=rng())
    assert torch.equal(group_norm(x, weight, bias), F.group_norm(x, groups, weight, bias))


def test_a_cnn_against_layers():
    model = small_cnn()
    p = model.params
    x = F.conv2d(IMAGES["x"], p["conv1.w"], p["conv1.b"], padding=2)
    x = F.max_pool2d(F.relu(F.group_norm(x, 1, p["norm1.w"], p["norm1.b"])), 2)
    x = F.conv2d(x, p["conv2.w"], p["conv2.b"], padding=2)
    x = F.max_pool2d(F.relu(F.group_norm(x, 2, p["norm2.w"], p["norm2.b"])), 2).flatten(1)
    x = F.relu(x @ p["fc1.w"].T + p["fc1.b"])
    torch.testing.assert_close(
        model.logits(p, IMAGES, {}), x @ p["fc2.w"].T + p["fc2.b"], rtol=1e-4, atol=1e-5
    )


def test_images_too_small_are_refused():
    with pytest.raises(ValueError, match="images of 3x8 are too small"):
        cnn((1, 3, 8), 3, rng())
    with pytest.raises(ValueError, match="give at least inputs and classes"):
        mlp((4,), rng())


@pytest.mark.parametrize(
    "model",
    [mlp((6, 5, 4, 3), rng()), linear(6, 3, rng()), small_cnn((4, 5)), normed((6, 5, 4, 3), rng())],
    ids=["mlp", "linear", "cnn", "normed"],
)
def test_a_model_is_built_again_from_plain_data(model):
    again = rebuild_model(model.config())
    assert again.axes == model.axes
    assert {n: t.shape for n, t in again.params.items()} == {
        n: t.shape for n, t in model.params.items()
    }
    turned = replace(model, params=dict(reversed(model.params.items())))  # as a file may have it
    assert turned.config() == model.config()
    fresh = model.redraw(torch.Generator().manual_seed(5))
    assert fresh.keys() == model.params.keys()
    weights = [name for name, t in fresh.items() if t.ndim > 1]
    assert not any(torch.equal(fresh[name], model.params[name]) for name in weights)
    with pytest.raises(ValueError, match="unknown model kind 'tree'"):
        rebuild_model({"kind": "tree"})
