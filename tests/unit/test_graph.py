"""Graph networks against dense twins, pieces against masks, subgraphs against a slow twin."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.ist_graphs import piece as formula
from moiety.core.axes import Part, take_piece
from moiety.core.rows import TableRows, is_rowwise, split_batch
from moiety.core.state import Plan, count_bytes
from moiety.core.streams import stream
from moiety.data.clusters import cut_clusters
from moiety.data.graph import GraphRows, mask_labels, mirror_edges, project_features
from moiety.engine.batches import read_batches
from moiety.models.graph import NormalisedConvolution, graphnet
from moiety.serve.config import rebuild_model
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import NodeLosses

PATH = mirror_edges(torch.tensor([[0, 1], [1, 2]]))


def world(kind: str, widths=(5, 6, 4, 3), size: int = 12):
    rng = stream(0, "graph")
    joined = (torch.rand(size, size, generator=rng) < 0.3).triu(1)
    joined[-1] = False
    joined[:, -1] = False  # the last node has no neighbour
    x = torch.randn(size, widths[0], generator=rng)
    model = graphnet(kind, widths, rng)
    params = {
        name: t + 0.1 * torch.randn(t.shape, generator=rng) for name, t in model.params.items()
    }
    return model, params, {"x": x, "edges": mirror_edges(joined.nonzero().T)}, joined | joined.T


def test_normalised_adjacency_of_a_path_by_hand():
    """Degrees with loops are 2, 3, 2: entries 1/2, 1/3 and 1/sqrt(6)."""
    found = NormalisedConvolution().links(PATH, 3, torch.zeros(1)).to_dense()
    a = 6**-0.5
    wanted = torch.tensor([[1 / 2, a, 0], [a, 1 / 3, a], [0, a, 1 / 2]])
    torch.testing.assert_close(found, wanted)


def dense(kind: str, params, x, adjacency, depth: int):
    """Compute a network with dense matrices."""
    a = adjacency.float()
    loops = a + torch.eye(len(a))
    root = loops.sum(1).rsqrt()
    for place in range(1, depth + 1):
        w, b = params[f"layer{place}.w"], params[f"layer{place}.b"]
        if kind == "gcn":
            x = root[:, None] * loops * root @ x @ w + b
        else:
            mean = a @ x / a.sum(1, keepdim=True).clamp_min(1)
            x = torch.cat([x, mean], 1) @ w.flatten(0, 1) + b
        if place < depth:
            x = F.relu(x)
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return x


@pytest.mark.parametrize("kind", ["gcn", "sage"])
def test_a_network_is_its_dense_twin(kind):
    model, params, batch, adjacency = world(kind)
    found = model.logits(params, batch, {})
    torch.testing.assert_close(found, dense(kind, params, batch["x"], adjacency, 3))


@pytest.mark.parametrize(("m", "wanted"), [(1, 1208367), (2, 604207), (4, 302127), (8, 151087)])
def test_a_part_of_sage_has_as_many_parameters_as_the_formula(m, wanted):
    """GIST's widest layer on Amazon2M: section 9.1 of the specification."""
    model = graphnet("sage", (100, 4096, 47), stream(0, "net"))
    part = take_piece(model.params, model.axes, Part({"d1": torch.arange(0, 4096, m)}))
    assert count_bytes(part) == 4 * wanted
    assert formula("sage", (100, 4096, 47), m) == wanted


def test_one_hand_cuts_both_halves_of_sage():
    """The released code selects columns idx and idx + d of the matrix of 2 d columns."""
    model, params, _, _ = world("sage")
    hand = torch.tensor([1, 4])
    held = take_piece(params, model.axes, Part({"d1": hand}))["layer2.w"]
    flat = params["layer2.w"].flatten(0, 1)
    torch.testing.assert_close(held.flatten(0, 1), flat[torch.cat([hand, hand + 6])])


@pytest.mark.parametrize("kind", ["gcn", "sage"])
def test_the_gradient_of_a_part_is_that_of_the_whole_with_other_features_masked(kind):
    """Two layers: a norm over the hand makes more layers another function of the mask."""
    model, params, batch, _ = world(kind, (5, 6, 3))
    hand = torch.tensor([0, 2, 5])
    part = Part({"d1": hand})
    held = {n: t.clone().requires_grad_() for n, t in take_piece(params, model.axes, part).items()}
    y = torch.arange(12) % 3
    F.cross_entropy(model.logits(held, batch, part.axes), y).backward()

    leaves = {name: t.clone().requires_grad_() for name, t in params.items()}
    links = model.conv.links(batch["edges"], 12, batch["x"])
    h = F.relu(model.conv.apply(links, batch["x"], leaves["layer1.w"]) + leaves["layer1.b"])
    mask = torch.zeros(6)
    mask[hand] = 1
    mean = (h * mask).sum(1, keepdim=True) / 3
    var = ((h - mean).square() * mask).sum(1, keepdim=True) / 3
    h = (h - mean) / (var + 1e-5).sqrt() * mask
    whole = model.conv.apply(links, h, leaves["layer2.w"]) + leaves["layer2.b"]
    F.cross_entropy(whole, y).backward()
    grads: Any = {name: t.grad for name, t in leaves.items()}
    for name, wanted in take_piece(grads, model.axes, part).items():
        torch.testing.assert_close(held[name].grad, wanted, msg=name)


def test_dealt_inputs_read_their_own_features():
    model, params, batch, _ = world("gcn")
    part = Part({"d0": torch.tensor([1, 3])})
    found = model.logits(take_piece(params, model.axes, part), batch, part.axes)
    zeroed = {**params, "layer1.w": params["layer1.w"].clone()}
    zeroed["layer1.w"][[0, 2, 4]] = 0
    torch.testing.assert_close(found, model.logits(zeroed, batch, {}))


def test_dropout_is_drawn_from_the_seed_of_the_batch():
    model = graphnet("gcn", (5, 50, 3), stream(0, "net"), dropout=0.5)
    _, _, batch, _ = world("gcn")
    told = [
        model.forward(model.params, {**batch, "seed": torch.tensor(s)}, {})[0] for s in (1, 1, 2)
    ]
    assert torch.equal(told[0], told[1])
    assert not torch.allclose(told[0], told[2])
    assert model.draws_noise
    again = rebuild_model(model.config())
    assert again.config() == model.config()
    assert not torch.allclose(model.logits(model.params, batch, {}), told[0])


def test_a_subgraph_is_the_induced_one():
    """Against a slow twin that walks over all edges."""
    _, _, batch, _ = world("gcn")
    y, cut = torch.arange(12), torch.arange(12) % 3
    rows = GraphRows({"x": batch["x"], "y": y}, batch["edges"], cut, torch.tensor([2, 0, 1]))
    found = rows.take(torch.tensor([0, 2]))  # clusters 2 and 1
    nodes = [node for node in range(12) if node % 3 in (1, 2)]
    wanted = [
        [nodes.index(a), nodes.index(b)]
        for a, b in batch["edges"].T.tolist()
        if a in nodes and b in nodes
    ]
    assert found["y"].tolist() == nodes
    assert found["edges"].T.tolist() == wanted
    assert torch.equal(found["x"], batch["x"][nodes])
    whole = rows.take(torch.arange(3))
    assert torch.equal(whole["edges"], batch["edges"])
    assert not is_rowwise(rows)
    assert is_rowwise(TableRows({"y": y}, y))
    with pytest.raises(ValueError, match="set accumulate=1"):
        split_batch({**whole, "seed": torch.tensor(0)}, 2)


def test_each_step_is_fed_its_own_subgraph():
    _, _, batch, _ = world("gcn")
    rows = GraphRows(
        {"y": torch.arange(12)}, batch["edges"], torch.arange(12) // 4, torch.arange(3)
    )
    ids, weights = torch.tensor([[2, 0], [1, 0]]), torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    plan = Plan(ids, weights, torch.tensor([1.0, 0.5]), torch.tensor([7, 8]))
    first, second = list(read_batches(rows, plan, draws_noise=True))
    assert first[0]["y"].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert second[0]["y"].tolist() == [4, 5, 6, 7]
    assert second[0]["weight"].tolist() == [1.0]
    assert [int(first[0]["seed"]), int(second[0]["seed"]), second[1]] == [7, 8, 0.5]


def test_the_loss_is_the_mean_over_labelled_nodes():
    """Logits 0: log 2 a node, whatever is not labelled; nothing labelled gives 0."""
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [2.0, 0.0]])
    objective = NodeLosses(Classes(), lambda params, batch, kept: (logits, {}))
    y = torch.tensor([1, 0, 0])
    weight = torch.tensor([0.25, 0.75])
    shown = {"y": mask_labels(y, torch.tensor([True, False, True])), "weight": weight}
    losses, _ = objective({}, shown, {})
    wanted = (torch.log(torch.tensor(2.0)) + torch.log1p(torch.exp(torch.tensor(-2.0)))) / 2
    torch.testing.assert_close(losses, wanted.expand(2))
    none = {"y": torch.full((3,), -1), "weight": weight}
    assert objective({}, none, {})[0].tolist() == [0.0, 0.0]


def test_clusters_are_balanced_and_keep_edges_together():
    """A ring of 60: seven arcs cut few edges; sizes stay within a tenth, and one node."""
    ring = mirror_edges(torch.stack([torch.arange(60), (torch.arange(60) + 1) % 60]))
    owner = cut_clusters(ring, 60, 7)
    assert owner.unique().tolist() == list(range(7))
    sizes = owner.bincount()
    assert int(sizes.max()) <= 10
    assert int(sizes.min()) >= 7
    assert int((owner[ring[0]] != owner[ring[1]]).sum()) // 2 <= 14
    assert torch.equal(owner, cut_clusters(ring, 60, 7))
    assert cut_clusters(torch.zeros(2, 0, dtype=torch.long), 5, 2).bincount().tolist() == [3, 2]
    with pytest.raises(ValueError, match="clusters=9 of 5 nodes"):
        cut_clusters(torch.zeros(2, 0, dtype=torch.long), 5, 9)


def test_projected_features_are_fixed_and_keep_angles():
    x = torch.eye(40)[:10] * 5
    found = project_features(x, 4000)
    assert torch.equal(found, project_features(x, 4000))
    torch.testing.assert_close(found @ found.T, torch.eye(10), atol=0.1, rtol=0)


def test_choices_that_cannot_be():
    rng = stream(0, "net")
    with pytest.raises(ValueError, match="choose one of"):
        graphnet("gat", (3, 2), rng)
    with pytest.raises(ValueError, match="below 1"):
        graphnet("gcn", (3, 2), rng, dropout=1.0)
    model = graphnet("gcn", (3, 2), rng)
    with pytest.raises(ValueError, match="'edges'"):
        model.logits(model.params, {"x": torch.zeros(2, 3)}, {})


def test_layers_agree_with_torch_geometric():
    """A peer, where it is installed."""
    nn = pytest.importorskip("torch_geometric.nn")
    _, params, batch, _ = world("gcn", (5, 3))
    model, _, _, _ = world("gcn", (5, 3))
    peer = nn.GCNConv(5, 3)
    peer.lin.weight.data, peer.bias.data = params["layer1.w"].T, params["layer1.b"]
    torch.testing.assert_close(model.logits(params, batch, {}), peer(batch["x"], batch["edges"]))
    model, params, batch, _ = world("sage", (5, 3))
    peer = nn.SAGEConv(5, 3)
    peer.lin_r.weight.data = params["layer1.w"][0].T
    peer.lin_l.weight.data, peer.lin_l.bias.data = params["layer1.w"][1].T, params["layer1.b"]
    torch.testing.assert_close(model.logits(params, batch, {}), peer(batch["x"], batch["edges"]))
