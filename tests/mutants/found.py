"""The 25 that no test noticed on 2026-11-28, of 69 planted by hand."""

from tests.mutants.record import Mutant

FOUND = (
    Mutant(
        "recipes", "the common expert is that of the last epoch", "recipes/common.py",
        "best = {name: t.detach().clone() for name, t in params.items()}", "best = params",
        "hand/test_runs.py::test_the_common_expert_is_that_of_its_best_epoch",
    ),
    Mutant(
        "engine", "workers of two roles are stacked as one", "engine/vectorized.py",
        "key = (stacked.job.share.role, ", "key = (",
        "hand/test_engine.py::test_workers_of_two_roles_and_one_shape_are_each_on_their_loss",
    ),
    Mutant(
        "report", "constants are counted for all seen workers", "report/frames.py",
        "constant_bytes * len(distinct)", "constant_bytes * ledger.start.num_seen",
        "hand/test_runs.py::test_constants_are_sent_once_to_each_who_took_part",
    ),
    Mutant(
        "blocks", "hands in blocks forget how many places there are", "blocks/partitioned.py",
        "cohort, {}, rng, self.concurrency)", "cohort, {}, rng)",
        "hand/test_engine.py::test_hands_in_blocks_are_those_of_all_places",
    ),
    Mutant(
        "core", "jobs in flight are carried into the next stage", "core/stage.py",
        "clock=replace(state.clock, in_flight=())", "clock=state.clock",
        "hand/test_core.py::test_jobs_in_flight_end_with_their_stage",
    ),
    Mutant(
        "merge", "support rows are not weighed by rows per row sent", "merge/transport.py",
        "one / one.sum() * count", "one * count",
        "hand/test_mixtures.py::test_support_rows_of_a_merge_stand_for_the_rows_of_their_worker",
    ),
    Mutant(
        "merge", "support rows of a worker all weigh the same", "merge/transport.py",
        'detach_array(reply.answer["weights"]) if "weights" in reply.answer else np.ones(len(x))',
        "np.ones(len(x))",
        "hand/test_mixtures.py::test_support_rows_of_unequal_weights_share_the_rows_of_their_worker",
    ),
    Mutant(
        "mixtures", "a misfit is half of what is documented", "mixtures/reduce.py",
        "return 2 * scene.rows * np.array(far)", "return scene.rows * np.array(far)",
        "hand/test_mixtures.py::test_a_misfit_is_twice_the_rows_times_the_squared_distance",
    ),
    Mutant(
        "mixtures", "matching is not normalised by the mass of each expert", "mixtures/align.py",
        "return paid / np.maximum(mass.sum(0), 1e-12)[:, None]", "return paid",
        "hand/test_mixtures.py::test_a_rare_expert_counts_like_another_in_the_matching",
    ),
    Mutant(
        "engine", "the last loss is the smallest", "engine/work.py",
        "losses[0], losses[-1], mean", "losses[0], min(losses), mean",
        "hand/test_engine.py::test_a_record_has_first_last_and_mean",
    ),
    Mutant(
        "core", "cut pieces in half precision are summed in half precision", "core/fold.py",
        "self.scalar, dtype=choose_sum_dtype(piece)", "self.scalar, dtype=piece.dtype",
        "hand/test_core.py::test_half_precision_that_is_cut_is_weighed_and_added_in_float32",
    ),
    Mutant(
        "split", "a quota fills every hand with the same extra indices", "split/assigned.py",
        "more = rest[torch.randperm(len(rest), generator=rng)][",
        "more = rest.sort().values[",
        "hand/test_core.py::test_a_quota_fills_every_hand_by_a_draw_of_its_own",
    ),
    Mutant(
        "solve", "windows are read in the order of the file", "solve/plan.py",
        "in torch.randperm(-(-size // window), generator=rng).tolist()",
        "in range(-(-size // window))",
        "hand/test_core.py::test_windows_are_shuffled_too",
    ),
    Mutant(
        "benchmarks", "the worst worker is looked for among the seen alone", "benchmarks/trial.py",
        'in ("seen", "unseen"))', 'in ("seen",))',
        "hand/test_runs.py::test_the_worst_worker_of_a_trial_may_be_an_unseen_one",
    ),
    Mutant(
        "server", "the schedule is one round ahead", "server/gradient.py",
        "self.lr_schedule(float(clock))", "self.lr_schedule(float(clock) + 1)",
        "hand/test_core.py::test_a_server_s_schedule_begins_with_the_first_round",
    ),
    Mutant(
        "mixtures", "a pooled step that fails twice is halved once", "mixtures/pooled.py",
        "0.5 * best.step_size", "0.5",
        "hand/test_mixtures.py::test_a_pooled_step_that_fails_twice_is_quartered",
    ),
    Mutant(
        "merge", "rows take the place of a reply's precision", "merge/overlap.py",
        "scalar=know.scalar * reply.record.rows", "scalar=float(reply.record.rows)",
        "hand/test_core.py::test_rows_multiply_the_precision_of_a_reply",
    ),
    Mutant(
        "split", "a swap forgets that an index has got one more", "split/gated.py",
        "    load[left] += 1\n", "",
        "hand/test_core.py::test_capacity_holds_after_a_second_swap",
    ),
    Mutant(
        "mixtures", "carrying ends as soon as no assignment changes", "mixtures/transport.py",
        "if same and trace[-2] - trace[-1] <=", "if same or trace[-2] - trace[-1] <=",
        "hand/test_mixtures.py::test_experts_are_carried_until_plan_and_objective_both_rest",
    ),
    Mutant(
        "core", "joined rows come in another order than asked", "core/rows.py",
        "back = owner.argsort(stable=True).argsort()", "back = torch.arange(len(ids))",
        "hand/test_core.py::test_joined_rows_come_in_the_order_asked",
    ),
    Mutant(
        "engine", "convolutions are stacked", "engine/choose.py",
        " and not convolves", "",
        "hand/test_engine.py::test_the_engine_by_size",
    ),
    Mutant(
        "plan", "an answer is counted once, however many chunks it looks at", "plan/profile.py",
        "flops += count * (", "flops += (",
        "hand/test_engine.py::test_the_cost_of_an_answer_grows_with_all_rows",
    ),
    Mutant(
        "run", "auto looks at who works, not at how many are merged at a time", "run/spec.py",
        'record.schedule.kind == "buffered"', "False",
        "hand/test_runs.py::test_auto_looks_at_how_many_are_merged_at_a_time",
    ),
    Mutant(
        "recipes", "truth passes for a number", "recipes/fields.py",
        " and not isinstance(value, bool)", "",
        "hand/test_runs.py::test_truth_is_no_number",
    ),
    Mutant(
        "mixtures", "support rows of a worker are rounded down", "mixtures/worker.py",
        "return -(-wanted // self.workers)", "return wanted // self.workers",
        "hand/test_mixtures.py::test_the_support_of_one_worker_is_rounded_up",
    ),
)  # fmt: skip
