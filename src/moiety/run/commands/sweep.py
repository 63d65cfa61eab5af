"""``moiety sweep``: try values of fields, choose by validation rows."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moiety.core.errors import RunError, UsageError, WorkerError
from moiety.core.extras import import_extra
from moiety.core.files import json_to_bytes, replace_file
from moiety.core.keep import VALIDATION, find_final_evaluation
from moiety.core.ledger import Ledger, read_ledger
from moiety.core.objective import OF_CLASSES, MetricEntry
from moiety.ops.text import align_columns
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.record import Federation
from moiety.recipes.renamed import refuse_old_names
from moiety.run.commands.common import (
    check_record,
    write_runs_report,
)
from moiety.run.commands.recipe import nest_value, parse_recipe, refuse_names, refuse_training
from moiety.run.commands.words import BESIDE
from moiety.run.echo import echo, echo_json, echo_warning
from moiety.run.evaluate import average_metric
from moiety.run.folders import hold_folder, hold_new_folder
from moiety.run.group import is_finished, start_group
from moiety.run.loop import LEDGER
from moiety.run.play import make_run_cohort

EXAMPLES = """
examples:
  moiety sweep quickstart --methods ddome --try local.lr=0.01,0.02,0.05 --try ddome.k=1,2,3
  moiety sweep quickstart --methods fedprox --try fedprox.mu=1,0.1,0.01 --seeds 3
  moiety sweep ddome-modes --methods ddome --try local.lr=0.001,0.1 --search tpe --trials 20
"""

SEARCHES = ("grid", "random", "tpe")

UNJUDGED = "no validation rows to choose by; set population.validation above 0"


@dataclass(frozen=True)
class SweepArguments:
    """What can be said behind ``moiety sweep RECIPE``.

    Args:
        record: the recipe's fields; name one method.
        tries: FIELD=V1,V2,... the values of a field; may be given several times. With a search
            other than grid, two numbers are the ends of a range.
        search: ``grid`` tries all combinations; ``random`` and ``tpe`` need the extra ``sweep``.
        trials: combinations to try, unless grid.
        out: folder to write to.
        config: a TOML file of fields, applied before the others.
        json: print the table as JSON.
    """

    record: Federation = field(default_factory=Federation, metadata=BESIDE)
    tries: tuple[str, ...] = field(default=(), metadata={"name": "try", "append": True})
    search: str = "grid"
    trials: int = 10
    out: Path | None = None
    config: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Trial:
    """One combination and how good it was; None where training failed, e.g. diverged.

    ``metric`` says which way is better.
    """

    values: Mapping[str, Any]
    validation: float | None
    runs: Sequence[Path]
    metric: MetricEntry = OF_CLASSES[0]

    @property
    def worth(self) -> float:
        """How good it was, more is better; a failure is worth less than anything."""
        if self.validation is None:
            return -math.inf
        return self.validation if self.metric.higher_is_better else -self.validation


def do_sweep(words: Sequence[str]) -> int:
    """Sweep."""
    about = f"Choose fields by validation rows.\n{EXAMPLES}"
    name, said = parse_recipe(words, "sweep", about, SweepArguments)
    record = check_record(said.record)
    if len(record.methods) != 1 or not said.tries:
        raise UsageError("a sweep needs one method and values: --methods ddome --try ddome.k=1,2")
    values = parse_tries(said.tries, record)
    check_combinations(said, values, record)
    with hold_new_folder(said.out, f"sweep-{name}") as folder:
        trials = play_trials(said, name, record, values, folder)
        finish_sweep(trials, folder, json_wanted=said.json)
    return 0


def play_trials(
    said: SweepArguments,
    name: str,
    record: Federation,
    values: Mapping[str, list[Any]],
    folder: Path,
) -> list[Trial]:
    """Play the trials of a sweep, in a folder that is held."""
    trials: list[Trial] = []

    def play(chosen: Mapping[str, Any]) -> float:
        trials.append(play_trial(name, record, chosen, folder / f"trial-{len(trials)}"))
        echo_warning(
            f"trial {len(trials)}: {dict(chosen)}: validation {describe_trial(trials[-1])}"
        )
        return trials[-1].worth

    try:
        search_values(said, values, play, record.seed)
    except KeyboardInterrupt:
        echo_warning(f"\nstopped; what {len(trials)} trials gave is in {folder}")
        raise
    return trials


def parse_tries(tries: Sequence[str], record: Federation) -> dict[str, list[Any]]:
    """Parse the values of all fields.

    Raises:
        UsageError: for a field, or a value of one, that is named twice.
    """
    found: dict[str, list[Any]] = {}
    for text in tries:
        path, some = parse_try(text, record)
        if path in found or any(value in some[:place] for place, value in enumerate(some)):
            raise UsageError(f"--try {text} names a field or value again; write each once")
        found[path] = some
    return found


def parse_try(text: str, record: Federation) -> tuple[str, list[Any]]:
    """Parse ``field=v1,v2``; values are fitted to the field's type."""
    path, eq, raw = text.partition("=")
    if not eq or not raw:
        raise UsageError(f"--try {text!r}; write FIELD=V1,V2,..., e.g. local.lr=0.01,0.1")
    values = [parse_word(one) for one in raw.split(",")]
    try:
        refuse_old_names([path], record.net)
        for value in values:
            override_fields(record, nest_value(path, value))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return path, values


def parse_word(word: str) -> Any:
    """Read a number, true or false; else a word."""
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


def iterate_grid(values: Mapping[str, list[Any]]) -> Iterator[Mapping[str, Any]]:
    """Give all combinations of values."""
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def check_combinations(
    said: SweepArguments, values: Mapping[str, list[Any]], record: Federation
) -> None:
    """Build every combination named, of a range its ends, before the first is trained.

    A common expert is trained for an epoch at most.

    Raises:
        UsageError: for a search that is none, or a combination that does not fit.
        RunError: where no rows are left to choose by.
    """
    if said.search not in SEARCHES:
        raise UsageError(f"--search {said.search!r}; choose grid, random or tpe")
    if said.trials < 1:
        raise UsageError(f"--trials {said.trials}; choose at least 1")
    if said.search != "grid":
        import_extra("optuna", f"--search {said.search}", "sweep")
    for chosen in iterate_grid(values):
        one = check_record(set_values(record, chosen))
        refuse_names(list(chosen), one)
        refuse_training(list(chosen), one)
        brief = replace(one.common, epochs=min(1, one.common.epochs))
        try:
            built = build_run(replace(one, common=brief), one.methods[0], one.seed)
            make_run_cohort(one, built)
        except ValueError as error:
            raise UsageError(f"{dict(chosen)}: {error}") from error
        if "validation" not in built.groups:
            raise RunError(UNJUDGED)


def set_values(record: Federation, chosen: Mapping[str, Any]) -> Federation:
    """Set the fields of one combination."""
    for path, value in chosen.items():
        record = override_fields(record, nest_value(path, value))
    return record


def play_trial(name: str, record: Federation, chosen: Mapping[str, Any], folder: Path) -> Trial:
    """Play one combination over all seeds."""
    try:
        with hold_folder(folder):
            runs = start_group(name, check_record(set_values(record, chosen)), folder)
    except RunError as error:
        if not isinstance(error.__cause__, WorkerError):  # the choice itself may still be good
            raise
        echo_warning(str(error))
        return Trial(chosen, None, ())
    ledgers = [read_ledger(run / LEDGER) for run in runs if is_finished(run)]
    scores = [read_validation(ledger) for ledger in ledgers]
    return Trial(chosen, sum(scores) / len(scores), runs, ledgers[0].start.metrics[0])


def describe_trial(trial: Trial) -> str:
    """Say how good a trial was."""
    return "failed" if trial.validation is None else f"{trial.validation:.4f}"


def read_validation(ledger: Ledger) -> float:
    """Give the metric on the validation rows, of the final model."""
    name = ledger.start.metrics[0].name
    score = average_metric(find_final_evaluation(ledger), VALIDATION, name)
    if score is None:
        raise RunError(UNJUDGED)
    return score


def search_values(
    said: SweepArguments,
    values: Mapping[str, list[Any]],
    play: Callable[[Mapping[str, Any]], float],
    seed: int,
) -> None:
    """Try combinations: all of a grid, or as many as asked for of a library's choosing."""
    if said.search == "grid":
        for chosen in iterate_grid(values):
            play(chosen)
        return
    optuna = import_extra("optuna", f"--search {said.search}", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    study = optuna.create_study(direction="maximize", sampler=kinds[said.search](seed=seed))
    study.optimize(
        lambda trial: play(
            {path: suggest_value(trial, path, some) for path, some in values.items()}
        ),
        n_trials=said.trials,
    )


def suggest_value(trial: Any, path: str, values: list[Any]) -> Any:
    """Suggest a value: of a range where two numbers are given, else of the list."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not numbers:
        return trial.suggest_categorical(path, values)
    low, high = sorted(values)
    if all(isinstance(v, int) for v in values):
        return trial.suggest_int(path, low, high)
    return trial.suggest_float(path, low, high, log=low > 0)


def finish_sweep(trials: Sequence[Trial], folder: Path, *, json_wanted: bool) -> None:
    """Name the best, write the sweep down, report its runs."""
    order = sorted(trials, key=lambda trial: -trial.worth)
    table = [
        {"values": dict(t.values), "validation": t.validation, "runs": [str(run) for run in t.runs]}
        for t in order
    ]
    replace_file(folder / "sweep.json", json_to_bytes(table))
    if order[0].validation is None:
        raise RunError(f"all {len(order)} trials failed; see {folder} and try other values")
    page = write_runs_report(order[0].runs, folder / "report.html")
    if json_wanted:
        echo_json({"out": str(folder), "report": str(page) if page else None, "trials": table})
        return
    names = list(order[0].values)
    rows = [[*names, f"validation {order[0].metric.name}"]]
    rows += [[*(str(t.values[n]) for n in names), describe_trial(t)] for t in order]
    echo("\n" + align_columns(rows))
    ties = sum(trial.worth == order[0].worth for trial in order)
    if ties > 1:
        echo(f"\n{ties} trials are equally good; the one played first stands first")
    echo(f"\nbest first; report of the best: {page}" if page else f"\nruns: {folder}")
