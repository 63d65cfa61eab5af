"""Estimators as files that cannot run code: tensors in safetensors, the rest in JSON.

Letters: M machines, D columns with the constant, K experts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moiety.estimators.saved_arrays import (
    read_checked,
    read_local_fits,
    read_mixtures,
    read_support,
    write_arrays,
    write_local_fits,
    write_mixtures,
)
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.model import Mixture
from moiety.mixtures.poisson import POISSON

MODEL, CONFIG = "model.safetensors", "config.json"
LOCAL, SUPPORT = "local.safetensors", "support.safetensors"
FORMAT = "moiety mixture 1"
TOLD: dict[str, tuple[str, int]] = {  # attribute -> kinds of its values, and its dimensions
    "n_features_in_": ("i", 0), "feature_names_in_": ("OU", 1), "classes_": ("OUbiuf", 1),
    "n_iter_": ("i", 0), "converged_": ("b", 0), "floored_": ("b", 1), "expert_rows_": ("f", 1),
    "kept_": ("b", 1), "n_refine_rounds_": ("i", 0), "incompatible_": ("b", 0),
    "floored_experts_": ("b", 1),
    "misfits_": ("f", 1), "strain_": ("f", 0), "divergences_": ("f", 1), "objective_": ("f", 1),
    "log_likelihoods_": ("f", 1), "local_log_likelihoods_": ("f", 1),
    "covariate_mean_": ("f", 1), "covariate_sd_": ("f", 1), "fill_": ("f", 1),
}  # fmt: skip
WRITTEN_TYPES = {"str", "|b1"} | {f"{o}{k}{n}" for o in "<>|" for k in "iuf" for n in (1, 2, 4, 8)}
PLAIN = (str, int, float, bool, type(None))


def write_estimator(estimator: Any, path: str | Path) -> None:
    """Write a fitted estimator into a folder.

    Choices that are no plain values, such as a fitted ``init`` or a generator, are left out and
    will have their defaults. Of rows only a support is written, and that where it was kept.
    """
    folder, known = Path(path), vars(estimator)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "choices": {
            name: plain
            for name, value in estimator.get_params(deep=False).items()
            if (plain := make_plain(value)) is not None or value is None
        },
        "told": {name: write_value(known[name]) for name in TOLD if name in known},
    }
    fits = known.get("locals_") or [known["local_fit_"]]
    write_arrays(folder / MODEL, write_mixtures([estimator.mixture_]))
    write_arrays(folder / LOCAL, write_local_fits(fits))
    if known.get("support_") is not None and estimator.keep_support:
        write_arrays(
            folder / SUPPORT, {n: v for n, v in vars(known["support_"]).items() if v is not None}
        )
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf8")


def read_saved_json(path: Path, form: str) -> dict[str, Any]:
    """Read a mapping of the given format.

    Raises:
        ValueError: for a file that holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); save the estimator again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not what save writes; save again")  # noqa: TRY004 - as all
    if found.get("format") != form:
        raise ValueError(
            f"{path.parent} has the format {found.get('format')!r}, not {form!r}; give a folder "
            "that save wrote"
        )
    return found


def check_family(mixture: Mixture, estimator: Any, who: str) -> None:
    """Refuse a mixture of another kind than an estimator's."""
    wanted = estimator._blank_experts(len(mixture.gate))  # noqa: SLF001 - of all estimators
    found = mixture.experts
    if (type(found), *found.coef.shape[2:]) != (type(wanted), *wanted.coef.shape[2:]) or (
        isinstance(found, LinkedExperts) and found.law != vars(wanted)["law"]
    ):
        raise ValueError(f"{who} has experts of another family than this estimator; fit it anew")


def check_mixture(mixture: Mixture, estimator: Any, who: str) -> None:
    """Refuse a mixture of another kind than an estimator's, or of other covariates."""
    check_family(mixture, estimator, who)
    columns = vars(estimator).get("n_features_in_")
    if columns is not None and len(mixture.gate) != columns + 1:
        raise ValueError(
            f"{who} has {len(mixture.gate) - 1} covariates, and there are {columns}; give one of "
            "the same columns"
        )


def read_estimator(path: str | Path, kinds: Sequence[type]) -> Any:
    """Read what :func:`write_estimator` wrote; ``kinds`` are the classes that are welcome."""
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        raise ValueError(
            f"{folder} holds no {CONFIG}; give a folder that an estimator's save wrote"
        )
    config = read_saved_json(folder / CONFIG, FORMAT)
    known = {kind.__name__: kind for kind in kinds}
    name, choices, told = (config.get(part) for part in ("estimator", "choices", "told"))
    if not (isinstance(name, str) and isinstance(choices, dict) and isinstance(told, dict)):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"{folder / CONFIG} is not what save writes; save again"
        )
    if name not in known:
        raise ValueError(f"{folder} holds a {name}; give one of {sorted(known)}")
    estimator = restore_choices(known[name], choices, told, folder)
    law = estimator._law() or POISSON  # noqa: SLF001 - as below
    local = read_checked(folder / LOCAL, law, fits=True)
    fits = read_local_fits(local, law)
    if "kept_" in told:
        estimator.locals_ = fits
        if (folder / SUPPORT).is_file():
            estimator.support_ = read_support(folder / SUPPORT, estimator.n_features_in_)
    else:
        estimator.local_fit_ = fits[0]
    mixture = read_mixtures(read_checked(folder / MODEL, law, fits=False), law)[0]
    for one in (mixture, *(fit.mixture for fit in fits)):
        check_mixture(one, estimator, "the folder")
    return estimator._show(mixture)  # noqa: SLF001 - the loader of this class


def restore_choices(
    kind: type, choices: Mapping[str, Any], told: Mapping[str, Any], folder: Path
) -> Any:
    """Make an estimator with the choices and the plain attributes of a file."""
    strange = {*choices} - {*kind().get_params(deep=False)} | {*told} - {*TOLD}
    if strange:
        raise ValueError(f"{folder} says {sorted(strange)}, which no {kind.__name__} has")
    estimator = kind(**choices)
    classifies, filled = estimator._classifies(), choices.get("missing") == "mean"  # noqa: SLF001
    needed = ["n_features_in_", *["classes_"] * classifies, *["fill_"] * filled]
    if not {*needed} <= {*told}:
        raise ValueError(f"{folder} does not say {needed}; save the estimator again")
    for name, value in told.items():
        try:
            setattr(estimator, name, read_value(value, *TOLD[name]))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{folder} says {value!r:.80} of {name!r}, which save does not; save again"
            ) from None
    for name in ("feature_names_in_", "covariate_mean_", "covariate_sd_", "fill_"):
        if name in told and len(vars(estimator)[name]) != estimator.n_features_in_:
            raise ValueError(f"{folder} has {name!r} of another length than its covariates")
    known = vars(estimator).get("classes_")
    if known is not None and not np.array_equal(np.unique(known), known):
        raise ValueError(f"{folder} has the classes {known.tolist()}, which are not in order")
    estimator._check_search()  # noqa: SLF001
    return estimator


def make_plain(value: Any) -> Any:
    """Give a choice as JSON has it, or None where it cannot."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        parts = [make_plain(one) for one in value]
        return None if any(part is None for part in parts) else parts
    return value if isinstance(value, PLAIN) else None


def write_value(value: Any) -> dict[str, Any]:
    """Write a value with its type, of words as they are."""
    array = np.asarray(value)
    if array.dtype.kind == "O" and not all(isinstance(one, str) for one in array.tolist()):
        raise ValueError(
            f"{array.tolist()[:3]} cannot be written; name classes by words or numbers"
        )
    kind = "str" if array.dtype.kind in "OU" else array.dtype.str
    return {"dtype": kind, "object": array.dtype.kind == "O", "value": array.tolist()}


def read_value(told: Mapping[str, Any], kinds: str, dimensions: int) -> Any:
    """Read a value that was written with its type, of one of the kinds."""
    if told["dtype"] not in WRITTEN_TYPES:
        raise ValueError(f"{told['dtype']!r} is no type that is written")
    array = np.array(told["value"], dtype=object if told["object"] else told["dtype"])
    words = array.dtype.kind != "O" or all(isinstance(one, str) for one in array.tolist())
    if array.ndim != dimensions or array.dtype.kind not in kinds or not words:
        raise ValueError(f"{array!r} is of another kind")
    return array if array.ndim else array.item()
