"""Bugs in what protects: noise that is too small, masks that tell, sums of one."""

from tests.mutants.record import Mutant

GUARDS = (
    Mutant(
        "privacy", "long changes are added as they are", "merge/private.py",
        "share = min(1.0, most / norm) if norm > 0 else 1.0", "share = 1.0",
        "unit/test_private.py::test_one_worker_moves_the_sum_by_the_clip_at_most_whatever_overlaps",
    ),
    Mutant(
        "privacy", "the noise on a sum forgets the clip", "merge/private.py",
        "total = merge.clip * merge.noise * noise", "total = merge.noise * noise",
        "unit/test_private.py::"
        "test_noise_has_the_variance_that_is_said_on_what_was_asked_for_and_nowhere_else",
    ),
    Mutant(
        "privacy", "two sums of one round have the same noise", "merge/private.py",
        "digest_tensors(whole, self.sums)", "digest_tensors(whole)",
        "unit/test_private.py::test_noise_repeats_with_the_same_replies_alone",
    ),
    Mutant(
        "privacy", "the noise of a step forgets the clip", "solve/private.py",
        "float(weight_B.max()) * self.noise * self.clip", "float(weight_B.max()) * self.noise",
        "unit/test_row_privacy.py::test_every_step_has_noise_of_its_own_also_a_short_one",
    ),
    Mutant(
        "privacy", "all steps of a job have the same noise", "solve/private.py",
        "(*carry[ADDRESS], number, name)", "(*carry[ADDRESS], name)",
        "unit/test_row_privacy.py::test_every_step_has_noise_of_its_own_also_a_short_one",
    ),
    Mutant(
        "privacy", "the norm of a row's gradient is that of one tensor", "solve/private.py",
        "torch.stack(squares).sum(0)", "torch.stack(squares).amax(0)",
        "unit/test_row_privacy.py::test_a_step_is_that_of_opacus_with_the_noise_off",
    ),
    Mutant(
        "privacy", "all rounds cost as much as the first", "privacy/accountant.py",
        "self.asked[rounds - 1], self.delta", "self.asked[0], self.delta",
        "unit/test_private.py::test_epsilon_of_known_cohorts_is_that_of_one_gaussian",
    ),
    Mutant(
        "privacy", "later epochs of a round cost nothing", "privacy/rows.py",
        "0 if plain is None else plain.epochs", "0 if plain is None else 1",
        "unit/test_row_privacy.py::test_rows_that_a_step_does_not_keep_apart_are_refused",
    ),
    Mutant(
        "secure", "one share less tells a secret", "secure/shamir.py",
        "for _ in range(threshold - 1)", "for _ in range(threshold - 2)",
        "unit/test_secure.py::test_any_so_many_shares_tell_a_secret_and_fewer_tell_nothing",
    ),
    Mutant(
        "secure", "masks of two workers add up", "secure/session.py",
        "return mask if one < other else -mask", "return mask",
        "unit/test_secure.py::test_the_sum_of_those_who_came_is_opened_and_nothing_else",
    ),
    Mutant(
        "secure", "a share tells both secrets of a worker", "secure/session.py",
        "            if worker in here\n            else keys[0]\n", "            + keys[0]\n",
        "unit/test_secure.py::test_nobody_tells_both_secrets_of_a_worker",
    ),
    Mutant(
        "secure", "numbers of the ring are cut, not rounded", "secure/ring.py",
        "/ self.step).round().to(", "/ self.step).to(",
        "unit/test_secure.py::test_a_sum_never_leaves_the_ring",
    ),
    Mutant(
        "secure", "what too few hold is sent", "secure/ends.py",
        "            if len(cells.holders[cell]) >= rule.least\n        }\n        beside",
        "        }\n        beside",
        "unit/test_secure_rounds.py::test_what_too_few_hold_keeps_its_value_and_is_never_sent",
    ),
    Mutant(
        "secure", "parts that two hold pass for three", "secure/config.py",
        "for axis, most in found.items() if most < least",
        "for axis, most in found.items() if most < 2",
        "unit/test_secure_rounds.py::test_parts_that_fewer_than_enough_hold_are_refused",
    ),
    Mutant(
        "secure", "a sum is opened a second time", "federation/sums.py",
        "drawer.path.unlink()", "state.boxes",
        "federation/test_sums.py::"
        "test_a_node_tells_no_reply_without_masks_and_nothing_twice",
    ),
    Mutant(
        "secure", "a server that was killed begins another sum", "engine/sum_progress.py",
        "if not path.is_file():", "if path.name:",
        "federation/test_sums.py::test_a_server_that_is_killed_goes_on_with_the_same_sum",
    ),
    Mutant(
        "secure", "who was late is taken in after a stop", "engine/sum_progress.py",
        "return self.closed.get(step) or list(workers)", "return list(workers)",
        "federation/test_sums.py::test_who_was_late_for_a_step_stays_out_of_it",
    ),
)  # fmt: skip
