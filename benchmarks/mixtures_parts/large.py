"""Gate 6: ten million rows from Parquet shards, with flat memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.mixtures_parts.data import like_p
from benchmarks.mixtures_parts.gate import Gate, Section, not_run

SHARDS = 16
FIT = """
import json, sys, time
from pathlib import Path
from threadpoolctl import threadpool_limits
from moiety.estimators import DistributedMixtureOfExpertsRegressor

paths = sorted(Path(sys.argv[1]).glob("*.parquet"))
with threadpool_limits(1):
    begun = time.perf_counter()
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0).fit(paths)
    seconds = time.perf_counter() - begun
# getrusage would count what the parent process held before this one began
status = Path("/proc/self/status").read_text()
peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "dropped": int((~model.kept_).sum()),
                  "longest_fit_s": model.ledger_.longest_fit_s,
                  "coef": model.coef_.tolist()}))
"""


def write(place: Path, rows: int) -> None:
    """Write shards of the design of set P."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for shard in range(SHARDS):
        x, y, _ = like_p(rows // SHARDS, seed=100 + shard)
        columns = {f"x{i}": x[:, i] for i in range(x.shape[1])} | {"y": y}
        path = place / f"{shard:02d}.parquet"
        pq.write_table(
            pa.table(columns), path, row_group_size=65_536, compression="NONE", use_dictionary=False
        )


def fitted(rows: int) -> dict[str, object]:
    """Write the shards and fit them in a process of its own, one after the other."""
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), rows)
        done = subprocess.run(
            [sys.executable, "-c", FIT, place], capture_output=True, text=True, check=True
        )
    return {"rows": rows, **json.loads(done.stdout)}


def run(*, quick: bool) -> Section:
    """Run the section."""
    name, asked = "6 N = 10^7 from Parquet", "memory flat (peak <= 1.25 of that for N = 10^6)"
    if quick:
        return Section([not_run(name, asked, "quick")], {})
    small, big = fitted(1_000_000), fitted(10_000_000)
    ratio = big["peak_bytes"] / small["peak_bytes"]  # type: ignore[operator]
    speed = big["rows"] / big["seconds"]  # type: ignore[operator]
    shown = (
        f"{ratio:.3f} ({big['peak_bytes'] / 2**20:.0f} MiB / "  # type: ignore[operator]
        f"{small['peak_bytes'] / 2**20:.0f} MiB), {speed:,.0f} rows per second in all"  # type: ignore[operator]
    )
    numbers = {"small": small, "big": big, "rows_per_s": speed}
    return Section([Gate(name, asked, shown, ratio <= 1.25)], numbers)
