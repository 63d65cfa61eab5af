"""The page as a file: well formed, self-contained, with text for every picture."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from moiety import report
from moiety.core.extras import explain_install
from moiety.report.frames import ORDER, summarize_series
from moiety.report.series import group_series
from moiety.report.text import write_cells

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks nesting while it reads; keeps elements, headings, figures and the text of cells."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.levels = [], [], [], []
        self.rows, self.figures = [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


def parsed(path):
    page = Page()
    page.feed(path.read_text(encoding="utf8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(params=["small", "rich"])
def written(request, tmp_path):
    return report.write_report([request.getfixturevalue(request.param)], tmp_path / "report.html")


def test_ids_are_unique_and_references_resolve(written):
    page = parsed(written)
    assert len(page.ids) == len(set(page.ids))
    text = written.read_text(encoding="utf8")
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    for _, attrs in page.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            wanted |= set((attrs.get(name) or "").split())
    assert wanted <= set(page.ids)


def test_headings_are_in_order(written):
    levels = parsed(written).levels
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_figure_has_text_and_numbers(written):
    page = parsed(written)
    text = written.read_text(encoding="utf8")
    count = sum(tag == "figure" for tag, _ in page.tags)
    assert count >= 7
    images = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(images) == count
    assert all(a["role"] == "img" and a["aria-labelledby"] and a["viewbox"] for a in images)
    described = re.findall(r"<desc id=[^>]+>([^<]+)</desc>", text)
    assert len(described) == count
    assert all(re.search(r"\d", words) for words in described)
    after = re.findall(r"</figure>\s*<details class=\"numbers\">.*?</details>", text, re.DOTALL)
    assert len(after) == count
    assert all("<table>" in one and "<td" in one for one in after)
    assert text.count("<figcaption>") == count


def test_nothing_is_loaded_from_outside(written):
    text = written.read_text(encoding="utf8")
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert "@import" not in text


def test_numbers_equal_the_ledgers(small, small_ledgers, tmp_path):
    page = parsed(report.write_report([small], tmp_path))
    rows = [[cell.strip() for cell in row] for row in page.rows]
    for row in summarize_series(group_series(small_ledgers)):
        wanted = write_cells(row, ORDER)
        mark = "highest on unseen" if row.label == "ddome" else ""
        assert [wanted[0] + mark, *wanted[1:]] in rows
    assert ["ddome", "2", "70.00", "14.14", "60.00", "80.00", "2"] in rows  # unseen, by hand
    assert ["ddome", "1", "2.0000", "0.0000", "2.0000", "2.0000", "2"] in rows  # loss
    assert ["0", "3 (75.0)", "0 (0.0)"] in rows  # routes
    assert ["2", "0.00", "100.00"] in rows  # gate load
    assert ["ddome", "down", "300.0", "200", "400"] in rows
    assert ["2", "unseen", "2", "2", "4"] in rows  # partition
    assert ["0", "unseen", "2", "4", "60.00", "40.00", "45.00"] in rows  # workers
    assert ["local.lr", "same", "0.1", "0.1", "0.1"] in rows
    assert ["torch", "2.9.0"] in rows


def test_equal_ledgers_give_equal_bytes(rich, tmp_path):
    one = report.write_report([rich], tmp_path / "one.html").read_bytes()
    assert report.write_report([rich], tmp_path / "two.html").read_bytes() == one
    assert not list(tmp_path.glob("*.part"))


def test_words_are_escaped(make, tmp_path):
    entries = make.small("<b>$x$", 0, 0.0)
    entries[0] = make.replace(
        entries[0], note="<script>alert(1)</script>", classes=["<i>", "\u732b"]
    )
    make.run(tmp_path / "run", entries)
    text = report.write_report([tmp_path / "run"], tmp_path).read_text(encoding="utf8")
    assert "<script" not in text
    assert "<i>" not in text
    assert "<b>" not in text
    assert "\u732b" in text


def test_a_run_cut_short_is_told(make, tmp_path):
    make.run(tmp_path / "run", make.small("ddome", 0, 0.0)[:-1])
    text = report.write_report([tmp_path / "run"], tmp_path).read_text(encoding="utf8")
    assert "ddome, seed 0: unfinished after 2 of 2 rounds" in text
    assert "there is no other to compare with" in text


def test_findings_equal_the_summary_where_seeds_end_at_different_rounds(make, tmp_path):
    make.run(tmp_path / "runs" / "0", make.small("ddome", 0, 0.0))  # ends at unseen 0.4
    early = [entry for entry in make.small("ddome", 1, 0.0) if getattr(entry, "round", 0) < 2]
    make.run(tmp_path / "runs" / "1", early)  # ends at unseen 0.1, before its first round
    text = report.write_report([tmp_path / "runs"], tmp_path).read_text(encoding="utf8")
    # the mean of 0.4 and 0.1 is 0.25; their sample deviation 0.3 / sqrt(2) = 0.2121
    assert text.count("25.0 ± 21.2 %") >= 2
    assert "Of the final model of each run: ddome 25.0 ± 21.2 %." in text
    assert "ddome after 0, 2" in text


def test_many_workers_experts_and_classes_are_drawn(make, tmp_path):
    rows = [[1 + (worker + place) % 3 for place in range(30)] for worker in range(500)]
    load = [0.1] * 20
    sent = [list(range(30)) for _ in range(20)]
    entries = [
        make.start(seen=rows, unseen=[], classes=[f"class {place}" for place in range(30)]),
        make.round(1, [make.work(0)], gate_load=load),
        make.evaluation(1, [worker / 1500 for worker in range(1500)], [0.5], sent),
    ]
    make.run(tmp_path / "run", entries)
    page = parsed(report.write_report([tmp_path / "run"], tmp_path))
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize("extra", ["matplotlib", "jinja2"])
def test_a_missing_extra_names_the_remedy(extra, small, tmp_path):
    code = (
        f"import sys; sys.modules[{extra!r}] = None\n"
        "from pathlib import Path; from moiety import report\n"
        "from moiety.report.files import load_ledgers\n"
        "runs = [Path(sys.argv[1])]; print(report.format_table(load_ledgers(runs)))\n"
        "try: report.write_report(runs, Path(sys.argv[2]))\n"
        "except ImportError as error: print(error)\n"
    )
    call = [sys.executable, "-c", code, str(small), str(tmp_path)]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert told.startswith("method")
    assert told.endswith("which is missing: " + explain_install("report") + "\n")
    assert extra in told


def test_errors_name_the_path(make, tmp_path):
    with pytest.raises(ValueError, match="no runs to report on"):
        report.write_report([], tmp_path)
    with pytest.raises(ValueError, match=r"has no ledger\.jsonl"):
        report.write_report([tmp_path], tmp_path)
    make.run(tmp_path / "run", [make.start()])
    with pytest.raises(ValueError, match="no evaluation in"):
        report.write_report([tmp_path / "run"], tmp_path)
