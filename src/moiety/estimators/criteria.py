"""Information criteria, standard errors and a summary of a fitted mixture."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.standard_errors import standard_errors
from moiety.estimators.table import measure_experts, name_spreads, tabulate_parameters
from moiety.mixtures.counting import count_free_parameters
from moiety.mixtures.em import Prior
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.freedom import Freedom
from moiety.mixtures.logit import Array, log_softmax
from moiety.mixtures.model import Mixture, log_density, log_joint, responsibilities
from moiety.mixtures.worker import drop_zero_weights, lift_weights


def compute_label_entropy(mixture: Mixture, rows: RowArrays, *, hard: bool = False) -> float:
    """Give the weighted entropy of the responsibilities, or minus the log of the largest."""
    if mixture.noise is None:
        logs = log_softmax(log_joint(mixture, rows[0], rows[1]))
    else:
        shares = responsibilities(mixture, rows[0], rows[1])
        logs = np.log(np.maximum(np.column_stack([shares, 1 - shares.sum(1)]), 1e-300))
    each = -logs.max(1) if hard else -(np.exp(logs) * logs).sum(1)
    return float(rows[2] @ each)


def format_coefficients(
    mixture: Mixture, names: list[str], errors: dict[str, Array] | None, free: Freedom
) -> list[str]:
    """Lay coefficients out as lines of text, with errors and z where they are known."""
    used = {"gate": free.find_gate_rows(len(names)), "experts": free.find_expert_rows(len(names))}
    lines = []
    blocks = [("gate", mixture.gate[:, :-1, None])]
    coef = mixture.experts.coef
    blocks.append(("experts", coef[..., None] if coef.ndim == 2 else coef[..., :-1]))
    for block, values in blocks:
        spread = None if errors is None else errors[block].reshape(values.shape)
        for at in np.ndindex(values.shape[1:]):
            label = f"{block[:-1] if block == 'experts' else block} {at[0]}"
            lines.append(label if values.shape[2] == 1 else f"{label}, class {at[1]}")
            for row in used[block]:
                name = names[row]
                value = values[(row, *at)]
                line = f"  {name:<24}{value:>14.6g}"
                if spread is not None:
                    error = spread[(row, *at)]
                    line += f"{error:>14.4g}{value / error if error else np.nan:>10.2f}"
                lines.append(line)
    return lines


class Criteria:
    """Methods of a fitted estimator that judge it on rows."""

    mixture_: Mixture

    def _prior(self) -> Prior:
        raise NotImplementedError

    def _count(self) -> int:
        """Count the parameters that the fit was free to choose."""
        return count_free_parameters(self.mixture_, self._prior())

    def _seen(self, X: Any, y: Any, sample_weight: Any = None) -> RowArrays:
        raise NotImplementedError

    def _judged(self, X: Any, y: Any, sample_weight: Any = None) -> RowArrays:
        """Give rows as a fit to them counts them: weights that sum to less count the rows."""
        return lift_weights(drop_zero_weights(self._seen(X, y, sample_weight)))[0]

    def bic(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give -2 log-likelihood + parameters * log(rows); lower is better.

        Weights count as in a fit: at least as many rows as there are, whatever their unit.
        """
        rows = self._judged(X, y, sample_weight)
        value = rows[2] @ log_density(self.mixture_, rows[0], rows[1])
        return float(-2 * value + self._count() * np.log(rows[2].sum()))

    def aic(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give -2 log-likelihood + 2 * parameters; lower is better."""
        rows = self._judged(X, y, sample_weight)
        value = rows[2] @ log_density(self.mixture_, rows[0], rows[1])
        return float(-2 * value + 2 * self._count())

    def icl(self, X: Any, y: Any, sample_weight: Any = None, *, hard: bool = True) -> float:
        """Give BIC plus twice the entropy of the labels: of the likeliest ones, or of all."""
        rows = self._judged(X, y, sample_weight)
        return self.bic(X, y, sample_weight) + 2 * compute_label_entropy(
            self.mixture_, rows, hard=hard
        )

    def standard_errors(
        self, X: Any, y: Any, sample_weight: Any = None, *, kind: str = "observed"
    ) -> dict[str, Array]:
        """Give standard errors on these rows.

        Args:
            X: covariates, [N, d].
            y: responses, [N].
            sample_weight: weights, [N].
            kind: from the ``"observed"`` information, or a ``"sandwich"``, which holds also where
                the rows do not quite follow the family.

        Returns:
            ``gate`` [D, K - 1] and ``experts`` [D, K] or [D, K, G - 1], intercepts first, and for
            regressors ``log_variances`` [K] or the logarithms of other spreads; NaN, with a
            warning, where the rows do not identify a parameter.
        """
        rows = self._judged(X, y, sample_weight)
        return standard_errors(self.mixture_, rows, kind, self._prior(), self._terms())

    def summary_frame(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        kind: str = "observed",
        level: float = 0.95,
    ) -> Any:
        """Give all parameters as a frame of pandas, a row each, of columns in use.

        Columns: ``block``, ``expert``, ``class`` (of classifiers), ``term``, ``estimate``,
        ``error``, ``z``, ``p`` (two-sided, that the parameter is 0; not of spreads), ``low`` and
        ``high`` at the level. Spreads are positive: their intervals are those of the logarithms.

        Args:
            X: covariates, [N, d].
            y: responses, [N].
            sample_weight: weights, [N].
            kind: of the standard errors.
            level: of the intervals.
        """
        errors = self.standard_errors(X, y, sample_weight, kind=kind)
        free = self._prior().free
        return tabulate_parameters(self.mixture_, self._terms(), errors, level, free)

    def experts_frame(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Give how much of these rows each expert has, as a frame of pandas, a row each.

        Columns: ``expert``; ``share``, the mean gate probability; ``rows``, the sum of
        responsibilities; ``assigned``, the rows of which it is the likeliest; ``ratio``, those
        among the rows with a responsibility above 1e-4: near 1 where it stands apart. Noise has the
        number -1.
        """
        import pandas as pd  # a second of loading, which fits do not need

        return pd.DataFrame(measure_experts(self.mixture_, self._judged(X, y, sample_weight)))

    def _terms(self) -> list[str]:
        """Name the columns, the constant first."""
        names = list(getattr(self, "feature_names_in_", []))
        names = names or [f"x{i}" for i in range(self.mixture_.gate.shape[0] - 1)]
        return ["intercept", *map(str, names)]

    def summary(self, X: Any = None, y: Any = None, sample_weight: Any = None) -> str:
        """Describe the fit; with rows, also standard errors, z values and criteria on them."""
        check_is_fitted(self)
        lines = [
            f"{type(self).__name__}: {self.mixture_.num_experts} experts, "
            f"{self._count()} parameters"
        ]
        errors, held = None, {}
        if X is not None:
            errors = self.standard_errors(X, y, sample_weight)
            rows = self._judged(X, y, sample_weight)
            value = float(rows[2] @ log_density(self.mixture_, rows[0], rows[1]))
            lines.append(
                f"log-likelihood {value:.4f}   BIC {self.bic(X, y, sample_weight):.2f}   "
                f"AIC {self.aic(X, y, sample_weight):.2f}   "
                f"ICL {self.icl(X, y, sample_weight):.2f}"
            )
            lines.append(f"  {'':<24}{'estimate':>14}{'std. error':>14}{'z':>10}")
            sizes = measure_experts(self.mixture_, rows)
            held = {name: sizes[name][: self.mixture_.num_experts] for name in ("share", "rows")}
        free = self._prior().free
        lines += format_coefficients(self.mixture_, self._terms(), errors, free)
        for name, values in {**name_spreads(self.mixture_.experts), **held}.items():
            lines.append(f"{name}  " + "  ".join(f"{value:.6g}" for value in values))
        told = [name for name, one in zip(self._terms(), free.shared or (), strict=False) if one]
        told += ["spread"] * free.one_spread
        if told:
            lines.append(f"one for all experts  {', '.join(told)}")
        if self.mixture_.noise is not None:
            lines.append(f"share of noise  {self.mixture_.noise.share:.6g}")
        return "\n".join(lines)
