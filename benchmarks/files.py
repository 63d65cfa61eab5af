"""Tables that well-known Python packages ship: each is trained on and predicted from.

``python -m benchmarks.files [--packages FOLDER] [--json FILE]``. Packages that are not there are
left out; ``pip install --no-deps --target FOLDER statsmodels palmerpenguins vega_datasets`` brings
them. Every table is used as it lies, with ``--target`` and at most one further option.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from moiety.run import cli


@dataclass(frozen=True)
class SampleTable:
    """A table: the package, where it lies in it, its target, and a further option."""

    package: str
    path: str
    target: str
    option: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableResult:
    """What came of a table: whether it was trained on and predicted from, and what was said."""

    table: str
    target: str
    option: str
    works: bool
    said: str


TABLES = (
    SampleTable("palmerpenguins", "data/penguins-raw.csv", "Species"),
    SampleTable("palmerpenguins", "data/penguins.csv", "species"),
    SampleTable("statsmodels", "datasets/anes96/anes96.csv", "vote"),
    SampleTable("statsmodels", "datasets/anes96/src/anes96.csv", "vote"),
    SampleTable("statsmodels", "datasets/cancer/cancer.csv", "cancer"),
    SampleTable("statsmodels", "datasets/ccard/ccard.csv", "AVGEXP"),
    SampleTable("statsmodels", "datasets/ccard/src/ccard.csv", "Acc"),
    SampleTable(
        "statsmodels", "datasets/china_smoking/china_smoking.csv", "smoking_yes_cancer_yes"
    ),
    SampleTable("statsmodels", "datasets/co2/co2.csv", "co2"),
    SampleTable("statsmodels", "datasets/committee/committee.csv", "PRESTIGE"),
    SampleTable("statsmodels", "datasets/copper/copper.csv", "WORLDCONSUMPTION"),
    SampleTable("statsmodels", "datasets/cpunish/cpunish.csv", "SOUTH"),
    SampleTable("statsmodels", "datasets/danish_data/data.csv", "lrm"),
    SampleTable(
        "statsmodels", "datasets/elec_equip/elec_equip.csv", "STS.M.I7.W.TOVT.NS0016.4.000"
    ),
    SampleTable("statsmodels", "datasets/elnino/elnino.csv", "DEC"),
    SampleTable("statsmodels", "datasets/engel/engel.csv", "foodexp"),
    SampleTable("statsmodels", "datasets/fair/fair.csv", "rate_marriage"),
    SampleTable("statsmodels", "datasets/fair/fair_pt.csv", "rate_marriage"),
    SampleTable("statsmodels", "datasets/fertility/fertility.csv", "2005"),
    SampleTable("statsmodels", "datasets/grunfeld/grunfeld.csv", "invest", ("--group", "firm")),
    SampleTable("statsmodels", "datasets/grunfeld/src/grunfeld.csv", "invest"),
    SampleTable("statsmodels", "datasets/heart/heart.csv", "censors"),
    SampleTable("statsmodels", "datasets/interest_inflation/E6.csv", "R"),
    SampleTable("statsmodels", "datasets/interest_inflation/E6_jmulti.csv", "column2"),
    SampleTable("statsmodels", "datasets/longley/longley.csv", "TOTEMP"),
    SampleTable("statsmodels", "datasets/macrodata/macrodata.csv", "infl"),
    SampleTable("statsmodels", "datasets/macrodata/src/unemp.csv", "Value"),
    SampleTable("statsmodels", "datasets/modechoice/modechoice.csv", "choice"),
    SampleTable("statsmodels", "datasets/modechoice/src/TableF18-2.csv", "MODE"),
    SampleTable("statsmodels", "datasets/nile/nile.csv", "volume"),
    SampleTable("statsmodels", "datasets/randhie/randhie.csv", "hlthp"),
    SampleTable("statsmodels", "datasets/randhie/src/randhie.csv", "female"),
    SampleTable("statsmodels", "datasets/scotland/scotvote.csv", "YES"),
    SampleTable("statsmodels", "datasets/scotland/src/scotland_population.csv", "Population"),
    SampleTable("statsmodels", "datasets/scotland/src/scotvote.csv", "Density"),
    SampleTable("statsmodels", "datasets/spector/spector.csv", "GRADE"),
    SampleTable("statsmodels", "datasets/stackloss/stackloss.csv", "STACKLOSS"),
    SampleTable("statsmodels", "datasets/star98/star98.csv", "MATHTOT"),
    SampleTable("statsmodels", "datasets/statecrime/statecrime.csv", "violent"),
    SampleTable("statsmodels", "datasets/strikes/strikes.csv", "duration"),
    SampleTable("statsmodels", "datasets/sunspots/sunspots.csv", "SUNACTIVITY"),
    SampleTable("vega_datasets", "_data/airports.csv", "country"),
    SampleTable("vega_datasets", "_data/iowa-electricity.csv", "source"),
    SampleTable("vega_datasets", "_data/la-riots.csv", "type"),
    SampleTable("vega_datasets", "_data/seattle-temps.csv", "temp"),
    SampleTable("vega_datasets", "_data/seattle-weather.csv", "weather"),
    SampleTable("vega_datasets", "_data/sf-temps.csv", "temp"),
    SampleTable("vega_datasets", "_data/stocks.csv", "symbol"),
    SampleTable("vega_datasets", "_data/us-employment.csv", "nonfarm"),
    SampleTable("sklearn", "datasets/data/breast_cancer.csv", "benign"),
    SampleTable("sklearn", "datasets/data/diabetes_data_raw.csv.gz", "column2"),
    SampleTable("sklearn", "datasets/data/diabetes_target.csv.gz", "column1"),
    SampleTable("sklearn", "datasets/data/digits.csv.gz", "column65"),
    SampleTable("sklearn", "datasets/data/iris.csv", "virginica"),
    SampleTable("sklearn", "datasets/data/linnerud_exercise.csv", "Jumps"),
    SampleTable("sklearn", "datasets/data/linnerud_physiological.csv", "Pulse"),
    SampleTable("sklearn", "datasets/data/wine_data.csv", "class_2"),
)

SHORT = ("--methods", "fedavg", "--rounds", "5", "--engine", "serial")


def find_table(table: SampleTable, packages: Path | None) -> Path | None:
    """Find a table in a folder of packages, or where its package is installed."""
    if packages is not None and (packages / table.package / table.path).is_file():
        return packages / table.package / table.path
    found = importlib.util.find_spec(table.package)
    for place in (found.submodule_search_locations or []) if found else []:
        if (Path(place) / table.path).is_file():
            return Path(place) / table.path
    return None


def play_words(words: Sequence[str]) -> tuple[int, str]:
    """Run a command; give its exit code and the last line that it said on stderr."""
    told, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(out):
        try:
            code = cli.main(list(words))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
    return code, (told.getvalue().strip().splitlines() or [""])[-1]


def try_table(table: SampleTable, path: Path, folder: Path) -> TableResult:
    """Train on a table and predict from it."""
    run = str(folder / "run")
    words = ["run", "yours", "--data", str(path), "--target", table.target, *table.option]
    code, said = play_words([*words, *SHORT, "--out", run])
    if not code:
        code, said = play_words(["predict", run, "--data", str(path)])
    said = "" if not code else said.replace(str(path), path.name)
    name = f"{table.package}: {table.path}"
    return TableResult(name, table.target, " ".join(table.option), not code, said)


def try_tables(packages: Path | None) -> Iterator[TableResult]:
    """Try every table that is there."""
    for table in TABLES:
        path = find_table(table, packages)
        if path is None:
            print(f"{table.package} is not there; left out: {table.path}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = try_table(table, path, Path(folder))
        print(f"{'yes' if result.works else 'NO '}  {result.table} ({table.target}) {result.said}")
        yield result


def main() -> None:
    """Print which tables work, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    results = list(try_tables(said.packages))
    print(f"{sum(one.works for one in results)} of {len(results)} tables train and predict")
    if said.json:
        said.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
