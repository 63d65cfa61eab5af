"""flexmix in R on the same rows, from given labels or from its own starts."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ENDS = {"gaussian": "y ~ ", "poisson": "y ~ ", "binomial": "cbind(y, trials - y) ~ "}
SCRIPT = """
suppressMessages(library(flexmix))
d <- read.csv("rows.csv")
trials <- {trials}
names <- paste(setdiff(names(d), "y"), collapse = " + ")
form <- as.formula(paste("{response}", names))
gate <- FLXPmultinom(as.formula(paste("~", names)))
model <- FLXMRglm(family = "{family}")
control <- list(tolerance = 1e-8, iter.max = 2000, minprior = 0)
set.seed({seed})
t <- proc.time()
if (file.exists("labels.txt")) {{
  labels <- scan("labels.txt", quiet = TRUE)
  for (turn in 1:2) {{
    t <- proc.time()
    m <- flexmix(form, data = d, cluster = labels, model = model, concomitant = gate,
                 control = control)
  }}
}} else {{
  m <- stepFlexmix(form, data = d, k = {experts}, nrep = {starts}, model = model,
                   concomitant = gate, control = control, verbose = FALSE)
}}
t <- proc.time() - t
cat(sprintf("%.6f %d %.3f %d\\n", as.numeric(logLik(m)), m@iter, t[1] + t[2], m@k))
"""


def flexmix(
    x: np.ndarray,
    y: np.ndarray,
    *,
    family: str = "gaussian",
    labels: np.ndarray | None = None,
    experts: int = 2,
    starts: int = 6,
    trials: int = 1,
    seed: int = 1,
) -> dict[str, Any]:
    """Fit in R: log-likelihood, steps, seconds of the processor without R's own start.

    From labels the second of two fits is timed, in which nothing is loaded or compiled, as ours is.
    """
    with tempfile.TemporaryDirectory() as place:
        header = ",".join([*(f"x{i}" for i in range(x.shape[1])), "y"])
        rows = np.column_stack([x, y])
        np.savetxt(Path(place) / "rows.csv", rows, "%.17g", ",", header=header, comments="")
        if labels is not None:
            np.savetxt(Path(place) / "labels.txt", labels + 1, "%d")
        script = Path(place) / "fit.R"
        script.write_text(
            SCRIPT.format(
                trials=trials, response=ENDS[family], family=family, seed=seed, experts=experts,
                starts=starts,
            )
        )  # fmt: skip
        done = subprocess.run(
            ["Rscript", str(script)], cwd=place, capture_output=True, text=True, check=True
        )
    value, steps, seconds, held = done.stdout.split()
    return {
        "log_likelihood": float(value), "steps": int(steps), "cpu_s": float(seconds),
        "experts": int(held),
    }  # fmt: skip
