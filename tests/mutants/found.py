"""The 25 that no test noticed on 2026-11-28, of 69 planted by hand."""

from tests.mutants.record import Mutant

CORE = ("tests/hand/test_core.py",)
ENGINE = ("tests/hand/test_engine.py",)
MIXTURES = ("tests/hand/test_mixtures.py",)
RUNS = ("tests/hand/test_runs.py",)

FOUND = (
    Mutant(
        "recipes", "the common expert is that of the last epoch", "recipes/common.py",
        "best = {name: t.detach().clone() for name, t in params.items()}", "best = params", RUNS,
    ),
    Mutant(
        "engine", "workers of two roles are stacked as one", "engine/vectorized.py",
        "key = (stacked.job.share.role, ", "key = (", ENGINE,
    ),
    Mutant(
        "report", "constants are counted for all seen workers", "report/frames.py",
        "constant_bytes * len(distinct)", "constant_bytes * ledger.start.num_seen", RUNS,
    ),
    Mutant(
        "blocks", "hands in blocks forget how many places there are", "blocks/partitioned.py",
        "tuple(cohort), {}, rng, self.concurrency)", "tuple(cohort), {}, rng)", ENGINE,
    ),
    Mutant(
        "core", "jobs in flight are carried into the next stage", "core/stage.py",
        "clock=replace(state.clock, in_flight=())", "clock=state.clock", CORE,
    ),
    Mutant(
        "merge", "support rows are not weighed by rows per row sent", "merge/transport.py",
        "np.full(len(x), reply.precision.scalar / len(x))",
        "np.full(len(x), reply.precision.scalar)", MIXTURES,
    ),
    Mutant(
        "estimators", "support rows are not weighed by rows per row sent", "estimators/server.py",
        "/ one.support[2].sum() * one.local.rows", "* one.local.rows", MIXTURES,
    ),
    Mutant(
        "mixtures", "a misfit is half of what is documented", "mixtures/reduce.py",
        "return 2 * scene.rows * np.array(far)", "return scene.rows * np.array(far)", MIXTURES,
    ),
    Mutant(
        "mixtures", "matching is not normalised by the mass of each expert", "mixtures/align.py",
        "return paid / np.maximum(mass.sum(0), 1e-12)[:, None]", "return paid", MIXTURES,
    ),
    Mutant(
        "engine", "the last loss is the smallest", "engine/work.py",
        "values[0], values[-1], mean", "values[0], min(values), mean", ENGINE,
    ),
    Mutant(
        "core", "cut pieces in half precision are summed in half precision", "core/fold.py",
        "self.scalar, dtype=choose_sum_dtype(piece)", "self.scalar, dtype=piece.dtype", CORE,
    ),
    Mutant(
        "split", "a quota fills every hand with the same extra indices", "split/assigned.py",
        "more = rest[torch.randperm(len(rest), generator=rng)][",
        "more = rest.sort().values[", CORE,
    ),
    Mutant(
        "solve", "windows are read in the order of the file", "solve/plan.py",
        "in torch.randperm(-(-size // window), generator=rng).tolist()",
        "in range(-(-size // window))", CORE,
    ),
    Mutant(
        "benchmarks", "the worst worker is looked for among the seen alone", "benchmarks/trial.py",
        'in ("seen", "unseen"))', 'in ("seen",))', RUNS,
    ),
    Mutant(
        "server", "the schedule is one round ahead", "server/gradient.py",
        "self.lr_schedule(float(clock))", "self.lr_schedule(float(clock) + 1)", CORE,
    ),
    Mutant(
        "estimators", "a pooled step that fails twice is halved once", "estimators/server.py",
        "pace = 0.5 * best[3]", "pace = 0.5", MIXTURES,
    ),
    Mutant(
        "merge", "rows take the place of a reply's precision", "merge/overlap.py",
        "scalar=know.scalar * reply.record.rows", "scalar=float(reply.record.rows)", CORE,
    ),
    Mutant(
        "split", "a swap forgets that an index has got one more", "split/gated.py",
        "    load[left] += 1\n", "", CORE,
    ),
    Mutant(
        "mixtures", "carrying ends as soon as no assignment changes", "mixtures/transport.py",
        "if same and trace[-2] - trace[-1] <=", "if same or trace[-2] - trace[-1] <=", MIXTURES,
    ),
    Mutant(
        "core", "joined rows come in another order than asked", "core/rows.py",
        "back = owner.argsort(stable=True).argsort()", "back = torch.arange(len(ids))", CORE,
    ),
    Mutant(
        "engine", "convolutions are stacked", "engine/choose.py",
        " and not convolves", "", ENGINE,
    ),
    Mutant(
        "plan", "an answer is counted once, however many chunks it looks at", "plan/profile.py",
        "flops += count * (", "flops += (", ENGINE,
    ),
    Mutant(
        "run", "auto looks at who works, not at how many are merged at a time", "run/spec.py",
        'record.schedule.kind == "buffered"', "False", RUNS,
    ),
    Mutant(
        "recipes", "truth passes for a number", "recipes/fields.py",
        " and not isinstance(value, bool)", "", RUNS,
    ),
    Mutant(
        "estimators", "support rows of a machine are rounded down", "estimators/workers.py",
        "return -(-wanted // self.machines)", "return wanted // self.machines", MIXTURES,
    ),
)  # fmt: skip
