"""What the server makes of mixtures: it adopts a reduction, or makes a pooled EM step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from moiety.core.types import Memory, Params
from moiety.mixtures.arrays import EXPERTS, GATE, SPREADS, VARIANCES
from moiety.mixtures.em import Prior
from moiety.mixtures.logit import Array
from moiety.mixtures.pooled import PooledPoint, step_pooled
from moiety.models.mixture import FREE, MixtureForm, pack_sums, unpack_sums

JUDGEMENT = "judgement"


def adopt_reduction(
    params: Params, merged: Params, held: Params, memory: Memory, /
) -> tuple[Params, Memory]:
    """Adopt the mixture, and remember how its local fits were judged."""
    del params, held, memory
    names = {GATE, EXPERTS, VARIANCES, SPREADS}
    mixture = {name: tensor for name, tensor in merged.items() if name in names}
    return mixture, {JUDGEMENT: {n: t for n, t in merged.items() if n not in names}}


def keep_mixture(
    params: Params, merged: Params, held: Params, memory: Memory, /
) -> tuple[Params, Memory]:
    """Change nothing: workers were only asked how they do with the mixture."""
    del merged, held
    return params, memory


@dataclass(frozen=True)
class PooledStep:
    """Make one EM step from the sums of all rows; remember the point from which it was made.

    Args:
        prior: ridge and variance floor.
        support: covariates, [S, D], in the units of the mixture, with the constant.
        form: how the mixture lies in tensors.
    """

    prior: Prior
    support: Array
    form: MixtureForm = FREE

    def __call__(
        self, params: Params, merged: Params, held: Params, memory: Memory, /
    ) -> tuple[Params, Memory]:
        del held
        here = PooledPoint(self.form.read(params), unpack_sums(merged), 1.0)
        moved, best = step_pooled(here, self.recall(memory), self.prior, self.support)
        kept = {
            "mixture": self.form.write(best.mixture, {}),
            "sums": pack_sums(best.sums),
            "step_size": {"step_size": torch.tensor(best.step_size, dtype=torch.double)},
        }
        return self.form.write(moved, params), kept

    def recall(self, memory: Memory) -> PooledPoint | None:
        """Read the point of the last step, if there was one."""
        return recall_point(memory, self.form) if memory else None


def recall_point(memory: Memory, form: MixtureForm = FREE) -> PooledPoint:
    """Read the point from which the last step was made."""
    mixture, sums = form.read(memory["mixture"]), unpack_sums(memory["sums"])
    return PooledPoint(mixture, sums, float(memory["step_size"]["step_size"]))
