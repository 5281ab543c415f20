"""Attacks on what decides, what is said, who is who, and what is kept: which tests prove what is expected of each.

`test_rows.py` holds this table against the tests. A row is `Proven` by the tests that it names, as file and name, and
by all tests here whose names begin with `test_sNNN_`; a `Later` row has none. What a row asks for beyond that stands in
`short`, and in a test that is expected to fail where something that exists falls short.
"""

from __future__ import annotations

from msgspec import Struct


class Proven(Struct, frozen=True, kw_only=True):
    """There are tests of it."""

    attack: str
    by: tuple[str, ...] = ()
    """Tests elsewhere, besides those named after the row: `turn/test_gate.py::test_…`."""
    short: str = ""
    """What is asked for beyond what is done."""


class Later(Struct, frozen=True, kw_only=True):
    """There is nothing yet that could be attacked so."""

    attack: str
    why: str


_COMMANDS = "test_command_hooks.py::test_"
_TRUST = "test_trust.py::test_"
_POLICIES = "turn/test_policies.py::test_"
_BUDGETS = "test_budgets.py::test_"
_KINDS = "turn/test_asks_kinds.py::test_"
_COMPACT = "turn/test_compact.py::test_"

WEB = "there is no server yet: nobody comes in by HTTP, and there are no keys, tokens or tenants of their own"
CHILDREN = "no session has children yet, and none hands over to another"

ROWS: dict[str, Proven | Later] = {
    "044": Proven(
        attack="arguments with shell syntax reach a command",
        by=(f"{_COMMANDS}arguments_reach_a_command_as_data_only",),
    ),
    "045": Proven(
        attack="a command prints 1 GB, bytes, two objects, or text around one",
        by=(
            f"{_COMMANDS}whatever_else_a_command_says_is_a_failure",
            f"{_COMMANDS}a_large_message_reaches_a_command_that_reads_it_slowly",
        ),
    ),
    "046": Proven(
        attack="a command echoes a decision that stands in what it was told",
        by=(f"{_COMMANDS}what_a_command_echoes_of_a_call_decides_nothing",),
    ),
    "047": Proven(
        attack="a command never ends, forks, ignores signals",
        by=(
            f"{_COMMANDS}a_command_that_never_ends_is_killed_with_all_its_children",
            f"{_COMMANDS}children_that_outlive_a_command_are_ended_with_it",
            f"{_COMMANDS}a_killed_program_leaves_no_command_behind",
        ),
    ),
    "048": Proven(
        attack="a command inherits keys, LD_PRELOAD, or a PATH with a dot",
        by=(
            f"{_COMMANDS}a_command_inherits_nothing",
            f"{_COMMANDS}a_program_is_never_looked_for_in_a_relative_place",
        ),
    ),
    "049": Proven(
        attack="the agent writes the script of a hook",
        by=(
            f"{_COMMANDS}a_script_that_the_agent_may_write_to_is_refused_unless_that_is_wanted",
            f"{_TRUST}what_somebody_writes_after_it_was_loaded_does_not_run",
            f"{_TRUST}a_hook_runs_among_copies_and_is_told_where_the_directory_is",
        ),
    ),
    "050": Proven(
        attack="a hook that guards crashes or takes too long",
        by=(
            "turn/test_gate.py::test_a_guard_that_fails_denies",
            "turn/test_gate.py::test_another_hook_that_fails_is_passed_over_and_reported",
            "turn/test_gate.py::test_a_guard_after_a_tool_that_fails_withholds_the_result",
            "turn/test_gate.py::test_a_policy_that_fails_denies",
            "turn/test_guards.py::test_a_guard_that_fails_blocks_if_it_blocks_at_all",
        ),
    ),
    "051": Proven(
        attack="a cloned repository ships hooks",
        by=(
            f"{_TRUST}nothing_of_a_directory_runs_before_it_is_trusted",
            f"{_TRUST}what_somebody_writes_after_it_was_loaded_does_not_run",
            f"{_TRUST}any_change_ends_the_trust_and_refuses_to_go_on_without_the_guard",
            f"{_TRUST}the_same_content_elsewhere_is_not_trusted",
            f"{_TRUST}what_is_odd_is_neither_trusted_nor_run",
        ),
        short="there are no MCP servers yet",
    ),
    "070": Proven(
        attack="a tool is called that is not there, or not for this agent",
        by=("turn/test_call.py::test_an_unknown_tool_is_a_result_that_names_the_known_ones",),
    ),
    "071": Proven(
        attack="arguments do not fit the schema",
        by=(
            "turn/test_call.py::test_arguments_that_no_json_object_should_hold_are_refused",
            "turn/test_call.py::test_all_problems_of_the_arguments_are_told_at_once",
            "turn/test_gate.py::test_changed_arguments_are_checked_like_the_models",
            f"{_KINDS}bad_input_about_asks_says_what_to_do",
        ),
    ),
    "072": Proven(attack="1,000 calls in one reply"),
    "073": Proven(
        attack="an approval is got around by another path",
        by=(
            f"{_KINDS}changed_arguments_pass_the_policies_again",
            f"{_KINDS}a_hook_that_changes_changed_arguments_makes_it_asked_again",
            f"{_KINDS}a_tool_that_changed_voids_its_ask_and_is_asked_about_again",
            f"{_KINDS}a_client_side_tool_may_need_approval_first",
            f"{_KINDS}the_agent_does_not_answer_for_itself",
            "turn/test_grants.py::test_a_grant_is_never_applied_to_a_tool_that_changed",
            "turn/test_grants.py::test_a_grant_is_for_who_asked_and_silences_nobody_else",
            f"{_POLICIES}what_the_application_hands_in_for_a_client_side_tool_is_labelled_as_well",
            "test_sinks.py::test_a_policy_is_asked_and_its_refusal_is_final",
        ),
        short="children, schedules and calls in the background are not there yet",
    ),
    "074": Proven(
        attack="words of the model mislead the person who is asked",
        by=(
            "turn/test_asks.py::test_what_was_approved_is_what_runs",
            f"{_KINDS}a_question_is_answered_in_words_or_with_one_of_its_options",
        ),
        short="a change of a file is shown as its arguments, not as a difference",
    ),
    "075": Proven(
        attack="equal calls in a loop; agents that call each other",
        by=(
            f"{_BUDGETS}a_model_that_goes_round_in_circles_is_stopped",
            f"{_BUDGETS}two_calls_in_turns_are_a_loop_and_other_results_are_none",
        ),
        short=CHILDREN,
    ),
    "076": Proven(
        attack="a page has the agent read secrets and post them",
        by=(
            f"{_POLICIES}with_private_data_and_untrusted_content_what_goes_out_is_asked_about",
            f"{_POLICIES}it_can_be_denied_instead_and_the_model_reads_that",
            f"{_POLICIES}a_leak_that_is_split_over_calls_is_stopped_at_each_of_them",
            f"{_POLICIES}labels_stay_for_later_turns_and_other_inputs",
            f"{_POLICIES}labels_survive_a_restart_at_any_event_and_a_snapshot",
            f"{_POLICIES}a_renamed_tool_keeps_its_labels_and_labels_can_be_given_by_name",
            f"{_POLICIES}a_call_that_failed_or_was_cut_off_has_brought_in_its_labels_all_the_same",
            f"{_POLICIES}the_taint_rule_survives_every_crash",
        ),
        short="a tool without labels is none of its business",
    ),
    "077": Proven(
        attack="a poisoned summary or memory acts later",
        by=(f"{_COMPACT}a_later_summary_is_told_the_earlier_one",),
        short="there is no memory across sessions yet",
    ),
    "078": Proven(
        attack="words forge a role, a template's tokens, or the end of a result",
        short="they reach the provider as they are, in their place: what its template makes of them is not known",
    ),
    "079": Proven(
        attack="placeholders in AGENTS.md or SKILL.md",
        short="nothing reads such files by itself yet: they are files like any other",
    ),
    "096": Proven(
        attack="the id of another's session, ask or cursor",
        by=(
            "test_subscription.py::test_a_cursor_of_one_scope_is_refused_in_every_other",
            "test_subscription.py::test_every_cursor_of_which_a_character_changed_is_refused",
            "test_subscription.py::test_a_cursor_of_another_store_is_refused",
            "turn/test_asks.py::test_an_unknown_ask_is_refused_and_names_the_open_ones",
        ),
        short=WEB,
    ),
    "097": Proven(
        attack="ids are guessed from others",
        by=("test_ids.py::test_ids_never_repeat_and_sort_by_creation",),
        short="whoever has the store has all of it: there is no server that authorises",
    ),
    "098": Proven(
        attack="what several share tells one of the other",
        by=(f"{_BUDGETS}principals_and_organisations_share_their_account_and_nobody_elses",),
        short="a rate is everybody's unless its scope says otherwise; there are no connections to share yet",
    ),
    "099": Later(
        attack="one tenant floods the queue",
        why="workers take what is due, the longest due first, whosever it is",
    ),
    "100": Later(attack="a child with another tenant's agent or file", why=CHILDREN),
    "101": Later(attack="missing, wrong, expired or doubled credentials", why=WEB),
    "102": Later(attack="a server beyond loopback without authentication", why=WEB),
    "103": Later(attack="a signing secret that is short or the default", why=WEB),
    "104": Later(attack="a key does more than it may", why=WEB),
    "105": Later(attack="brute force", why=WEB),
    "106": Later(attack="a webhook comes in unsigned, late or twice", why=WEB),
    "124": Proven(
        attack="history is deleted or edited",
        by=(
            "test_archive.py::test_an_archive_with_a_line_missing_doubled_moved_or_changed_is_refused",
            "stores/test_sqlite_check.py::test_an_event_that_was_moved_leaves_a_gap_and_is_not_where_it_belongs",
            "stores/test_chain.py::test_an_event_that_was_changed_is_refused_in_every_page_that_has_it",
            "stores/test_chain.py::test_an_event_with_its_link_does_not_fit_into_another_session",
            "stores/test_chain.py::test_an_event_that_was_rewritten_with_its_link_is_noticed_at_the_next",
            "stores/test_chain.py::test_who_rewrites_the_whole_chain_is_told_by_a_link_that_was_kept_elsewhere",
            "stores/postgres/test_postgres.py::test_an_event_that_was_changed_is_refused_in_every_page_that_has_it",
        ),
    ),
    "125": Proven(
        attack="a record is edited, cut short, flipped or swapped",
        by=(
            "test_bad_input.py::test_a_blob_whose_bytes_changed_fails_the_call_that_reads_it_and_the_turn_goes_on",
            "test_bad_input.py::test_a_session_whose_layers_changed_opens_only_with_its_agent_given",
            "stores/test_sqlite_check.py::test_what_is_wrong_is_found_and_nothing_else",
            "stores/test_sqlite_check.py::test_a_damaged_page_is_told_and_the_rest_is_still_looked_at",
        ),
    ),
    "126": Proven(attack="a module of the directory one works in is imported"),
    "127": Proven(attack="an argument is run, formatted, or given to a shell"),
    "128": Proven(attack="Python with its builtins removed is taken for a sandbox"),
    "129": Proven(
        attack="huge titles, very many sessions, schedules or values",
        short="there are no schedules and no key-values yet, and no bound on how many sessions somebody makes",
    ),
    "130": Proven(
        attack="a transcript that has to be summarised every turn",
        by=(
            f"{_COMPACT}a_request_that_stays_too_large_fails_its_turn_after_one_summary",
            f"{_COMPACT}each_reply_may_have_a_summary_of_its_own",
            f"{_COMPACT}a_summary_counts_against_budgets_and_is_not_made_beyond_them",
            f"{_COMPACT}policies_are_asked_about_a_summary_and_may_refuse_it",
        ),
    ),
    "131": Proven(
        attack="an endpoint reports negative, missing or impossible usage",
        by=(f"{_BUDGETS}a_provider_that_reports_nothing_or_less_is_not_believed",),
    ),
    "132": Proven(
        attack="a webhook's target redirects inwards",
        by=("test_sinks.py::test_a_webhook_is_taken_at_its_word",),
        short="there are no agents of others to talk to yet",
    ),
    "133": Proven(
        attack="a person is asked a hundred times a minute",
        by=(
            "turn/test_grants.py::test_an_answer_for_the_session_holds_for_every_tool_in_it",
            "turn/test_grants.py::test_a_denial_may_hold_as_well_and_counts_more",
            "turn/test_asks.py::test_an_ask_that_nobody_answers_in_time_is_denied",
        ),
        short="each session has its own minute: many sessions can ask one person",
    ),
}
