"""The twelve checks that TimescaleDB under Alembic must pass, by number, and where each is shown.

Each runs on TimescaleDB in WASM and on a native server, unless it says otherwise.
"""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT

CHECKS = {
    "1: after an upgrade, check is clean: with data, and with chunks in the columnstore": (
        "tests/migrations/test_mart_on_timescale.py::"
        "test_clean_with_data_the_same_rows_and_nothing_left",
        "tests/timescale/test_cycles.py::test_a_change_is_seen_made_and_taken_back",
    ),
    "2: check tells each difference between models and database, and fails": (
        "tests/timescale/test_cycles.py::test_a_change_is_seen_made_and_taken_back",
        "tests/timescale/test_cycles.py::"
        "test_a_changed_aggregate_goes_children_first_and_comes_parents_first",
        "tests/migrations/test_mart_on_timescale.py::"
        "test_alembic_check_tells_scripts_by_its_exit_code",
    ),
    "3: each difference is written, upgraded to, clean, taken back, clean": (
        "tests/timescale/test_cycles.py::test_a_change_is_seen_made_and_taken_back",
        "tests/timescale/test_random.py::test_any_declarations_and_any_change",
    ),
    "4: downgrade base leaves no hypertable, job or chunk; and up again": (
        "tests/migrations/test_mart_on_timescale.py::"
        "test_clean_with_data_the_same_rows_and_nothing_left",
        "tests/timescale/test_cycles.py::test_down_to_nothing_and_up_again",
    ),
    "5: without the extension clean as well, and every view of klines has the same rows": (
        "tests/migrations/test_mart_on_timescale.py::"
        "test_clean_with_data_the_same_rows_and_nothing_left",
        "tests/timescale/test_drift.py::test_the_same_rows_on_every_level",
        "tests/acceptance/test_rollups.py::test_every_rollup_equals_its_truth_at_every_stage",
    ),
    "6: another schema name: up, clean, nothing under the home name, down": (
        "tests/timescale/test_env.py::test_another_schema_name",
        "tests/engines/test_engines.py::test_the_mart_under_another_name",
    ),
    "7: the printed SQL has hypertables and WITH NO DATA, and refreshes nothing": (
        "tests/migrations/test_mart_on_timescale.py::test_the_printed_sql_makes_the_same_mart",
        "tests/timescale/test_env.py::test_the_printed_sql_makes_the_same",
    ),
    "8: what was changed by hand is told": (
        "tests/timescale/test_drift.py::test_a_change_by_hand_is_seen_and_put_right",
        "tests/timescale/test_drift.py::test_an_aggregate_made_again_by_hand_with_another_select",
    ),
    "9: open bucket, retention, late upsert, equal keys in one batch": (
        "tests/app/test_refresh.py::test_refreshing_leaves_the_open_bucket_open",
        "tests/app/test_refresh.py::test_dropped_rows_stay_in_the_rollups",
        "tests/app/test_refresh.py::test_a_late_correction_is_shown_when_it_was_worked_off",
        "tests/engines/test_engines.py::test_klines_are_written_and_corrected",
    ),
    "10: an aggregate without our mark survives autogenerate": (
        "tests/timescale/test_drift.py::test_what_is_somebody_elses_survives",
    ),
    "11: an upgrade makes the schema, and others see the tables": (
        "tests/timescale/test_env.py::test_an_empty_database_gets_schema_and_tables_for_everyone",
        "tests/migrations/test_beside_others.py::test_two_processes_upgrade_at_the_same_moment",
    ),
    "12: the apache licence counts as none and says so; stated community fails in one line": (
        "tests/timescale/test_env.py::test_the_apache_licence_counts_as_none_and_says_so",
    ),
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_is_shown_by_tests_that_are_there(check: str) -> None:
    for place in CHECKS[check]:
        file, _, name = place.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        tests = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in tests, place
