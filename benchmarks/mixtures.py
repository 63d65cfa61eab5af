"""Mixtures of experts: every figure asked for beside the figure measured.

    python -m benchmarks.mixtures [--quick] [--check] [--json FILE] [--only NAME ...]

A full run writes each section to the file as it ends, and goes on from there when started again. A
quick run writes to a file that is not there yet, and never over the results of a full one.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.mixtures_parts import (
    consistency,
    coverage,
    families,
    large,
    many,
    one,
    optima,
    real,
    robust,
    skew,
    speed,
)
from benchmarks.mixtures_parts.gate import Gate

SECTIONS = {
    "one": one.run,
    "many": many.run,
    "speed": speed.run,
    "consistency": consistency.run,
    "robust": robust.run,
    "real": real.run,
    "large": large.run,
    "optima": optima.run,
    "families": families.run,
    "coverage": coverage.run,
    "skew": skew.run,
}


def load(path: Path | None) -> dict[str, dict]:
    """Read what an earlier run left."""
    return json.loads(path.read_text()) if path and path.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a declared subset, within a minute")
    parser.add_argument("--check", action="store_true", help="fail if a gate falls short")
    parser.add_argument("--json", type=Path, help="where results are kept, and found again")
    parser.add_argument("--only", nargs="*", choices=sorted(SECTIONS), help="sections to run")
    asked = parser.parse_args()
    if asked.quick and asked.json and asked.json.exists():
        parser.error(f"{asked.json} holds results, which --quick would overwrite; name a new file")
    kept, gates = load(asked.json), []
    for name, run in SECTIONS.items():
        if name not in kept:
            if asked.only and name not in asked.only:
                continue
            begun = time.perf_counter()
            with threadpool_limits(1):
                found = run(quick=asked.quick)
            kept[name] = {
                "gates": [asdict(gate) for gate in found.gates],
                "numbers": found.numbers,
                "wall_s": time.perf_counter() - begun,
            }
            kept = {one: kept[one] for one in SECTIONS if one in kept}
            target = asked.json
            if target:
                target.write_text(json.dumps(kept, indent=1) + "\n")
        gates += [Gate(**gate) for gate in kept[name]["gates"]]
        print("\n".join(Gate(**gate).line() for gate in kept[name]["gates"]), flush=True)
    return int(asked.check and any(gate.passed is False for gate in gates))


if __name__ == "__main__":
    raise SystemExit(main())
