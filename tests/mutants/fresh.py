"""More, planted over all rooms: forty on 2026-11-29 before anybody looked which tests there are."""

from tests.mutants.record import Mutant

FRESH = (
    Mutant(
        "core", "runs of a repeated axis begin at the wrong places", "core/axes.py",
        "run = length // entry.repeat", "run = length // (entry.repeat * entry.block)",
        "unit/test_axes.py::test_positions",
    ),
    Mutant(
        "core", "means of counters are cut, not rounded", "core/fold.py",
        "mean = mean.round() if", "mean = mean if",
        "unit/test_fold.py::test_integers_are_averaged_and_rounded",
    ),
    Mutant(
        "core", "what the answer brought is counted as sent again", "core/state.py",
        "for name, t in piece.items() if name not in known and name not in coded",
        "for name, t in piece.items() if name not in coded",
        "unit/test_ddome.py::test_bytes_are_the_papers_formula",
    ),
    Mutant(
        "core", "calibration asks every worker for rows, not 64 at most", "core/rows.py",
        "generator=rng)[:64].tolist()", "generator=rng).tolist()",
        "hand/test_core.py::test_calibration_looks_at_64_workers_at_most",
    ),
    Mutant(
        "rounds", "a reply makes the server forget the seconds of all others",
        "rounds/asynchronous.py",
        "job_seconds={**state.clock.job_seconds, **here}", "job_seconds=here",
        "hand/test_core.py::test_the_seconds_of_workers_are_kept_until_they_are_back_again",
    ),
    Mutant(
        "rounds", "memory that travels goes beyond what came", "rounds/draw_back.py",
        "min(follow, 1.0)", "follow",
        "unit/test_flight.py::test_a_mean_of_squares_never_falls_below_nothing",
    ),
    Mutant(
        "rounds", "late changes are applied as if they were values", "rounds/draw_back.py",
        " and not (self.schedule.change and late)", "",
        "unit/test_flight.py::test_staleness_weights_by_hand",
    ),
    Mutant(
        "split", "nested widths are cut, not rounded", "split/nested.py",
        "round(size * width)", "int(size * width)",
        "unit/test_split.py::test_nested_parts_lie_inside_each_other",
    ),
    Mutant(
        "split", "the last window of dropped units runs over the end", "split/scored.py",
        "begin = min(int(place * size), size - count)", "begin = int(place * size)",
        "unit/test_flight.py::test_the_last_window_is_clipped",
    ),
    Mutant(
        "split", "what is dealt once and for all is dealt afresh", "split/assigned.py",
        "rng = turn.rng if self.fixed is None else stream(self.fixed, SERVER, \"deal\")",
        "rng = turn.rng",
        "unit/test_dealt.py::test_fixed_hands_stay",
    ),
    Mutant(
        "solve", "a batch of one row is left to batch norm", "solve/sgd.py",
        "size % width == 1", "size % width == size",
        "hand/test_engine.py::test_batch_norm_never_sees_a_single_row",
    ),
    Mutant(
        "solve", "every piece of a batch bears the whole penalty", "solve/sgd.py",
        "value + share * term(", "value + term(",
        "unit/test_descent.py::test_accumulation_equals_one_batch",
    ),
    Mutant(
        "solve", "a later stage goes on in the schedule of the run", "solve/lr_schedule.py",
        "max(0.0, progress - self.start)", "progress",
        "hand/test_core.py::test_a_later_schedule_begins_at_its_stage",
    ),
    Mutant(
        "merge", "mixtures are reduced in the order in which they came", "merge/gather.py",
        "sorted(self.replies, key=lambda reply: reply.worker)", "list(self.replies)",
        "hand/test_mixtures.py::test_mixtures_are_reduced_alike_in_whatever_order_they_come",
    ),
    Mutant(
        "server", "the server's gradient is never clipped", "server/gradient.py",
        "clip_norm(grads, self.clip) if self.clip is not None else grads", "grads",
        "hand/test_core.py::test_the_server_s_gradient_is_clipped_as_one",
    ),
    Mutant(
        "server", "second moments begin at nothing", "server/optimizers.py",
        "torch.full_like(old, start)", "torch.zeros_like(old)",
        "unit/test_outer.py::test_three_steps_by_hand",
    ),
    Mutant(
        "engine", "rates of a long stacked plan begin again at every stride", "engine/batches.py",
        "cut_steps(plan.lr, first,", "cut_steps(plan.lr, 0,",
        "hand/test_engine.py::test_a_stretch_of_stacked_plans_is_that_of_each",
    ),
    Mutant(
        "engine", "ranks tell what they remember of others' workers", "engine/collective.py",
        " if worker % ranks.size == ranks.rank}", "}",
        "hand/test_engine.py::test_a_rank_tells_what_its_own_workers_keep",
    ),
    Mutant(
        "engine", "the loss of a batch in pieces is that of its last piece", "engine/work.py",
        "total = loss.detach() if total is None else total + loss.detach()",
        "total = loss.detach()",
        "hand/test_engine.py::test_a_batch_in_pieces_has_the_loss_of_the_batch",
    ),
    Mutant(
        "blocks", "blocks of uneven size lose their tail", "blocks/shards.py",
        "step = -(-size // count)", "step = max(1, size // count)",
        "unit/test_partitioned.py::test_it_gives_the_bits_of_the_central_layout",
    ),
    Mutant(
        "blocks", "a last stripe of one row is left as it was", "blocks/slices.py",
        "range(0, block.shape[dim], stride)", "range(0, block.shape[dim] - 1, stride)",
        "hand/test_engine.py::test_a_block_folded_in_stripes_is_the_block_folded_at_once",
    ),
    Mutant(
        "data", "a scale has the sample's deviation", "data/dataset.py",
        "std = columns.std(1, correction=0)", "std = columns.std(1, correction=1)",
        "data/test_dataset.py::test_scale_of_tables_and_images",
    ),
    Mutant(
        "data", "short workers are filled from the largest's rarest class", "data/partition.py",
        "label = int(counts[:, rich].argmax())", "label = int(counts[:, rich].argmin())",
        "hand/test_runs.py::test_short_workers_are_filled_from_the_largest",
    ),
    Mutant(
        "data", "the first labels always get the rows left over", "data/labels.py",
        "base + (place in lucky)", "base + (place < extra)",
        "hand/test_runs.py::test_chance_decides_which_label_has_a_row_more",
    ),
    Mutant(
        "data", "a streamed scale counts a file once, not its rows", "data/stream.py",
        "count + len(x), total", "count + 1, total",
        "data/test_stream.py::test_a_streamed_scale_is_that_of_all_rows",
    ),
    Mutant(
        "recipes", "pixels that hardly vary are stretched without bound", "recipes/scaling.py",
        "clamp_min(0.1 * float(found.std.max()))", "clamp_min(0.0)",
        "hand/test_runs.py::test_pixels_that_hardly_vary_are_held_to_a_tenth_of_the_largest_spread",
    ),
    Mutant(
        "recipes", "unseen workers have the numbers of seen ones", "recipes/population.py",
        "\"unseen\": population.workers}", "\"unseen\": 0}",
        "hand/test_runs.py::test_unseen_workers_are_numbered_behind_the_seen",
    ),
    Mutant(
        "recipes", "data with other labels pass for the same", "recipes/source.py",
        "for column in (data.x, data.y, edges, held, data.weights)",
        "for column in (data.x, edges, held, data.weights)",
        "hand/test_runs.py::test_data_are_told_apart_by_rows_and_by_labels",
    ),
    Mutant(
        "run", "routes of validation rows are counted", "run/evaluate.py",
        "if mine is not None and name != \"validation\"", "if mine is not None",
        "hand/test_runs.py::test_routes_of_validation_rows_are_not_counted",
    ),
    Mutant(
        "run", "the worst checkpoint is kept for the best", "core/checkpoints.py",
        "best = max(scores", "best = min(scores",
        "run/test_checkpoint.py::test_the_last_and_the_best_are_kept",
    ),
    Mutant(
        "run", "fewer than are available are looked at", "rounds/cohort.py",
        "min(self.population, 64 * self.size)", "min(self.population, self.size)",
        "hand/test_runs.py::test_as_many_as_are_asked_for_come_where_enough_are_there",
    ),
    Mutant(
        "serve", "accuracy in a file counts rows without a label as wrong", "serve/predictions.py",
        "/ len(pairs) if pairs else None", "/ len(names) if pairs else None",
        "hand/test_runs.py::test_a_file_s_accuracy_is_of_the_rows_that_have_a_label",
    ),
    Mutant(
        "serve", "a gate's scores are those of its last chunk of rows", "serve/choose.py",
        "total = score_E if total is None else total + score_E", "total = score_E",
        "hand/test_runs.py::test_a_gate_is_asked_about_all_rows",
    ),
    Mutant(
        "report", "spreads are those of a population", "report/frames.py",
        "statistics.stdev(kept)", "statistics.pstdev(kept)",
        "report/test_frames.py::test_summary_equals_ledger",
    ),
    Mutant(
        "report", "a margin is held against the smaller spread", "report/findings.py",
        "return max(found, default=None)", "return min(found, default=None)",
        "hand/test_runs.py::test_the_noise_of_two_is_the_larger",
    ),
    Mutant(
        "plan", "the cost shown is of the worker with the least to do", "plan/costs.py",
        "most = max(found, key", "most = min(found, key",
        "hand/test_runs.py::test_a_plan_tells_of_the_worker_with_the_most_to_do",
    ),
    Mutant(
        "plan", "the fastest parts are chosen though they do not fit", "plan/choice.py",
        "key=lambda one: (one.memory_bytes > room, one.seconds(steps))",
        "key=lambda one: one.seconds(steps)",
        "hand/test_runs.py::test_parts_that_fit_are_chosen_before_faster_ones_that_do_not",
    ),
    Mutant(
        "estimators", "the integrated criterion counts the entropy once", "estimators/criteria.py",
        "+ 2 * compute_label_entropy(", "+ compute_label_entropy(",
        "hand/test_mixtures.py::test_the_integrated_criterion_by_hand",
    ),
    Mutant(
        "mixtures", "pooled squares forget how far the means are apart", "mixtures/scale.py",
        "square = first.square + second.square + gap**2",
        "square = first.square + second.square + 0 * gap",
        "estimators/test_em.py::test_moments_pool_and_units_return",
    ),
    Mutant(
        "mixtures", "the ridge holds intercepts as well", "mixtures/em.py",
        "(mixture.gate[1:, :-1] ** 2)", "(mixture.gate[:, :-1] ** 2)",
        "hand/test_mixtures.py::test_the_ridge_leaves_intercepts_alone",
    ),
    Mutant(
        "wire", "what topk leaves out is forgotten", "wire/ends.py",
        "rest = {name: tensor - got[name] for", "rest = {name: 0 * tensor for",
        "unit/test_wire.py::test_what_was_sent_and_what_is_left_are_all_that_changed",
    ),
    Mutant(
        "wire", "what is left overwrites what was left of other units", "wire/ends.py",
        "return torch.where(held > 0, laid, whole)", "return laid",
        "unit/test_wire.py::test_what_was_sent_and_what_is_left_are_all_that_changed",
    ),
    Mutant(
        "wire", "levels are rounded to the nearest", "wire/stages.py",
        "(place + draw_shifts(place, rng)).floor()", "place.round()",
        "unit/test_wire.py::test_rounding_has_no_bias",
    ),
    Mutant(
        "wire", "a place may stand twice", "wire/stages.py",
        "(where_K.diff() > 0).all()", "(where_K.diff() >= 0).all()",
        "unit/test_wire.py::test_a_hostile_code_is_refused",
    ),
    Mutant(
        "wire", "the server adds a difference to what the worker saw", "rounds/border.py",
        "self.sent[job.worker] = job", "self.sent[job.worker] = self.wire.open(job)",
        "unit/test_wire.py::test_a_difference_is_added_to_what_the_server_has",
    ),
    Mutant(
        "wire", "codes of jobs under way are not kept", "run/in_flight.py",
        'tree.get("code", {})', "{}",
        "unit/test_wire.py::test_a_stop_is_invisible",
    ),
)  # fmt: skip
