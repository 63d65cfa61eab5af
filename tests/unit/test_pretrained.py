"""A pretrained encoder as a network: what it computes, what is frozen, what is refused."""

import json
import shutil

import pytest
import torch
from torch.testing import assert_close

from moiety.core.rows import TableRows, TransformedRows
from moiety.engine.choose import make_engine
from moiety.methods import METHODS
from moiety.methods.task import LocalTraining, Task
from moiety.models.folder import open_encoder
from moiety.models.gated import common_expert
from moiety.models.networks import NETWORKS
from moiety.models.pretrained import build_pretrained, rebuild_pretrained
from moiety.rounds.synchronous import initialise_state, play_round
from tests.encoders import CONFIGS, WORDS, make_tokenizer, save_encoder

TEXTS = ["good film", "the film was bad", "", "the film was good and warm and fine"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def make(folder, **options):
    return build_pretrained((8, 16), 3, torch.Generator().manual_seed(0), folder=folder, **options)


def rows(folder, length=8):
    """Make rows of the texts, [4, length], -1 where there is no token."""
    x = torch.full((len(TEXTS), length), -1)
    for row, some in enumerate(open_encoder(folder).tokenize(TEXTS, length)):
        x[row, : len(some)] = torch.tensor(some)
    return x


@pytest.mark.parametrize("kind", sorted(CONFIGS))
@pytest.mark.parametrize("blocks", [-1, 0, 2])
def test_it_answers_as_the_library_does(kind, blocks, tmp_path):
    """The mean over a text's own tokens of the last hidden layer, whatever the padding beside."""
    where = save_encoder(tmp_path, kind)
    net, x = make(where, blocks=blocks), rows(where)
    module = open_encoder(where).module
    for row, some in enumerate(x):
        with torch.no_grad():
            alone = module(input_ids=some[some >= 0][None]).last_hidden_state.mean(1)
        wanted = alone @ net.params["head.weight"].T + net.params["head.bias"]
        assert_close(net.logits(net.params, {"x": x}, {})[row], wanted[0], rtol=1e-4, atol=1e-5)
    ahead = net.read_ahead(x)
    assert ahead.shape == {-1: (4, 8), 0: (4, 8), 2: (4, 8, 9)}[blocks]
    assert_close(net.logits(net.params, {"x": ahead}, {}), net.logits(net.params, {"x": x}, {}))


def test_rows_do_not_hang_on_how_many_are_read_together(folder):
    """Where no gradient is asked for, many rows are read some at a time."""
    net, x = make(folder, blocks=1), rows(folder).repeat(20, 1)
    with torch.no_grad():
        found = net.logits(net.params, {"x": x}, {})
    assert_close(found, net.logits(net.params, {"x": x}, {}))


def test_what_is_trained_and_what_is_not(folder):
    """Blocks count from the top; with -1 nothing is frozen, with 0 nothing but the head is not."""
    every = set(open_encoder(folder).tensors())
    for blocks, begun in (
        (0, ()),
        (1, ("encoder.layer.2.",)),
        (3, ("encoder.layer.",)),
        (-1, ("",)),
    ):
        net = make(folder, blocks=blocks)
        trained = {name for name in every if name.startswith(begun)} if begun else set()
        assert set(net.params) == trained | {"head.weight", "head.bias"}
        assert set(net.constants) == every - trained


def test_a_redraw_is_a_fresh_head_on_pretrained_blocks(folder):
    net = make(folder, blocks=1)
    again = net.redraw(torch.Generator().manual_seed(5))
    for name, tensor in net.params.items():
        assert torch.equal(again[name], tensor) != name.startswith("head.")


def test_it_moves_whole(folder):
    moved = make(folder, blocks=1).place("meta")
    assert {t.device.type for t in (*moved.params.values(), *moved.constants.values())} == {"meta"}


def test_of_shapes_alone_it_is_a_plan(folder):
    """Under the device ``meta`` nothing has numbers, and the shapes are those of a run."""
    net = make(folder, blocks=1)
    with torch.device("meta"):
        shapes = make(folder, blocks=1)
        ahead = shapes.read_ahead(torch.zeros(2, 8, dtype=torch.int64))
    assert ahead.is_meta
    assert ahead.shape == (2, 8, 9)
    for mine, other in ((net.params, shapes.params), (net.constants, shapes.constants)):
        assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in other.items()}


@pytest.mark.parametrize("blocks", [-1, 0, 2])
@pytest.mark.parametrize("name", ["fedavg", "ddome"])
def test_engines_agree_and_nobody_moves_what_is_frozen(folder, name, blocks):
    """The attention is one that stacks, without a loop over workers that torch would warn of."""
    net = make(folder, blocks=blocks)
    x = rows(folder).repeat(3, 1)
    with torch.no_grad():
        table = {"x": net.read_ahead(x) if blocks >= 0 else x, "y": torch.arange(12) % 3}
    data = {w: TableRows(table, torch.arange(w, 12, 2)) for w in range(2)}
    before = {name: t.clone() for name, t in net.constants.items()}
    common = common_expert(net, net.params, table["x"])
    task = Task(net, LocalTraining(lr=0.05, batch=4), workers=2, common=common, classes=3)
    method = METHODS[name].make(task)
    if method.transform is not None:
        opened = TransformedRows(data.__getitem__, method.transform)
        data = {worker: opened(worker) for worker in data}
    told = {}
    for engine in ("serial", "vectorized", "pool"):
        made = make_engine(engine, data.__getitem__)
        told[engine] = play_round(method, made, initialise_state(method), [0, 1], 0).params
        made.close()
    for key, wanted in told["serial"].items():
        assert torch.equal(told["pool"][key], wanted)
        assert_close(told["vectorized"][key], wanted, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(t, method.model.params[n]) for n, t in told["serial"].items())
    for key, tensor in before.items():
        assert torch.equal(net.constants[key], tensor)


REFUSED = [
    ({"folder": ""}, "there is no encoder; say --pretrained.folder FOLDER"),
    ({"folder": "nowhere"}, "'nowhere' is no folder"),
    ({"blocks": 4}, "pretrained.blocks=4, but the encoder has 3; choose 0"),
    ({"blocks": -2}, "pretrained.blocks=-2"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_choices_that_do_not_fit_are_refused(folder, options, words):
    with pytest.raises(ValueError, match=words):
        make(**{"folder": folder, **options})


def spoil_type(where):
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))


def spoil_numbers(where):
    from safetensors.torch import load_file, save_file

    tensors = load_file(where / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"][0] = torch.nan
    save_file(tensors, where / "model.safetensors", metadata={"format": "pt"})


def lose_numbers(where):
    from safetensors.torch import load_file, save_file

    tensors = load_file(where / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, where / "model.safetensors", metadata={"format": "pt"})


def pickle_numbers(where):
    from safetensors.torch import load_file

    torch.save(load_file(where / "model.safetensors"), where / "pytorch_model.bin")
    (where / "model.safetensors").unlink()


def cut_file(name):
    def cut(where):
        path = where / name
        path.write_bytes(path.read_bytes()[:-100])

    return cut


def widen_config(where):
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps({**config, "intermediate_size": 13}))


def drop_tokenizer(where):
    """Take the tokenizer's files away: the library makes one of special tokens alone."""
    for file in where.glob("tokenizer*"):
        file.unlink()


def add_words(where):
    make_tokenizer((*WORDS, "one", "two", "three", "four")).save_pretrained(where)


SPOILED = [
    (cut_file("model.safetensors"), "holds no encoder that opens"),
    (cut_file("tokenizer.json"), "holds no encoder that opens"),
    (cut_file("config.json"), "holds no encoder that opens"),
    (widen_config, "holds no encoder that opens"),
    (add_words, "its tokenizer has 17 tokens, but the encoder 16"),
    (lambda where: (where / "config.json").unlink(), "holds no encoder that opens"),
    (lambda where: (where / "tokenizer.json").unlink(), "holds no encoder that opens"),
    (drop_tokenizer, "its tokenizer is not there, or knows no word; give a folder"),
    (lambda where: (where / "adapter_config.json").write_text("{}"), "holds an adapter"),
    (spoil_type, "of type 'gpt2', which is no encoder that is known here"),
    (spoil_numbers, "encoder.layer.1.output.dense.bias has numbers that are not finite"),
    (lose_numbers, r"lacks \['encoder.layer.1.output.dense.bias'\]"),
    (pickle_numbers, "holds no encoder that opens"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILED)
def test_a_folder_that_is_no_encoder_is_told(folder, spoil, words, tmp_path):
    where = tmp_path / "copy"
    shutil.copytree(folder, where)
    spoil(where)
    with pytest.raises(ValueError, match=words):
        open_encoder(str(where))


@pytest.mark.parametrize("change", [{"seed": 1}, {"words": ("bad", "good")}])
def test_another_encoder_is_not_the_one_of_training(folder, change, tmp_path):
    """Be it other numbers or another tokenizer; a copy elsewhere is the same."""
    shutil.copytree(folder, tmp_path / "same")
    config = {n: v for n, v in make(folder).config().items() if n != "kind"}
    rng = torch.Generator()
    same = rebuild_pretrained(rng, **{**config, "folder": str(tmp_path / "same")})
    assert same.opened.mark == config["mark"]
    other = save_encoder(tmp_path / "other", **change)
    with pytest.raises(ValueError, match="is not the one that this was trained with"):
        rebuild_pretrained(rng, **{**config, "folder": other})


def test_it_is_registered_under_its_name():
    assert NETWORKS["pretrained"].make is build_pretrained
