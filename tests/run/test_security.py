"""Names from files reach no terminal, no shell and no folder but as names."""

import json
import shlex
import sys
import unicodedata

import pytest

from moiety.core.errors import RunError
from moiety.core.files import add_digest
from moiety.core.ledger import Round
from moiety.core.state import Refusal
from moiety.ops.text import hide_controls, write_command
from moiety.run.echo import echo, echo_json, echo_warning
from moiety.run.errors import explain_failure
from moiety.run.folders import check_empty
from moiety.run.group import GROUP, list_members
from moiety.run.spec import VERSION
from moiety.run.watch import Progress, RefusalWarner

STEERING = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if (unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp") and chr(code) not in "\n\t")
    or unicodedata.bidirectional(chr(code))
    in ("LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
]
KEPT = "plain, ünïcödé, 猫, שלום, 👩\u200d🔬, a\tb\n"


def test_no_character_steers_a_terminal(capsys):
    text = "".join(STEERING)
    for say in (echo, echo_warning):
        say(f"a{text}b{KEPT}")
        told = capsys.readouterr()
        assert told.out + told.err == f"a{'?' * len(STEERING)}b{KEPT}\n"
    assert hide_controls("\u200e\u200f\u061c") == "???"


def test_json_escapes_what_is_no_plain_letter(capsys):
    value = {"name": "".join(STEERING) + KEPT}
    echo_json(value)
    told = capsys.readouterr().out
    assert all(" " <= letter <= "~" for letter in told.replace("\n", ""))
    assert json.loads(told) == json.loads(json.dumps(value))


def test_progress_steers_no_terminal(make_evaluation, capsys):
    out = sys.stderr
    Progress("name\x1b[2J", 1, out=out)(make_evaluation("group\x1b]0;x\x07"))
    refused = Round(1, 0, 0.0, 0, 0, 0.0, (), refused=(Refusal(4, "it is\x1b none"),))
    RefusalWarner("run", out)(refused)
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert told.endswith("run: round 1, worker 4 not merged: it is? none\n")


@pytest.fixture
def make_evaluation():
    from moiety.core.ledger import Evaluation, Group

    return lambda name: Evaluation(1, 0.0, {name: Group([0], [2], {"accuracy": [0.5]})})


@pytest.mark.parametrize("name", ["a b", "a; rm -rf ~", "$(x)", "a'b", "-x", "a\nb", "`x`"])
def test_commands_that_are_printed_are_quoted(tmp_path, moiety, name):
    folder = tmp_path / name
    assert shlex.split(write_command("resume", folder)) == ["moiety", "resume", str(folder)]
    folder.mkdir()
    (folder / "config.json").write_text("")
    with pytest.raises(RunError) as refused:
        check_empty(folder)
    lost = explain_failure(RuntimeError("gloo/transport: x"), folder, 2)
    for text in (str(refused.value), str(lost).partition(" (cause")[0]):
        assert text.endswith(f"moiety resume {shlex.quote(str(folder))}")
    said = moiety("predict", folder, "--data", "rows.npz")
    assert said.code == 1
    assert f"moiety resume {shlex.quote(str(folder))}" in said.err


@pytest.mark.parametrize(
    "runs",
    [
        ["../other"], ["/etc"], [".."], ["."], [""], ["a/b"], ["a/../../other"], ["link"], [7],
        [None], [["a"]], "a", {"a": 1}, None, 3, ["a\x00b"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_group_names_no_folder_but_its_own(moiety, tmp_path, runs, command):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    group = tmp_path / "group"
    group.mkdir()
    (group / "link").symlink_to(tmp_path / "other")
    (group / GROUP).write_text(json.dumps(add_digest({"version": VERSION, "runs": runs})))
    said = moiety(command, group)
    assert said.code == 1
    assert "group.json" in said.err
    assert "one in its own folder" in said.err
    assert sorted(path.name for path in group.iterdir()) == [GROUP, "link"]


@pytest.mark.parametrize("text", ["[]", "3", "null", '"runs"', "{}"])
def test_a_group_that_is_none_is_told(moiety, tmp_path, text):
    (tmp_path / GROUP).write_text(text)
    assert moiety("resume", tmp_path).code == 1


def test_the_members_of_a_group_are_listed(tmp_path):
    (tmp_path / GROUP).write_text(
        json.dumps(add_digest({"version": VERSION, "runs": ["a", "b-seed0"]}))
    )
    assert list_members(tmp_path) == [tmp_path / "a", tmp_path / "b-seed0"]
