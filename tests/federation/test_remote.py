"""Nodes and server of a federation, with a post of our own in the place of a network."""

import math
import tomllib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch

from moiety.core.axes import Part
from moiety.core.errors import RunError
from moiety.core.fold import Precision
from moiety.core.ledger import read_ledger
from moiety.core.state import Job, Record, Reply, Share
from moiety.engine.drawer import Drawer
from moiety.engine.letters import read_job, read_letter, read_reply, write_job, write_reply
from moiety.engine.patience import Waiting
from moiety.engine.post import Returned
from moiety.engine.remote import Outbox, Remote
from moiety.federation.desk import Desk
from moiety.federation.node import NodeConfig, read_node
from moiety.federation.post import FlowerPost, open_message
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields
from moiety.run.cli import main
from moiety.run.federate import FederationPlan, play_federation, read_plan, resolve_plan
from moiety.run.group import start_group
from tests.waiting import LAST_S

FIELDS = {
    "methods": ["ddome"], "seeds": 1, "rounds": 3, "evaluate_every": 9,
    "population": {"workers": 4, "anchors": 3, "unseen": 2},
    "participation": {"size": 4}, "mlp": {"hidden": [4]}, "common": {"epochs": 2},
    "local": {"steps": 2},
}  # fmt: skip
NAMES = ("north", "east", "south", "west")
ALL = Waiting(quorum=1.0, least_s=1e-3, patience=1e-3, most_s=LAST_S, join_s=LAST_S, poll_s=1e-3)
QUICK = replace(ALL, quorum=0.25, join_s=1e-3)


@dataclass
class LocalPost:
    """Nodes in this process; some of them are away or hostile from some letter on."""

    desks: dict[str, Desk]
    away: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    spoil: dict = field(default_factory=dict)
    letters: list = field(default_factory=list)
    kill_after: float = math.inf
    back: dict[str, Returned] = field(default_factory=dict)
    came: int = 0

    def find_nodes(self):
        return {n: place for place, n in enumerate(self.desks) if n not in self.away}

    def send(self, node, letter, limit_s, /):
        name, number = list(self.desks)[node], str(len(self.letters))
        self.letters.append((name, letter))
        if name not in self.silent:
            answer = self.desks[name].answer(letter)
            self.back[number] = self.spoil.get(name, Returned)(answer)
        return number

    def collect(self, numbers, /):
        here = [one for one in numbers if one in self.back][:1]
        if self.came >= self.kill_after:
            raise KeyboardInterrupt
        self.came += len(here)
        return {one: self.back.pop(one) for one in here}


def make_post(tmp_path, **more):
    return LocalPost(
        {n: Desk(NodeConfig(n, "digits", tmp_path / "nodes" / n)) for n in NAMES}, **more
    )


def make_plan(tmp_path, waiting=ALL, **fields):
    plain = {**FIELDS, **fields}
    return FederationPlan(tmp_path / "run", "quickstart", plain, NAMES, waiting)


def final_bytes(folder):
    return (folder / "final" / "model.safetensors").read_bytes()


def play_serial(folder, **fields):
    folder.mkdir(exist_ok=True)
    record = override_fields(RECIPES["quickstart"].record, {**FIELDS, **fields, "engine": "serial"})
    return start_group("quickstart", record, folder)[0]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    return final_bytes(play_serial(tmp_path_factory.mktemp("serial")))


def test_the_bytes_are_those_of_serial_also_after_a_kill(tmp_path, wanted):
    """The server is killed in the middle of a round; replies that had come are not asked again."""
    plan, post = make_plan(tmp_path), make_post(tmp_path, kill_after=13)
    with pytest.raises(KeyboardInterrupt):
        play_federation(plan, post)
    post.kill_after = math.inf
    final = play_federation(plan, post)
    assert final_bytes(final.parent) == wanted
    # A round is one question (anchors are not asked) and four jobs. Of 15 letters 13 were answered
    # when the server was killed, and two were sent again.
    assert len(post.letters) == 17
    rounds = read_ledger(plan.folder / "ledger.jsonl").rounds
    assert [len(one.workers) for one in rounds] == [4, 4, 4]


def test_a_round_goes_on_without_the_lost_and_the_hostile(tmp_path):
    """One node is away, one is silent, one sends bytes that are no letter; one is left."""
    post = make_post(
        tmp_path, away={"north"}, silent={"east"}, spoil={"south": lambda _: Returned(b"?" * 99)}
    )
    plan = make_plan(tmp_path, QUICK, rounds=1, methods=["fedavg"])
    play_federation(plan, post)
    (told,) = read_ledger(plan.folder / "ledger.jsonl").rounds
    reasons = {NAMES[one.worker]: one.reason for one in told.refused}
    assert [NAMES[work.worker] for work in told.workers] == ["west"]
    assert reasons["north"] == "no node is here that calls itself 'north'"
    assert reasons["east"].startswith("no reply within")
    assert reasons["south"].startswith("these bytes are no letter")


def test_a_node_that_stands_still_costs_one_grace_time(tmp_path):
    """Who was given up is asked, but not waited for until it answers, be it an old letter."""
    post = make_post(tmp_path, silent={"east"})
    remote = Remote(post, [], NAMES, {}, QUICK, Drawer(tmp_path / "d"))
    job = Job(0, 0, 1, Share(), {})
    letter = write_job(job, {"name": "other"})  # it would answer with a fault, which is an answer
    box = Outbox(0.0, {post.send(1, letter, 1.0): job}, {0: Reply(0, Share(), {})})
    remote.give_up(box)
    assert remote.silent == {"0": "east"}
    box = Outbox(math.inf, {"9": job}, {0: Reply(0, Share(), {})})
    assert remote.is_over(box, "solve0", 2)
    assert not remote.is_over(box, "solve0", 8)  # too few are there
    post.back["0"] = Returned(b"late")
    remote.collect(box, "solve0")
    assert not remote.silent
    assert not remote.is_over(box, "solve0", 2)


def test_nobody_answers_and_the_run_ends(tmp_path):
    plan = make_plan(tmp_path, QUICK, rounds=1, methods=["fedavg"])
    with pytest.raises(Exception, match="no reply was accepted, 2 times over"):
        play_federation(plan, make_post(tmp_path, away=set(NAMES)))
    end = read_ledger(plan.folder / "ledger.jsonl").end
    assert end is not None
    assert end.status == "failed"


def test_a_node_does_its_own_jobs_on_its_own_data_alone(tmp_path):
    post, plan = make_post(tmp_path), make_plan(tmp_path, rounds=1, methods=["fedavg"])
    play_federation(plan, post)
    name, letter = post.letters[0]
    for desk, fault in (
        (
            Desk(NodeConfig("other", "digits", tmp_path / "x")),
            "the job is for 'north', but this node is",
        ),
        (
            Desk(NodeConfig(name, "wine", tmp_path / "x")),
            "the data of 'north', 'wine', are not those of",
        ),
    ):
        assert fault in read_reply(desk.answer(letter)).fault
    assert not read_reply(post.desks[name].answer(letter)).fault


def test_memory_begins_where_the_round_began(tmp_path):
    """The same letter asked again has the same answer, to the bit; of an older round none.

    The last answer is there still, as long as nothing changed; without it the work is done again.
    """
    keep = {"steps": 2, "momentum": 0.9, "optimizer_state": "keep"}
    wire = {"up": ["delta", "topk", "int8"], "down": ["int8"], "keep": 0.2}
    fields = {"methods": ["fedavg"], "local": keep, "rounds": 3, "wire": wire}
    post, plan = make_post(tmp_path), make_plan(tmp_path, **fields)
    final = play_federation(plan, post)
    assert final_bytes(final.parent) == final_bytes(play_serial(tmp_path / "serial", **fields))
    jobs = [letter for name, letter in post.letters if name == "west"]
    desk = post.desks["west"]
    kept = desk.answer(jobs[-1])
    elsewhere = replace(desk, node=replace(desk.node, data="wine"))
    assert "are not those of the server" in read_reply(elsewhere.answer(jobs[-1])).fault
    (desk.node.folder / "answer").unlink()
    again = [desk.answer(jobs[-1]) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != kept  # in the seconds of the work alone
    assert strip_seconds(again[0]) == strip_seconds(kept)
    assert "has gone on to round 3" in read_reply(desk.answer(jobs[1])).fault
    memory = desk.node.folder / "memory"
    for size in (90, 20, 0):
        memory.write_bytes(memory.read_bytes()[:size])
        assert "memory is damaged" in read_reply(desk.answer(jobs[1])).fault


def strip_seconds(letter):
    reply = read_reply(letter)
    return write_reply(replace(reply, record=replace(reply.record, work_s=0.0)))


def test_letters_bring_what_was_sent(tmp_path):
    part = Part({"h": torch.tensor([0, 2])}, ("a.*", "b"))
    piece = {"b": torch.randn(2, 3).bfloat16(), "a.w": torch.zeros(0, 4)}
    memory = {"m": {"b": torch.ones(2, 3)}}
    job = Job(2**62, 4, 7, Share(part, "anchor"), piece, memory, frozenset({"b"}))
    found, note = read_job(write_job(job, {"x": [1]}), lambda note, r: {"b": piece["b"]})
    assert note == {"x": [1]}
    assert (found.seed, found.round, found.worker, found.known) == (2**62, 4, 7, job.known)
    assert list(found.piece) == ["b", "a.w"]
    assert all(torch.equal(found.piece[n], t) for n, t in piece.items())
    assert found.share.part.names == part.names
    with pytest.raises(ValueError, match=r"lacks \['b'\]"):
        read_job(write_job(job, {}), lambda note, r: {})
    know = Precision(0.1, {"h": torch.tensor([1.0, 2.0])}, {"b": torch.ones(2, 3)})
    reply = Reply(7, Share(part), piece, know, {"top": torch.ones(2)}, Record(3, 9, 0.1), memory)
    back = read_reply(write_reply(reply))
    assert back.precision.scalar == 0.1
    assert back.record.loss_first == 0.1
    assert math.isnan(back.record.loss_last)
    assert write_reply(back) == write_reply(reply)


def test_letters_of_strangers_are_refused():
    good = write_reply(Reply(1, Share(), {"w": torch.ones(3)}))
    for cut in (0, 3, 8, 40, len(good) - 5):
        with pytest.raises(ValueError, match="no letter"):
            read_reply(good[:cut])
    for wrong in ({"record": {"rows": -1}}, {"record": {"rows": "many"}}, {"order": ["v"]}):
        head, tree = read_letter(good)
        from moiety.engine.letters import write_letter

        letter = write_letter({**head, **wrong}, [(["piece", "w"], tree["piece"]["w"])])
        with pytest.raises(ValueError, match=r"record|lacks"):
            read_reply(letter)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ["ddome", "fedavg"]}, "one method and one seed"),
        ({"schedule": {"speeds": {"values": [1.0, 2.0]}}}, "of a virtual clock"),
        ({"methods": ["fedper"]}, "parameters that never leave a node"),
        ({"population": {"workers": 5, "anchors": 3, "unseen": 2}}, "names 4 workers, but"),
        ({"rounds": 0}, "rounds=0; choose at least 1"),
        (
            {"engine": "pool", "log": ["mlflow"], "checkpoint": {"every": 5}},
            r"say \['engine', 'log', 'checkpoint.every'\], which a federation does not read",
        ),
    ],
)
def test_what_nodes_cannot_play_is_refused(tmp_path, fields, message):
    with pytest.raises(Exception, match=message):
        resolve_plan(make_plan(tmp_path, **fields))
    assert not (tmp_path / "run").exists()


def test_configurations_say_what_they_lack(tmp_path):
    with pytest.raises(ValueError, match="lacks data; start it with"):
        read_node({"name": "north"})
    with pytest.raises(ValueError, match=r"a node called '\.\./north': choose"):
        read_node({"name": "../north", "data": "digits"})
    with pytest.raises(ValueError, match=r"says \['port'\], which nothing reads"):
        read_node({"name": "north", "data": "digits", "port": 1})
    with pytest.raises(Exception, match="absolute path"):
        read_plan({"plan": "plan.toml"})
    (tmp_path / "plan.toml").write_text('recipe = "none"\nworkers = ["a"]\n')
    with pytest.raises(Exception, match="names the recipe 'none'"):
        read_plan({"plan": str(tmp_path / "plan.toml")})
    with pytest.raises(ValueError, match="quorum above 0"):
        Waiting(quorum=0.0)


def test_an_app_that_is_written_is_played(tmp_path):
    """What ``moiety flower new`` writes is Python that compiles, and a plan that is read."""
    app = tmp_path / "My app"
    words = ["flower", "new", str(app), "--workers", "a", "b", "--rounds", "2"]
    (tmp_path / "sample.csv").write_text("size,big\n1,no\n2,yes\n")
    other = ["--data", str(tmp_path / "sample.csv"), "--target", "large", "--method", "fedavg"]
    for more in (["--workers", "../x", "b"], ["--method", "fedper"], other):
        assert main([*words, *more]) == 1
        assert not app.exists()
    for more in (["--data", "nosuch.csv"], ["--rounds", "-1"]):
        assert main([*words, *more]) == 2
        assert not app.exists()
    assert main([*words, "--method", "fedavg"]) == 0
    for name in ("server_app.py", "client_app.py"):
        compile((app / name).read_text(), name, "exec")
    project = tomllib.loads((app / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-app"
    told = project["tool"]["flwr"]["app"]
    assert "fab-exclude" not in told  # flwr run refuses patterns without a file, as of a first run
    assert told["fab-include"] == ["/server_app.py", "/client_app.py"]
    plan = read_plan(project["tool"]["flwr"]["app"]["config"])
    assert (plan.recipe, plan.workers, plan.waiting) == ("quickstart", ["a", "b"], Waiting())
    spec, built = resolve_plan(plan)
    assert (spec.method, built.rounds, built.num_seen, spec.record.engine) == (
        "fedavg", 2, 2, "flower",
    )  # fmt: skip
    assert main(words) == 1  # the folder is not empty
    assert main(["run", "quickstart", "--engine", "flower"]) == 2


@dataclass
class Grid:
    """A grid of Flower whose nodes answer at once, with their names and what they were sent."""

    names: dict
    known: dict = field(default_factory=dict)
    pushed: list = field(default_factory=list)
    full: bool = False

    def get_nodes(self):
        return [SimpleNamespace(node_id=n, name=self.known.get(n, "")) for n in self.names]

    def push_messages(self, messages):
        if self.full:
            return [None]
        self.pushed += messages
        return [str(len(self.pushed) - 1)]

    def pull_messages(self, numbers):
        for number in numbers:
            asked = self.pushed[int(number)]
            content = {"node": {"name": self.names[asked.node]}, "letter": asked.content}
            yield Told(content, SimpleNamespace(reply_to_message_id=number))


@dataclass
class Told:
    """A message that came."""

    content: dict
    metadata: object = None
    error: object = None

    def has_error(self):
        return self.error is not None


def test_nodes_are_found_by_the_names_they_say(monkeypatch):
    def message(content, dst_node_id, message_type, ttl):
        return SimpleNamespace(content=content, node=dst_node_id)

    flwr = SimpleNamespace(Message=message)
    monkeypatch.setattr("moiety.federation.post.import_extra", lambda *_: flwr)
    packed = lambda letter: {"bytes": SimpleNamespace(data=letter)}  # noqa: E731
    monkeypatch.setattr("moiety.federation.post.pack_letter", packed)
    grid = Grid({7: "north", 9: "east"})
    post = FlowerPost(grid)
    assert post.find_nodes() == {"north": 7, "east": 9}
    assert post.find_nodes() == {"north": 7, "east": 9}
    assert len(grid.pushed) == 2  # each was asked once
    grid.names = {9: "east", 11: "north"}  # north came back, with another address
    assert post.find_nodes() == {"north": 11, "east": 9}
    grid.names[13], grid.known = "east", {13: "south"}  # what is registered counts
    assert post.find_nodes() == {"north": 11, "east": 9, "south": 13}
    assert len(grid.pushed) == 3
    number = post.send(9, b"letter", 60.0)
    assert post.collect([number])[number].data == b"letter"
    grid.full = True
    assert not post.send(9, b"letter", 60.0)
    lost = Told({}, error=SimpleNamespace(reason="it is gone", code=3))
    assert open_message(lost).fault == "Flower: it is gone"
    assert open_message(Told({})).fault.startswith("the message has no letter")


def test_letters_with_codes_give_the_bytes_of_serial(tmp_path):
    """What a question brought is not sent again, and is what its code said."""
    wire = {"up": ["delta", "int4"], "down": ["int8"]}
    post, plan = make_post(tmp_path), make_plan(tmp_path, wire=wire, rounds=1)
    final = play_federation(plan, post)
    serial = play_serial(tmp_path / "serial", wire=wire, rounds=1)
    assert final_bytes(final.parent) == final_bytes(serial)
    (one, *_), (two, *_) = (read_ledger(p / "ledger.jsonl").rounds for p in (plan.folder, serial))
    assert (one.down_bytes, one.up_bytes) == (two.down_bytes, two.up_bytes)


def test_a_folder_is_that_of_its_workers_and_replies_are_what_came(tmp_path, wanted, capsys):
    """Names in another order are refused; a reply whose file was changed is asked for again."""
    plan, post = make_plan(tmp_path), make_post(tmp_path, kill_after=13)
    with pytest.raises(KeyboardInterrupt):
        play_federation(plan, post)
    post.kill_after = math.inf
    with pytest.raises(RunError, match=r"was begun with .*; go on with those, in this order"):
        play_federation(replace(plan, workers=NAMES[::-1]), post)
    number = plan.folder / "run_id"
    told = number.read_bytes()
    for lost in (number.unlink, lambda: number.write_bytes(b"")):
        lost()
        with pytest.raises(RunError, match="run_id is lost"):
            play_federation(plan, post)
    number.write_bytes(told)
    assert main(["resume", str(plan.folder)]) == 2
    assert "flwr run plays an app" in capsys.readouterr().err
    assert len(post.letters) == 15
    for place, path in enumerate(sorted((plan.folder / "arrived").iterdir())):
        data = path.read_bytes()
        path.write_bytes((data[:30], data[:-1] + b"?", b"")[place % 3])
    play_federation(plan, post)
    assert final_bytes(plan.folder) == wanted
