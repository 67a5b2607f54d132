from __future__ import annotations

from array import array
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import JOB_TYPES, STATUSES
from exporter.simulator.query import (
    BadParameterError,
    Pairs,
    Query,
    Window,
    count,
    find,
    newest,
    oldest,
    parse,
)
from exporter.simulator.settings import Order, Quirks
from exporter.simulator.table import Table
from exporter.simulator.world import World
from tests.simulated import DAY_MS, START_MS, Row, rows_of, world_of

ORDERS: tuple[Order, ...] = ("created-desc", "created-asc", "update-desc")


def lived(days: int) -> World:
    world = world_of(jobs=400, jobs_per_day=100, workspaces=("0", "1"))
    world.inject(0, "NEW_TYPE", 3, "PAUSED", None)
    world.advance(START_MS + days * DAY_MS)
    return world


WORLD = lived(days=3)
ROWS = rows_of(WORLD)
MOMENTS = sorted(
    {row[name] + off for row in ROWS.values() for name in ("create_at", "update_at") for off in (-1, 0, 1)}
)
LATE = st.sampled_from(MOMENTS[-20:])
TIMES = st.sampled_from([0, *MOMENTS, 2**60]) | LATE

queries = st.builds(
    Query,
    workspace_id=st.sampled_from(["0", "1"]),
    job_types=st.lists(st.sampled_from([*JOB_TYPES, "NEW_TYPE"]), max_size=3).map(tuple),
    statuses=st.lists(st.sampled_from([*STATUSES, "PAUSED"]), max_size=4).map(tuple),
    start_ms=st.none() | TIMES,
    end_ms=st.none() | TIMES,
    job_id=st.none() | st.integers(0, 900),
    data_id=st.none() | st.sampled_from(["DPK0000001", "DPK0000020", "DPK9999999", "none"]),
    offset=st.integers(0, 500),
    limit=st.integers(1, 200),
)


def matches(row: Row, query: Query) -> bool:
    return (
        row["workspace_id"] == query.workspace_id
        and row["job_type"] in (query.job_types or [row["job_type"]])
        and row["status"] in (query.statuses or [row["status"]])
        and (query.start_ms is None or row["create_at"] >= query.start_ms)
        and (query.end_ms is None or row["update_at"] <= query.end_ms)
        and query.job_id in {None, row["id"]}
        and query.data_id in {None, row["data_id"]}
    )


def ordered(rows: list[Row], order: Order) -> list[int]:
    if order == "update-desc":
        rows = sorted(rows, key=lambda row: (row["update_at"], row["id"]), reverse=True)
    else:
        rows = sorted(rows, key=lambda row: row["id"], reverse=order == "created-desc")
    return [row["id"] for row in rows]


@settings(max_examples=200, deadline=None)
@given(query=queries, order=st.sampled_from(ORDERS))
def test_a_page_is_what_filtering_and_sorting_all_rows_gives(query: Query, order: Order) -> None:
    expected = ordered([row for row in ROWS.values() if matches(row, query)], order)
    found = find(WORLD.table, WORLD.listings[int(query.workspace_id)], query, order)
    assert found.total == len(expected)
    assert found.ids == expected[query.offset : query.offset + query.limit]


@pytest.mark.parametrize(("name", "bound"), [("create_at", "start_ms"), ("update_at", "end_ms")])
def test_the_times_of_a_query_are_within_what_it_finds(name: str, bound: str) -> None:
    for row in list(ROWS.values())[::10]:
        one = Query(workspace_id=row["workspace_id"], job_id=row["id"])
        listing = WORLD.listings[int(row["workspace_id"])]
        outside = row[name] + (1 if bound == "start_ms" else -1)
        assert find(WORLD.table, listing, replace(one, **{bound: row[name]}), "created-desc").total == 1
        assert find(WORLD.table, listing, replace(one, **{bound: outside}), "created-desc").total == 0


@pytest.mark.parametrize("order", ORDERS)
def test_paging_covers_all_rows_once(order: Order) -> None:
    ids = [
        job_id
        for offset in range(0, len(ROWS), 50)
        for job_id in find(WORLD.table, WORLD.listings[0], Query(offset=offset, limit=50), order).ids
    ]
    assert sorted(ids) == sorted(n for n, row in ROWS.items() if row["workspace_id"] == "0")


@given(
    groups=st.lists(st.integers(0, 3), max_size=60),
    low=st.integers(0, 60),
    high=st.integers(0, 60),
    offset=st.integers(0, 70),
    limit=st.integers(1, 70),
)
def test_pages_come_out_of_any_union_of_sorted_ids(
    groups: list[int], low: int, high: int, offset: int, limit: int
) -> None:
    arrays = [array("q", (n for n, group in enumerate(groups) if group == wanted)) for wanted in range(3)]
    window = Window(low, high)
    expected = sorted(n for ids in arrays for n in ids if low <= n < high)
    assert count(arrays, window) == len(expected)
    assert oldest(arrays, window, offset, limit) == expected[offset : offset + limit]
    assert newest(arrays, window, offset, limit) == expected[::-1][offset : offset + limit]


def parsed(*pairs: tuple[str, str], **quirks: object) -> Query:
    return parse(pairs, Table(), Quirks(**quirks))  # type: ignore[arg-type] # whatever the test is about


def test_what_is_left_out_has_the_servers_defaults() -> None:
    assert parsed() == Query(workspace_id="0", offset=0, limit=10)


def test_arrays_are_repeated_keys() -> None:
    query = parsed(("statuses", "RUNNING"), ("job_types", "FRAME_EXTRACT"), ("statuses", "QUEUING"))
    assert (query.statuses, query.job_types) == (("RUNNING", "QUEUING"), ("FRAME_EXTRACT",))


def test_every_scalar_is_read() -> None:
    scalars = "workspace_id=7&start_time=1&end_time=2&id=3&data_id=D&offset=4&limit=200"
    assert parsed(*parse_qsl(scalars)) == Query("7", (), (), 1, 2, 3, "D", 4, 200)


def test_parameters_nobody_knows_are_passed_over() -> None:
    assert parsed(("sort", "CREATE_AT_DESC"), ("x", "y")) == Query()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", ""),
        ("offset", "-1"),
        ("offset", "1.5"),
        ("start_time", "2024-01-01"),
        ("end_time", "-5"),
        ("id", "0x10"),
        ("id", "\u0661"),
        ("statuses", "SLEEPING"),
        ("statuses", "RUNNING,QUEUING"),
        ("job_types", "frame_extract"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadParameterError, match=name):
        parsed((name, value))


def test_an_array_takes_twenty_values_and_no_more() -> None:
    twenty: Pairs = [("statuses", "RUNNING")] * 20
    assert len(parsed(*twenty).statuses) == 20
    with pytest.raises(BadParameterError, match="statuses:21 values"):
        parsed(*twenty, ("statuses", "QUEUING"))


def test_an_ignored_filter_is_not_even_looked_at() -> None:
    pairs = (("statuses", "NONSENSE"), ("start_time", "x"), ("id", "y"), ("job_types", "z"), ("limit", "5"))
    query = parsed(*pairs, ignore_filters=("statuses", "start_time", "id", "job_types"))
    assert query == Query(limit=5)


def test_a_server_may_honour_only_the_first_value() -> None:
    query = parsed(("statuses", "RUNNING"), ("statuses", "QUEUING"), first_value_only=True)
    assert query.statuses == ("RUNNING",)


def test_a_server_may_take_only_comma_separated_arrays() -> None:
    query = parsed(("statuses", "RUNNING,QUEUING"), ("statuses", "FINISHED"), comma_arrays=True)
    assert query.statuses == ("RUNNING", "QUEUING")
