"""Hostile strings in every place of a ledger: the page has the elements it always has, and text."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from moiety import report
from moiety.core.errors import RunError
from moiety.core.ledger import encode_entry
from moiety.core.lines import add_line_digest
from moiety.report.files import MARK, save_page

HOSTILE = (
    '"><script>window.hacked = 1</script>',
    "'/><img src=x onerror='window.hacked = 1'>",
    "</title></style></svg></textarea><iframe srcdoc='<script>parent.hacked = 1</script>'>",
    '--> ]]> <svg/onload="window.hacked = 1"> <a href="javascript:window.hacked = 1">',
    ' onmouseover="window.hacked = 1" id="x" href="#y" url(#z) xlink:href="#a" style="x:y" ',
    "{{ 7 * 7 }}{% for x in [] %} ${window.hacked = 1} $\\mathrm{x}$ &lt;script&gt; \\",
    "\x00\x1b[31m\u202e\u2028\r\n\t",
)
KEPT = ("kind", "unseen", "seen", "finished", "failed", "status")


class Elements(HTMLParser):
    """Collects elements with the names of their attributes, and all text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found, self.links, self.text = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.found.add((tag, *(name for name, _ in attrs)))
        self.links |= {value for name, value in attrs if name in ("href", "src", "xlink:href")}

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        self.found.add(("comment",))


def read_elements(path):
    page = Elements()
    page.feed(path.read_text(encoding="utf8"))
    page.close()
    return page


def spoil(value, text):
    """Set a text before every string of plain data, keys of mappings that hold names included."""
    if isinstance(value, str):
        return value if value in KEPT else text + value
    if isinstance(value, list):
        return [spoil(one, text) for one in value]
    if isinstance(value, dict):
        return {key: value[key] if key in KEPT else spoil(value[key], text) for key in value}
    return value


def spoil_entry(entry, text):
    """Spoil every string field of a ledger's line, and every name that it uses as a key."""
    raw = json.loads(encode_entry(entry))
    del raw["check"]
    new: Any = spoil(raw, text)
    for name in ("config", "environment"):
        if name in new:
            new[name] = {text + key: one for key, one in new[name].items()}
    if "groups" in new:
        for one in new["groups"].values():
            one["metrics"] = {text + key: values for key, values in one["metrics"].items()}
        new["groups"] |= {text + key: one for key, one in new["groups"].items()}
    for work in new["workers"] if raw["kind"] == "round" else []:
        work["part"], work["held"] = {text + "axis": [0, 1]}, {text + "axis": 2}
    return add_line_digest(json.dumps(new))


def write_spoiled(make, folder, text):
    """Write a run with all that a ledger can say, and a text in all its strings."""
    entries = make.small("ddome", 0, 0.0)
    entries[0] = make.replace(entries[0], note="note")
    entries[-1] = make.replace(entries[-1], status="failed", reason="reason")
    for name, one in (("a", entries), ("b", make.small("fedavg", 0, 0.1))):
        (folder / name).mkdir(parents=True)
        lines = [spoil_entry(entry, text) for entry in one]
        (folder / name / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_string_of_a_ledger_becomes_an_element(make, tmp_path, text):
    plain = re.sub(r"[^a-z]", "x", text)
    pages = [
        read_elements(report.write_report([write_spoiled(make, tmp_path / name, said)], where))
        for name, said, where in (
            ("plain", plain, tmp_path / "plain.html"),
            ("hostile", text, tmp_path / "hostile.html"),
        )
    ]
    assert pages[1].found <= pages[0].found
    assert not any(name.startswith("on") for _, *names in pages[1].found for name in names)
    assert not {tag for tag, *_ in pages[1].found} & {"script", "iframe", "img", "a", "object"}
    assert all(link.startswith("#") or link == "data:," for link in pages[1].links)
    if text.isprintable():
        assert text + "ddome" in "".join(pages[1].text)


def test_a_page_says_that_nothing_is_to_be_run(small, tmp_path):
    text = report.write_report([small], tmp_path / "page.html").read_text(encoding="utf8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert text.index("Content-Security-Policy") < text.index("<title")


@pytest.mark.parametrize(
    "said", ["", "mine", "<!DOCTYPE html>\n<p>mine</p>", f'mine, content="{MARK}"']
)
def test_what_is_no_report_is_not_overwritten(small, tmp_path, said):
    path = tmp_path / "notes.html"
    path.write_text(said)
    with pytest.raises(RunError, match=r"notes\.html is no report of moiety"):
        report.write_report([small], path)
    assert path.read_text() == said
    assert [one.name for one in tmp_path.glob("*.part")] == []


def test_a_report_is_overwritten(small, tmp_path):
    path = report.write_report([small], tmp_path / "page.html")
    before = path.read_bytes()
    assert report.write_report([small], path).read_bytes() == before
    save_page(path.read_text().replace("ddome", "other"), path)
    assert "other" in path.read_text()
