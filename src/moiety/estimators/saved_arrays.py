"""Mixtures and local fits as arrays of a file, side by side along the experts.

Letters: M mixtures, D columns with the constant, K experts of all of them, P spreads, G classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from moiety.mixtures.arrays import (
    EXPERTS,
    GATE,
    SPREADS,
    VARIANCES,
    build_mixture,
    lay_out_mixture,
)
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.law import Law
from moiety.mixtures.logit import Array, pack_symmetric, unpack_symmetric
from moiety.mixtures.model import Mixture
from moiety.mixtures.noise import Noise

SIZES, NOISE, ROWS, INFORMATION = "sizes", "noise", "rows", "information"
AXES_OF_EXPERTS = {GATE: 1, EXPERTS: 1, VARIANCES: 0, SPREADS: 1}
POSITIVE = (VARIANCES, SPREADS, ROWS)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as safetensors."""
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read arrays; a file that holds none is told by its name."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # a type that numpy lacks is a KeyError
        raise ValueError(f"{path} cannot be read ({error}); save the estimator again") from None


def read_checked(path: Path, law: Law, *, fits: bool) -> dict[str, Array]:
    """Read arrays of mixtures, and refuse those that no fit has, with the file's name."""
    found = read_arrays(path)
    try:
        check_arrays(found, law, fits=fits)
    except ValueError as error:
        raise ValueError(f"{path} is not what save writes: {error}; save again") from None
    return found


def read_support(path: Path, columns: int) -> Support:
    """Read a support of so many covariates."""
    found = read_arrays(path)
    rows = found.get("weights", np.zeros(0)).shape
    expected = {"x": (*rows, columns), "weights": rows, "y": rows, "owner": rows}
    strange = [name for name, part in found.items() if part.shape != expected.get(name)]
    if strange or not {"x", "weights"} <= set(found) or len(rows) != 1:
        raise ValueError(f"{path} is not what save writes: {sorted(found)}; save again")
    return Support(**found)


def write_mixtures(mixtures: Sequence[Mixture]) -> dict[str, Array]:
    """Lay mixtures side by side along the experts."""
    parts = [lay_out_mixture(mixture) for mixture in mixtures]
    found = {SIZES: np.array([mixture.num_experts for mixture in mixtures])}
    for name in parts[0]:
        found[name] = np.concatenate([part[name] for part in parts], AXES_OF_EXPERTS[name])
    noise = [mixture.noise for mixture in mixtures if mixture.noise is not None]
    if len(noise) == len(mixtures):
        found[NOISE] = np.array([[n.low, n.high, n.share, n.whole] for n in noise], float)
    return found


def read_mixtures(tensors: Mapping[str, Array], law: Law) -> list[Mixture]:
    """Read mixtures that lie side by side; ``law`` is of numbers that are not normal."""
    found, at = [], 0
    for place, size in enumerate(tensors[SIZES].tolist()):
        part = {
            name: np.take(tensors[name], np.arange(at, at + size), axis)
            for name, axis in AXES_OF_EXPERTS.items()
            if name in tensors
        }
        found.append(build_mixture(part, law, read_noise(tensors, place)))
        at += size
    return found


def read_noise(tensors: Mapping[str, Array], place: int) -> Noise | None:
    """Read the noise of a mixture, where it has some."""
    if NOISE not in tensors:
        return None
    low, high, share, whole = tensors[NOISE][place].tolist()
    return Noise(low, high, share, bool(whole))


def write_local_fits(fits: Sequence[LocalFit]) -> dict[str, Array]:
    """Lay out fits, their rows and, where all know them, their informations."""
    known = [fit.information for fit in fits if fit.information is not None]
    found = write_mixtures([fit.mixture for fit in fits])
    found[ROWS] = np.array([fit.rows for fit in fits], float)
    if len(known) == len(fits):
        found[INFORMATION] = np.concatenate([pack_symmetric(one) for one in known])
    return found


def read_local_fits(tensors: Mapping[str, Array], law: Law) -> list[LocalFit]:
    """Read fits with their rows and informations."""
    fits, at = [], 0
    for mixture, rows in zip(read_mixtures(tensors, law), tensors[ROWS].tolist(), strict=True):
        end = at + count_triangle(mixture.gate.shape[0], mixture.num_experts)
        told = tensors[INFORMATION][at:end] if INFORMATION in tensors else None
        fits.append(LocalFit(mixture, rows, None if told is None else unpack_symmetric(told)))
        at = end
    return fits


def count_triangle(columns: int, experts: int) -> int:
    """Count the entries of the upper triangle of a gate's information."""
    side = columns * (experts - 1)
    return side * (side + 1) // 2


def check_arrays(tensors: Mapping[str, Array], law: Law, *, fits: bool) -> None:
    """Refuse arrays that :func:`write_mixtures` or :func:`write_local_fits` never writes.

    Args:
        tensors: of a file.
        law: of numbers that are not normal.
        fits: they are of local fits, some of which may have failed and be NaN.

    Raises:
        ValueError: with what is wrong.
    """
    needed = {SIZES, GATE, EXPERTS} | ({ROWS} if fits else set())
    if not needed <= set(tensors):
        raise ValueError(f"it lacks {sorted(needed - set(tensors))}")
    sizes, gate, experts = (tensors[name] for name in (SIZES, GATE, EXPERTS))
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes) or not (sizes > 0).all():
        raise ValueError("its sizes are no counts of experts")
    if not fits and len(sizes) > 1:
        raise ValueError(f"it holds {len(sizes)} mixtures")
    if gate.ndim != 2 or len(gate) < 2 or int(sizes.sum()) != gate.shape[1] or experts.ndim > 3:
        raise ValueError(f"its gate has the shape {gate.shape} for {sizes.tolist()} experts")
    expected = list_shapes(sizes.tolist(), len(gate), experts.shape[2:], law, fits=fits)
    for name, values in tensors.items():
        if name != SIZES and (values.shape, values.dtype) != (expected.get(name), np.float64):
            raise ValueError(
                f"its {name!r} has the shape {values.shape} of {values.dtype}, not "
                f"{expected.get(name)} of float64"
            )
    if experts.ndim == 2 and len({VARIANCES, SPREADS} & set(tensors)) != (
        1 if VARIANCES in tensors else bool(law.spread_names)
    ):
        raise ValueError(f"variances or spreads of the family {law.name!r} do not go with it")
    check_array_values(tensors, fits=fits)


def list_shapes(
    sizes: Sequence[int], columns: int, classes: tuple[int, ...], law: Law, *, fits: bool
) -> dict[str, tuple[int, ...]]:
    """Give the shape of every array that there may be."""
    whole = sum(sizes)
    found = {GATE: (columns, whole), EXPERTS: (columns, whole, *classes), NOISE: (len(sizes), 4)}
    if not classes:
        found |= {VARIANCES: (whole,), SPREADS: (len(law.spread_names), whole)}
    if fits:
        told = sum(count_triangle(columns, size) for size in sizes)
        found |= {ROWS: (len(sizes),), INFORMATION: (told,)}
    return found


def check_array_values(tensors: Mapping[str, Array], *, fits: bool) -> None:
    """Refuse values that no fit has; a NaN is one of a local fit that failed."""
    for name, values in tensors.items():
        lost = ~np.isfinite(values)
        if lost.any() and (not fits or name == ROWS):
            raise ValueError(f"its {name!r} holds {values[lost].flat[0]}")
        if name in POSITIVE and (values <= 0).any():
            raise ValueError(f"its {name!r} holds {values[values <= 0].flat[0]}, not above 0")
    failed = not (np.isfinite(tensors[GATE]).all() and np.isfinite(tensors[EXPERTS]).all())
    if not failed and not np.isfinite(tensors.get(INFORMATION, np.zeros(0))).all():
        raise ValueError(f"its {INFORMATION!r} is not finite")
    last = np.cumsum(tensors[SIZES]) - 1
    if (np.abs(tensors[GATE][:, last]) > 0).any():
        raise ValueError("the last gate of a mixture is not 0")
    for low, high, share, _ in tensors.get(NOISE, np.zeros((0, 4))):
        if not (low < high and 0 <= share < 1):
            raise ValueError(f"its noise of {share} lies between {low} and {high}")
