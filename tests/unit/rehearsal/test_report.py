"""The values of a rehearsal's report, and the schema that is published of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from migrator.rehearsal import report

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "docs" / "rehearsal.schema.json").read_text(encoding="utf-8")
)
VALUES = [
    each
    for each in vars(report).values()
    if dataclasses.is_dataclass(each) and isinstance(each, type)
]


def test_the_schema_is_a_schema() -> None:
    """The published schema is valid JSON Schema of draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_the_schema_has_the_keys_of_each_value(value: type) -> None:
    """It demands all of them, knows no other one, and says what each is."""
    told = SCHEMA if value is report.Rehearsal else SCHEMA["$defs"][value.__name__]
    fields = [each.name for each in dataclasses.fields(value)]
    assert told["required"] == fields == list(told["properties"])


def test_what_a_worker_writes_is_read_as_it_was() -> None:
    """A migration's report and a comparison come back from JSON as they were."""
    migration = report.MigrationReport(
        "001",
        "made",
        None,
        "applied",
        0.5,
        ("t",),
        (report.Loss("t", 1, said=True),),
        (report.TableRows("t", "s", 1, 2, 1, 0, 0, "key"),),
        (report.StatementRun("SELECT 1", 3, 1, 0.1, ("SCAN t",), ("t",)),),
        renames=(("s", "t"),),
        column_renames=(("t", "a", "b"),),
    )
    comparison = report.Comparison(
        schema=(report.SchemaChange("added", "table", "t", "t", None, "CREATE TABLE t (a)"),),
        schema_diff=("+CREATE TABLE t (a);",),
        tables_gone=("u",),
        columns_gone=(report.ColumnGone("t", "c", 3),),
        orphans=(report.Orphans("t", "u", 0, 1),),
        queries=(
            report.QueryChange(
                "SELECT 1",
                1,
                report.QueryResult(("SCAN t",), 1, 0.1),
                report.QueryResult(error="no such table: t"),
                plan_changed=True,
                rows_changed=True,
                changed=True,
            ),
        ),
    )
    plain = json.loads(json.dumps([report.as_plain(migration), report.as_plain(comparison)]))
    assert report.migration_from(plain[0]) == migration
    assert report.comparison_from(plain[1]) == comparison
