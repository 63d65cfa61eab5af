"""``moiety run mops``: records in, gate taught, rounds, report, predictions, an adapter out."""

import copy
import gzip
import json

import pytest
import torch
from torch.testing import assert_close

from moiety import load_model
from moiety.core.ledger import read_ledger
from moiety.core.rows import chunk_positions, fit_chunk
from moiety.data.records import (
    RecordColumns,
    Records,
    encode_records,
    read_records,
    show_tokens,
)
from moiety.data.skills import make_skill_records
from moiety.prompts import PromptedLM, save_adapter
from moiety.prompts.base import Letters, open_language
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields
from moiety.recipes.prepare import make_seed_network, prepare_seed_data
from moiety.run import cli
from moiety.serve.export import Adapting
from moiety.tasks.answers import Answers

SMALL = [
    "--rounds",
    "2",
    "--evaluate-every",
    "1",
    "--checkpoint.every",
    "1",
    "--lm.length",
    "24",
    "--lm.experts",
    "2",
    "--lm.gate-hidden",
    "4",
    "--engine",
    "serial",
]


def write_records(path, skills=("greet", "refuse"), rows=40, column="skill"):
    """Write requests of some skills as JSON lines."""
    records = make_skill_records(4 * rows)
    some = [
        {"instruction": ask, "response": told, column: skill}
        for ask, told, skill in zip(records.requests, records.answers, records.skills, strict=True)
        if skill in skills
    ]
    path.write_text("\n".join(map(json.dumps, some)) + "\n")
    return path


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A run of mops on records of a file's, two skills, two rounds."""
    folder = tmp_path_factory.mktemp("mops")
    data = write_records(folder / "records.jsonl", column="topic")
    words = ["run", "mops", "--methods", "mops", "--data", str(data), "--skill", "topic"]
    assert (
        cli.main([*words, *SMALL, "--population.workers", "4", "--out", str(folder / "run")]) == 0
    )
    return folder


def test_a_run_on_records_of_ones_own(played):
    """Workers hold one skill each, bytes are those of prompts and gate, and routes are by skill."""
    ledger = read_ledger(played / "run" / "ledger.jsonl")
    assert ledger.start.classes == ["greet", "refuse"]
    assert all(sorted(map(bool, row)) == [False, True] for row in ledger.start.seen)
    state = load_model(played / "run" / "final").params
    assert {name.partition(".")[0] for name in state} == {"prompts", "gate"}
    whole = 4 * sum(t.numel() for t in state.values())
    assert all(one.down_bytes == whole * len(one.workers) for one in ledger.rounds)
    routes = torch.tensor(ledger.evaluations[-1].routes)
    assert routes.shape == (2, 2)
    assert routes.sum() == sum(ledger.evaluations[-1].groups["seen"].rows) / 3  # "hi" and the end
    assert "Which expert gets which skill" in (played / "run" / "report.html").read_text()


def test_a_run_resumes_bit_for_bit(played, tmp_path):
    """From the checkpoint of round 1, in a new process's stead: the same numbers."""
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(played / "run", copy)
    assert cli.main(["resume", str(copy), "--at", "1"]) == 0
    straight, again = (load_model(one / "final").params for one in (played / "run", copy))
    assert straight.keys() == again.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, again[name]), name


def test_a_finished_model_tells_skills_apart(played, capsys):
    """``predict`` scores answers by skill, and labels have no say: the gate reads requests."""
    data = str(played / "records.jsonl")
    capsys.readouterr()
    assert cli.main(["predict", str(played / "run"), "--data", data, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["greet"]["records"] == told["refuse"]["records"] == 40
    assert told["all"]["perplexity"] > 1
    served = load_model(played / "run" / "final")
    x = prepare_seed_data(RECIPES["mops"].record, 0).data.x[:2, :24]
    other = torch.where(x < -1, torch.full_like(x, -9), x)
    assert isinstance(served.model, PromptedLM)
    read = served.model.common
    assert torch.equal(read({"x": x})["embed"], read({"x": other})["embed"])


def test_the_result_is_an_adapter_of_peft(played, tmp_path):
    """Saved in PEFT's form and opened there, it scores as the finished model does."""
    from tests.prompts.test_adapters import load

    served = load_model(played / "run" / "final")
    assert isinstance(served.model, PromptedLM)
    save_adapter(served.model, served.params, tmp_path)
    bare = copy.deepcopy(open_language("", "float32", "eager").model)
    tuned = load(bare, tmp_path)
    x = prepare_seed_data(RECIPES["mops"].record, 0).data.x[:2, :9]  # of requests alone
    expected = served.model.logits(served.params, {"x": x.clamp_min(2)}, {})
    with torch.no_grad():
        found = tuned(input_ids=x.clamp_min(2)).logits
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["mops", "deep", "single"])
def test_every_rival_of_prompts_is_an_adapter_of_peft(form, tmp_path):
    """What was learnt, opened by PEFT in a fresh copy of the language model, scores alike."""
    from tests.prompts.test_adapters import load

    record = override_fields(RECIPES["mops"].record, {"lm": {"experts": 2, "prompts": 3}})
    net = make_seed_network(record, prepare_seed_data(record, 0), 0)
    assert isinstance(net, PromptedLM)
    model = net if form == "mops" else net.make_single(deep=form == "deep")
    assert isinstance(model, Adapting)
    rng = torch.Generator().manual_seed(1)
    learnt = {n: t + 0.3 * torch.randn(t.shape, generator=rng) for n, t in model.params.items()}
    model.save_adapter(learnt, tmp_path)
    tuned = load(copy.deepcopy(open_language("", "float32", "eager").model), tmp_path)
    x = torch.randint(3, 90, (2, 9), generator=rng)
    with torch.no_grad():
        found = tuned.eval()(input_ids=x).logits[:, -9:]
    assert_close(found, model.logits(learnt, {"x": x}, {}), rtol=1e-4, atol=1e-5)


def test_a_finished_run_is_exported_for_peft(played, tmp_path, capsys):
    run, out = str(played / "run"), tmp_path / "adapter"
    assert cli.main(["export", run, "--format", "peft", "--out", str(out)]) == 0
    assert json.loads((out / "adapter_config.json").read_text())["gate_taught"]
    assert cli.main(["export", run, "--out", str(tmp_path / "file")]) != 0
    assert "choose --format peft" in capsys.readouterr().err


def test_a_language_model_is_named_by_its_folder_alone(capsys, tmp_path):
    """``--lm FOLDER`` is ``--lm.folder FOLDER``; of other groups their options are named."""
    folder = str(tmp_path / "nowhere")
    for word in ("--lm", "--lm.folder"):
        assert cli.main(["run", "mops", word, folder, "--out", str(tmp_path / "run")]) != 0
        assert f"lm.folder={folder!r} is no folder" in capsys.readouterr().err
    assert cli.main(["run", "mops", "--local", "3", "--out", str(tmp_path / "run")]) != 0
    assert "it has --local.optimizer, --local.lr," in capsys.readouterr().err


def test_the_rivals_start_from_the_same_tokens():
    """One prompt in front is plain prompt tuning; deep prompts are the experts without a gate."""
    record = override_fields(RECIPES["mops"].record, {"lm": {"experts": 2, "prompts": 3}})
    base = prepare_seed_data(record, 0)
    net = make_seed_network(record, base, 0)
    assert isinstance(net, PromptedLM)
    single, deep = net.make_single(deep=False), net.make_single(deep=True)
    x = base.data.x[:2, :12]
    bare = open_language("", "float32", "eager").model
    embed = bare.get_input_embeddings()
    with torch.no_grad():
        text = torch.cat([embed(net.first.flatten()).expand(2, -1, -1), embed(show_tokens(x))], 1)
        expected = bare(inputs_embeds=text).logits[:, 6:]
    assert_close(single.logits(single.params, {"x": x}, {}), expected, rtol=1e-4, atol=1e-5)
    assert set(deep.params) == {n for n in net.params if n.startswith("prompts")}
    with torch.no_grad():
        alone = bare(input_ids=show_tokens(x)).logits
    assert not torch.allclose(deep.logits(deep.params, {"x": x}, {}), alone)


def test_records_become_tokens_by_hand():
    """The answer and an end are scored; what is too long loses the front of its request."""
    letters = Letters()
    records = Records(["ab", "abcdefgh"], ["x", "yz"], [], [], RecordColumns())
    x, y, cut = encode_records(records, letters, 6)
    e = {letter: number for number, letter in enumerate(letters.names)}
    assert x[0].tolist() == [e["a"], e["b"], e["\n"], -2 - e["x"], -1, -1]
    assert y[0].tolist() == [-1, -1, e["x"], letters.end, -1, -1]
    assert x[1].tolist() == [e["f"], e["g"], e["h"], e["\n"], -2 - e["y"], -2 - e["z"]]
    assert y[1].tolist() == [-1, -1, -1, e["y"], e["z"], letters.end]
    assert cut == 1
    assert show_tokens(x[1]).tolist() == letters.encode("fgh\nyz")


@pytest.mark.parametrize("packed", [False, True])
def test_columns_are_found_by_their_names(tmp_path, packed):
    """Instruction, then context, a line end between; an empty context is none."""
    text = '{"instruction": "a", "context": "b", "response": "c", "category": "d"}\n\n'
    text += '{"instruction": "e", "context": "", "response": "f", "category": "g"}\n'
    path = tmp_path / ("some.jsonl.gz" if packed else "some.jsonl")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = read_records(path, RecordColumns())
    assert found.requests == ["a\nb", "e"]
    assert found.answers == ["c", "f"]
    assert found.skills == ["d", "g"]


BAD = [
    ("", "is empty"),
    ("\n", "has no record"),
    ("{", "line 1 is no JSON"),
    ("[1]", "line 1 is no object"),
    ('{"a": "b"}', "say --target COLUMN"),
    ('{"response": "b"}', "say --features COLUMNS"),
    ('{"input": "a", "output": ""}', "record 1 has no 'output'"),
    ('{"input": "a", "output": NaN}', "record 1 has no 'output'"),
    ('{"input": " ", "output": "b"}', "record 1 asks nothing"),
    ('{"input": "a", "output": "b", "skill": null}', "record 1 has no skill in column 'skill'"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_records_are_told(tmp_path, text, words):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_records(path, RecordColumns())


REFUSED = [
    (["--skill", "kind"], "has columns of its own"),
    (["--lm.folder", "nowhere"], "'nowhere' is no folder"),
    (["--lm.dtype", "int3"], "lm.dtype='int3'"),
    (["--lm.length", "2"], "lm.length=2; choose at least 4"),
    (["--lm.length", "600"], "lm.length=600, but the language model reads 512 tokens"),
    (["--lm.experts", "0"], "lm.experts=0; choose a whole number of at least 1"),
    (["--lm.gate-layer", "9"], "gate_layer=9, but the model has 2 blocks"),
    (["--lm.top-k", "9"], "top_k=9 of num_experts=4"),
    (["--drop", "a"], "records do not read --drop"),
    (["--mops.k", "9"], "mops.k=9, but the model has 4 experts"),
    (
        ["--population.anchors", "2", "--participation.anchors", "1"],
        "no common expert to find anchors with",
    ),
    (["--net", "mlp", "--skill", "kind"], "is a column of instruction records"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_choices_that_do_not_fit_are_refused(words, told, capsys, tmp_path):
    command = ["run", "mops", "--methods", "mops", "--out", str(tmp_path / "run"), *words]
    assert cli.main(command) == 1
    assert told in capsys.readouterr().err


def test_a_skill_column_of_one_skill_is_refused(tmp_path, capsys):
    data = write_records(tmp_path / "one.jsonl", skills=("greet",))
    command = ["run", "mops", "--data", str(data), "--skill", "skill"]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 1
    assert "all records have 'greet'" in capsys.readouterr().err


def test_another_base_is_refused(played, tmp_path, monkeypatch):
    """What was trained on one language model does not open on another."""
    from moiety.core.errors import RunError
    from moiety.prompts import network

    monkeypatch.setattr(network, "digest_base", lambda constants: "other")
    with pytest.raises((RunError, ValueError), match="not the one that this was trained with"):
        load_model(played / "run" / "final")


def test_chunks_fit_into_memory():
    """A language model's answers are millions of numbers a row, so few rows are scored at once."""
    from moiety.core.rows import TableRows
    from moiety.run.evaluate import choose_chunk

    y = torch.zeros(300, 65, dtype=torch.int64)
    rows = TableRows({"x": y[:, 1:], "y": y}, torch.arange(300))
    words = tuple(map(str, range(50_000)))
    count = choose_chunk(rows, Answers(words, ("a",)))
    assert count * 65 * 50_000 <= 2**26
    assert max(map(len, chunk_positions(rows, count))) == count == fit_chunk(2048, 65 * 50_000)


def test_answers_score_the_answer_alone():
    """Rows, skills and metrics by hand: two tokens, one of probability 1/2, one of 1/4."""
    objective = Answers(("a", "b"), ("one", "two"))
    y = torch.tensor([[1, -1, 0, 1]])
    out = torch.tensor(
        [[[9.0, 0.0], [0.0, 0.0], [3.0**0.5, 3.0**0.5 - torch.log(torch.tensor(3.0))]]]
    )
    assert objective.check(y) is not None
    assert objective.stratify(y).tolist() == [1]
    wanted = (torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(4.0))) / 2
    assert_close(objective.rows(out, y), wanted[None])
    answer, truth = objective.select(objective.answer(out), y)
    assert truth.tolist() == [0, 1]
    assert objective.metrics[0].value(objective.metrics[0].sums(answer, truth)) == pytest.approx(
        8**0.5, rel=1e-5
    )
    with pytest.raises(ValueError, match="skills from 2 to 2, but there are 2"):
        objective.check(torch.tensor([[2, 0, 0]]))


def test_a_plan_says_what_to_do_instead(capsys):
    assert cli.main(["plan", "mops"]) == 1
    assert "measure its first rounds by moiety profile" in capsys.readouterr().err
