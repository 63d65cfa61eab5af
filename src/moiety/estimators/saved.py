"""Estimators as files that cannot run code: tensors in safetensors, the rest in JSON.

Letters: M machines, D columns with the constant, K experts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.law import Law
from moiety.mixtures.laws import find_law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array, pack_symmetric, unpack_symmetric
from moiety.mixtures.model import Mixture
from moiety.mixtures.noise import Noise
from moiety.mixtures.poisson import POISSON

MODEL, CONFIG = "model.safetensors", "config.json"
LOCAL, SUPPORT = "local.safetensors", "support.safetensors"
FORMAT = "moiety mixture 1"
TOLD = (
    "n_features_in_", "feature_names_in_", "classes_", "n_iter_", "converged_", "floored_",
    "expert_rows_", "kept_", "n_refine_rounds_", "incompatible_", "misfits_", "strain_",
    "divergences_", "objective_", "log_likelihoods_", "local_log_likelihoods_",
    "covariate_mean_", "covariate_sd_", "fill_",
)  # fmt: skip
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
    local = {**write_mixtures([fit.mixture for fit in fits]), **write_local_fits(fits)}
    write_arrays(folder / LOCAL, local)
    if known.get("support_") is not None and estimator.keep_support:
        write_arrays(
            folder / SUPPORT, {n: v for n, v in vars(known["support_"]).items() if v is not None}
        )
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf8")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as safetensors."""
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read arrays; a file that holds none is told by its name."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); save the estimator again") from None


def read_told(path: Path) -> dict[str, Any]:
    """Read what stands beside the arrays."""
    try:
        config = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); save the estimator again") from None
    if isinstance(config, dict) and config.get("format") != FORMAT:
        raise ValueError(
            f"{path.parent} has the format {config.get('format')!r}, not {FORMAT!r}; give a folder "
            "that save wrote"
        )
    parts = [config.get(name) for name in ("choices", "told")] if isinstance(config, dict) else [0]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{path} is not what save writes; save the estimator again")
    return config


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
    config = read_told(folder / CONFIG)
    known = {kind.__name__: kind for kind in kinds}
    if config["estimator"] not in known:
        raise ValueError(f"{folder} holds a {config['estimator']}; give one of {sorted(known)}")
    kind = known[config["estimator"]]
    strange = {*config["choices"]} - {*kind().get_params(deep=False)} | {*config["told"]} - {*TOLD}
    if strange:
        raise ValueError(f"{folder} says {sorted(strange)}, which no {kind.__name__} has")
    estimator = kind(**config["choices"])
    needed = ("n_features_in_", "classes_")[: 1 + estimator._classifies()]  # noqa: SLF001 - as below
    if not {*needed} <= {*config["told"]}:
        raise ValueError(f"{folder} does not say {list(needed)}; save the estimator again")
    for name, value in config["told"].items():
        setattr(estimator, name, read_value(value))
    chosen = config["choices"]
    law = find_law(chosen.get("family", POISSON.name), chosen.get("trials", 1)) or POISSON
    fits = read_local_fits(read_arrays(folder / LOCAL), law)
    if "kept_" in config["told"]:
        estimator.locals_ = fits
        if (folder / SUPPORT).is_file():
            estimator.support_ = Support(**read_arrays(folder / SUPPORT))
    else:
        (estimator.local_fit_,) = fits
    (mixture,) = read_mixtures(read_arrays(folder / MODEL), law)
    check_mixture(mixture, estimator, "the folder")
    return estimator._show(mixture)  # noqa: SLF001 - the loader of this class


def write_mixtures(mixtures: Sequence[Mixture]) -> dict[str, Array]:
    """Lay mixtures side by side along the experts."""
    found = {
        "sizes": np.array([mixture.num_experts for mixture in mixtures]),
        "gate": np.concatenate([mixture.gate for mixture in mixtures], 1),
        "experts": np.concatenate([mixture.experts.coef for mixture in mixtures], 1),
    }
    spreads = [m.experts.variances for m in mixtures if isinstance(m.experts, GaussianExperts)]
    laws = [m.experts.spreads for m in mixtures if isinstance(m.experts, LinkedExperts)]
    if laws and len(laws[0]):
        found["spreads"] = np.concatenate(laws, 1)
    noise = [mixture.noise for mixture in mixtures if mixture.noise is not None]
    if len(noise) == len(mixtures):
        found["noise"] = np.array([[n.low, n.high, n.share, n.whole] for n in noise], float)
    return {**found, "variances": np.concatenate(spreads)} if spreads else found


def read_mixtures(tensors: Mapping[str, Array], law: Law = POISSON) -> list[Mixture]:
    """Read mixtures that lie side by side."""
    found, at = [], 0
    for size in tensors["sizes"].tolist():
        part = slice(at, at + size)
        gate, coef = tensors["gate"][:, part].copy(), tensors["experts"][:, part].copy()
        if "variances" in tensors:
            experts = GaussianExperts(coef, tensors["variances"][part].copy())
        elif coef.ndim == 2:
            spreads = tensors.get("spreads", np.zeros((0, coef.shape[1] + at)))
            experts = LinkedExperts(coef, spreads[:, part].copy(), law)
        else:
            experts = CategoricalExperts(coef)
        found.append(Mixture(gate, experts, read_noise(tensors, len(found))))
        at += size
    return found


def read_noise(tensors: Mapping[str, Array], place: int) -> Noise | None:
    """Read the noise of a mixture, where it has some."""
    if "noise" not in tensors:
        return None
    low, high, share, whole = tensors["noise"][place].tolist()
    return Noise(low, high, share, bool(whole))


def write_local_fits(fits: Sequence[LocalFit]) -> dict[str, Array]:
    """Lay out the rows of fits and, where all know them, their informations."""
    known = [fit.information for fit in fits if fit.information is not None]
    found = {"rows": np.array([fit.rows for fit in fits], float)}
    if len(known) < len(fits):
        return found
    return {**found, "information": np.concatenate([pack_symmetric(one) for one in known])}


def read_local_fits(tensors: Mapping[str, Array], law: Law = POISSON) -> list[LocalFit]:
    """Read fits with their rows and informations."""
    fits, at = [], 0
    for mixture, rows in zip(read_mixtures(tensors, law), tensors["rows"].tolist(), strict=True):
        side = mixture.gate[:, :-1].size
        end = at + side * (side + 1) // 2
        told = tensors["information"][at:end] if "information" in tensors else None
        fits.append(LocalFit(mixture, rows, None if told is None else unpack_symmetric(told)))
        at = end
    return fits


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


def read_value(told: Mapping[str, Any]) -> Any:
    """Read a value that was written with its type."""
    array = np.array(told["value"], dtype=object if told["object"] else told["dtype"])
    return array if array.ndim else array.item()
