import pytest
import torch

from moiety.data.cache import VARIABLE
from moiety.data.datasets import DATASETS, load_dataset
from moiety.data.modes import draw_templates, shift_images


@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [
        ("digits", (1797, 1, 8, 8), 10),
        ("wine", (178, 13), 3),
        ("breast-cancer", (569, 30), 2),
        pytest.param("cora", (2708, 1433), 7, marks=pytest.mark.needs_data),
        pytest.param("coauthor-cs", (18333, 6805), 15, marks=pytest.mark.needs_data),
        ("modes", (12000, 1, 12, 12), 10),
        pytest.param("fashion-mnist", (70000, 1, 28, 28), 10, marks=pytest.mark.needs_data),
        pytest.param("femnist", (18796, 1, 28, 28), 62, marks=pytest.mark.needs_data),
        pytest.param("cifar10", (40000, 3, 32, 32), 10, marks=pytest.mark.needs_data),
    ],
)
def test_sets_have_their_shape(name, shape, num_classes):
    data = load_dataset(name)
    assert data.name == name
    assert data.x.shape == shape
    assert data.x.dtype == torch.float32
    assert len(data.classes) == num_classes
    assert data.y is not None
    assert data.y.unique().tolist() == list(range(num_classes))
    assert data.source
    assert data.licence
    if data.x.ndim == 4 and name != "modes":
        assert float(data.x.min()) == 0
        assert float(data.x.max()) == 1


@pytest.mark.needs_data
def test_official_splits_and_writers():
    femnist = load_dataset("femnist")
    assert femnist.test is not None
    assert femnist.groups is not None
    assert int(femnist.test.sum()) == 1685 + 2403
    assert len(femnist.groups.unique()) == 184
    clothes = load_dataset("fashion-mnist")
    assert clothes.test is not None
    assert clothes.y is not None
    assert clothes.y[~clothes.test].bincount().tolist() == [6000] * 10
    assert clothes.y[clothes.test].bincount().tolist() == [1000] * 10


def test_modes_are_fixed_and_balanced():
    data = load_dataset("modes")
    assert data.y is not None
    assert data.test is not None
    assert torch.equal(data.x, load_dataset("modes").x)
    assert data.y[data.test].bincount().tolist() == [200] * 10
    # A template varies by 1 around its mean, and noise on 144 pixels by 143/144.
    assert float(data.x.var((1, 2, 3), correction=0).mean()) == pytest.approx(2 - 1 / 144, rel=0.01)


def test_shift_agrees_with_roll():
    x = draw_templates(3, torch.Generator().manual_seed(0))
    shift = torch.tensor([[1, 0], [-1, 1], [0, -1]])
    done = shift_images(x, shift)
    for image, by, moved in zip(x, shift.tolist(), done, strict=True):
        assert torch.equal(image.roll(by, (0, 1)), moved)
    assert torch.allclose(x.std((1, 2), correction=0), torch.ones(3))


def test_unknown_name_says_the_nearest():
    with pytest.raises(ValueError, match="nearest: cifar10"):
        load_dataset("cifar-10")


def test_missing_folder_and_file_say_the_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match="MOIETY_DATA is not set; set it to the folder"):
        load_dataset("femnist")
    with monkeypatch.context() as empty:
        empty.setattr("moiety.data.cache.find_data_folder", lambda: tmp_path)
        with pytest.raises(ValueError, match="or bring it: moiety data fetch shakespeare"):
            load_dataset("shakespeare")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=r"femnist_sample.npz does not exist; put .* there"):
        load_dataset("femnist")


def test_every_entry_says_what_it_is():
    assert all(entry.about and entry.needs for entry in DATASETS.values())


@pytest.mark.needs_data
def test_graphs_are_those_of_their_papers():
    """Counts of nodes, edges and masks as docs/data.md and the files' own table give them."""
    for name, edges, train, validation in (
        ("cora", 5278, 140, 500),
        ("coauthor-cs", 81894, 300, 450),
    ):
        data = load_dataset(name)
        graph = data.graph
        assert graph is not None
        assert data.test is not None
        assert graph.edges.shape == (2, 2 * edges)
        assert not (graph.edges[0] == graph.edges[1]).any()
        assert (int(graph.train.sum()), int(graph.validation.sum())) == (train, validation)
        assert not (graph.train & graph.validation | graph.train & data.test).any()
    apart = load_dataset("cora").test
    assert apart is not None
    assert int(apart.sum()) == 1000


def test_a_graph_that_is_not_there_says_where_to_put_it(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"graph_cora.npz is needed, but .* {VARIABLE} is not set"):
        load_dataset("cora")
