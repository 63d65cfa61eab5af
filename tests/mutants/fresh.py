"""Forty more, planted on 2026-11-29 over all rooms before anybody looked which tests there are."""

from tests.mutants.record import Mutant

FRESH = (
    Mutant(
        "core", "runs of a repeated axis begin at the wrong places", "core/axes.py",
        "run = length // entry.repeat", "run = length // (entry.repeat * entry.block)",
        "unit/test_axes.py unit/test_ist.py",
    ),
    Mutant(
        "core", "means of counters are cut, not rounded", "core/fold.py",
        "mean = mean.round() if", "mean = mean if",
        "unit/test_fold.py unit/test_module.py",
    ),
    Mutant(
        "core", "what the answer brought is counted as sent again", "core/state.py",
        "for name, t in self.piece.items() if name not in self.known",
        "for name, t in self.piece.items()",
        "unit/test_ddome.py laws/test_asking.py",
    ),
    Mutant(
        "core", "calibration asks every worker for rows, not 64 at most", "core/rows.py",
        "generator=rng)[:64].tolist()", "generator=rng).tolist()",
        "unit/test_rows.py hand/test_core.py",
    ),
    Mutant(
        "rounds", "a reply makes the server forget the seconds of all others",
        "rounds/asynchronous.py",
        "job_seconds={**state.clock.job_seconds, **here}", "job_seconds=here",
        "unit/test_flight.py",
    ),
    Mutant(
        "rounds", "memory that travels goes beyond what came", "rounds/asynchronous.py",
        "min(follow, 1.0)", "follow",
        "unit/test_flight.py",
    ),
    Mutant(
        "rounds", "late changes are applied as if they were values", "rounds/asynchronous.py",
        "if follow == 1.0 and not (schedule.change and late)", "if follow == 1.0",
        "unit/test_flight.py",
    ),
    Mutant(
        "split", "nested widths are cut, not rounded", "split/nested.py",
        "round(size * width)", "int(size * width)",
        "unit/test_split.py unit/test_models.py",
    ),
    Mutant(
        "split", "the last window of dropped units runs over the end", "split/scored.py",
        "begin = min(int(place * size), size - count)", "begin = int(place * size)",
        "unit/test_dealt.py unit/test_flight.py",
    ),
    Mutant(
        "split", "what is dealt once and for all is dealt afresh", "split/assigned.py",
        "rng = turn.rng if self.fixed is None else stream(self.fixed, SERVER, \"deal\")",
        "rng = turn.rng",
        "unit/test_dealt.py unit/test_ist.py",
    ),
    Mutant(
        "solve", "a batch of one row is left to batch norm", "solve/sgd.py",
        "size % width == 1", "size % width == size",
        "unit/test_plan.py unit/test_descent.py unit/test_module.py",
    ),
    Mutant(
        "solve", "every piece of a batch bears the whole penalty", "solve/sgd.py",
        "value + share * term(", "value + term(",
        "unit/test_descent.py unit/test_optim.py",
    ),
    Mutant(
        "solve", "a later stage goes on in the schedule of the run", "solve/lr_schedule.py",
        "max(0.0, progress - self.start)", "progress",
        "unit/test_plan.py unit/test_ist.py",
    ),
    Mutant(
        "merge", "mixtures are reduced in the order in which they came", "merge/transport.py",
        "sorted(self.replies, key=lambda reply: reply.worker)", "list(self.replies)",
        "unit/test_dmoe.py laws/test_merging.py",
    ),
    Mutant(
        "server", "the server's gradient is never clipped", "server/gradient.py",
        "clip_norm(grads, self.clip) if self.clip is not None else grads", "grads",
        "unit/test_outer.py unit/test_descent.py hand/test_core.py unit/test_ist.py",
    ),
    Mutant(
        "server", "second moments begin at nothing", "server/optimizers.py",
        "torch.full_like(old, start)", "torch.zeros_like(old)",
        "unit/test_outer.py",
    ),
    Mutant(
        "engine", "rates of a long stacked plan begin again at every stride", "engine/batches.py",
        "rates[:count, place] = plan.lr[first:last]", "rates[:count, place] = plan.lr[:count]",
        "unit/test_engines.py laws/test_engines.py",
    ),
    Mutant(
        "engine", "ranks tell what they remember of others' workers", "engine/collective.py",
        " if worker % ranks.size == ranks.rank}", "}",
        "laws/test_collective.py",
    ),
    Mutant(
        "engine", "the loss of a batch in pieces is that of its last piece", "engine/work.py",
        "total = loss.detach() if total is None else total + loss.detach()",
        "total = loss.detach()",
        "unit/test_descent.py unit/test_engines.py laws/test_engines.py",
    ),
    Mutant(
        "blocks", "blocks of uneven size lose their tail", "blocks/shards.py",
        "step = -(-size // count)", "step = max(1, size // count)",
        "unit/test_partitioned.py",
    ),
    Mutant(
        "blocks", "later stripes of a fold go to the first rows", "blocks/slices.py",
        "axes[f\"d{dim}\"] = kept[inside] - begin",
        "axes[f\"d{dim}\"] = kept[inside] % old.shape[dim]",
        "unit/test_partitioned.py",
    ),
    Mutant(
        "data", "a scale has the sample's deviation", "data/dataset.py",
        "std = columns.std(1, correction=0)", "std = columns.std(1, correction=1)",
        "data/test_dataset.py data/test_files.py",
    ),
    Mutant(
        "data", "rows that mend a short worker are taken from anybody", "data/partition.py",
        "rich, poor = int(sizes.argmax()), int(sizes.argmin())",
        "rich, poor = int(sizes.argsort()[-2]), int(sizes.argmin())",
        "data/test_partition.py",
    ),
    Mutant(
        "data", "the first labels always get the rows left over", "data/labels.py",
        "base + (place in lucky)", "base + (place < extra)",
        "data/test_partition.py",
    ),
    Mutant(
        "data", "a streamed scale counts a file once, not its rows", "data/stream.py",
        "count + len(x), total", "count + 1, total",
        "data/test_stream.py",
    ),
    Mutant(
        "recipes", "pixels that hardly vary are stretched without bound", "recipes/scaling.py",
        "clamp_min(0.1 * float(scale.std.max()))", "clamp_min(0.0)",
        "run/test_recipes.py run/test_own_data.py",
    ),
    Mutant(
        "recipes", "unseen workers have the numbers of seen ones", "recipes/population.py",
        "\"unseen\": population.workers}", "\"unseen\": 0}",
        "run/test_population.py",
    ),
    Mutant(
        "recipes", "data with other labels pass for the same", "recipes/scaling.py",
        "for column in (data.x, data.y, edges)", "for column in (data.x, edges)",
        "run/test_checkpoint.py run/test_bad_input.py run/test_own_data.py",
    ),
    Mutant(
        "run", "routes of validation rows are counted", "run/evaluate.py",
        "if mine is not None and name != \"validation\"", "if mine is not None",
        "run/test_ledger.py",
    ),
    Mutant(
        "run", "the worst checkpoint is kept for the best", "run/checkpoint.py",
        "best = max(scores", "best = min(scores",
        "run/test_checkpoint.py",
    ),
    Mutant(
        "run", "fewer than are available are looked at", "run/cohort.py",
        "min(self.population, 64 * self.size)", "min(self.population, self.size)",
        "run/test_roster.py",
    ),
    Mutant(
        "serve", "accuracy in a file counts rows without a label as wrong", "serve/predictions.py",
        "/ len(pairs) if pairs else None", "/ len(names) if pairs else None",
        "run/test_predict.py",
    ),
    Mutant(
        "serve", "a gate's scores are those of its last chunk of rows", "serve/choose.py",
        "total = score_E if total is None else total + score_E", "total = score_E",
        "unit/test_ddome.py run/test_personal.py",
    ),
    Mutant(
        "report", "spreads are those of a population", "report/frames.py",
        "statistics.stdev(kept)", "statistics.pstdev(kept)",
        "report/test_frames.py",
    ),
    Mutant(
        "report", "a margin is held against the smaller spread", "report/findings.py",
        "return max(found, default=None)", "return min(found, default=None)",
        "report/test_texts.py report/test_page.py report/test_frames.py",
    ),
    Mutant(
        "plan", "the cost shown is of the worker with the least to do", "plan/costs.py",
        "most = max(found, key", "most = min(found, key",
        "run/test_plan.py run/test_plan_exact.py",
    ),
    Mutant(
        "plan", "the fastest parts are chosen though they do not fit", "plan/choice.py",
        "key=lambda one: (one.memory_bytes > room, one.seconds(steps))",
        "key=lambda one: one.seconds(steps)",
        "run/test_plan.py",
    ),
    Mutant(
        "estimators", "the integrated criterion counts the entropy once", "estimators/criteria.py",
        "+ 2 * compute_label_entropy(", "+ compute_label_entropy(",
        "estimators/test_single.py estimators/test_select.py estimators/test_errors.py",
    ),
    Mutant(
        "mixtures", "pooled squares forget how far the means are apart", "mixtures/scale.py",
        "square = first.square + second.square + gap**2",
        "square = first.square + second.square + 0 * gap",
        "estimators/test_em.py",
    ),
    Mutant(
        "mixtures", "the ridge holds intercepts as well", "mixtures/em.py",
        "(mixture.gate[1:, :-1] ** 2)", "(mixture.gate[:, :-1] ** 2)",
        "estimators/test_em.py estimators/test_single.py",
    ),
)  # fmt: skip
