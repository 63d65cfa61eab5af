"""A deployment of Flower on loopback: a SuperLink with TLS and keys, and SuperNodes that die."""

import importlib.util
import os

import pytest

from benchmarks.federation_parts.agree import digest_model, play_serial
from benchmarks.federation_parts.deployment import (
    VARIABLE,
    Deployment,
    count_rounds,
    find_flower,
    has_ended,
    kill_server,
    wait_for,
    write_app,
)
from moiety.core.ledger import read_ledger
from moiety.federation.certs import write_certificates

NAMES = ("north", "east", "south")

pytestmark = pytest.mark.skipif(
    not os.environ.get(VARIABLE) and importlib.util.find_spec("flwr") is None,
    reason=f"there is no Flower (pip install '.[flower]'), and {VARIABLE} names no Python with it",
)


@pytest.fixture(scope="module")
def link(tmp_path_factory):
    """A SuperLink and its nodes; each is registered, and has its key."""
    folder = tmp_path_factory.mktemp("deployment")
    write_certificates(folder / "keys", [], NAMES, 2)
    link = Deployment(folder, find_flower(), folder / "keys")
    try:
        link.start_link()
        for name in NAMES:
            link.register(name)
            link.start_node(name)
        yield link
    finally:
        link.close()


def change_plan(app, old, new):
    plan = app / "plan.toml"
    text = plan.read_text(encoding="utf8")
    assert text.count(old) == 1
    plan.write_text(text.replace(old, new))


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"long: only where {VARIABLE} is set")
def test_secure_sums_on_a_deployment_have_the_bytes_of_one_machine(tmp_path, link):
    """Four letters to each node, all of which Flower has to move, and masks that cancel."""
    app = tmp_path / "app"
    run = write_app(app, NAMES, "--method", "fedavg", "--rounds", "1")
    change_plan(app, "[fields]", "[fields]\nsecure = { threshold = 3 }")
    link.submit(app)
    wait_for(lambda: has_ended(run), "the run ends")
    assert digest_model(run) == play_serial(tmp_path / "serial", app, "fedavg")


def test_rounds_of_a_deployment_go_on_without_a_node_and_through_a_kill(tmp_path, link):
    """A node dies after the first round, and the server; a new one goes on with the others."""
    app = tmp_path / "app"
    run = write_app(app, NAMES, "--method", "ddome", "--rounds", "3")
    change_plan(app, "quorum = 0.5", "quorum = 1.0")  # however slow this machine is
    link.submit(app)
    wait_for(lambda: count_rounds(run) >= 1, "the first round is played")
    link.kill("south")
    kill_server(run)
    change_plan(app, "quorum = 1.0", "quorum = 0.6")  # the two that are left, at least
    change_plan(app, "join_s = 120.0", "join_s = 10.0")  # and these are here
    link.submit(app)
    wait_for(lambda: has_ended(run), "the run ends")
    ledger = read_ledger(run / "ledger.jsonl")
    assert ledger.end is not None
    assert ledger.end.status == "finished"
    who = [[work.worker for work in one.workers] for one in ledger.rounds]
    assert who[0] == [0, 1, 2]
    assert len(who) == 3
    assert who[2] == [0, 1]
    assert [one.worker for one in ledger.rounds[2].refused] == [2]
    assert (run / "final" / "model.safetensors").is_file()
