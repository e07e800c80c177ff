"""Reads tables that mdf wrote with DuckDB, pandas, pyarrow and polars, and compares them with mdf's own counts.

Runs in a folder with dir/*.parquet, arrow/*.arrow, report.json, endpoints.json and digests.json of one capture. The
argument is docs/TABLES.md, whose SQL is run too.
"""

import json
import math
import re
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.feather
import pyarrow.parquet

# A percentile of the report is off by less than half a part of its histogram (src/analyze/report/histogram.rs).
ERROR = 0.004
KEYS = {"http": ["method", "endpoint", "host"], "mysql": ["digest", "command"]}
COUNTED = {"http": "endpoints", "mysql": "digests"}


def same(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, wanted {wanted!r}")


def near(what, percentile, values, wanted):
    """The value at this rank, by any of the usual definitions of a percentile."""
    rank = percentile * (len(values) - 1)
    low, high = values[max(0, math.floor(rank) - 1)], values[min(len(values) - 1, math.ceil(rank) + 1)]
    if not low * (1 - ERROR) <= wanted <= high * (1 + ERROR):
        sys.exit(f"{what}: p{percentile * 100:g} between {low} and {high}, the report has {wanted}")


def counted(frame, table):
    """What the report counts, from the rows of a pandas frame."""
    failed = frame["status"] >= 500 if table == "http" else frame["status"] == "error"
    frame = frame.assign(failed=failed.fillna(False))
    return {
        tuple(str(part) for part in key): {
            "count": len(rows),
            "errors": int(rows["failed"].sum()),
            "measured": int(rows["total_ns"].notna().sum()),
            "max_ns": int(rows["total_ns"].max()),
            "request_bytes": int(rows["request_bytes"].sum()),
            "response_bytes": int(rows["response_bytes"].sum()),
            "values": sorted(int(value) for value in rows["total_ns"].dropna()),
        }
        for key, rows in frame.groupby(KEYS[table])
    }


def check_counts(reader, frame, table):
    found = counted(frame, table)
    rows = json.loads(Path(f"{COUNTED[table]}.json").read_text())
    rows = [row for row in rows if all(row[key] is not None for key in KEYS[table])]
    same(f"{reader}, {table}: how many {COUNTED[table]}", len(found), len(rows))
    for row in rows:
        key = tuple(row[part] for part in KEYS[table])
        one = found[key]
        for column in ["count", "errors", "measured", "max_ns", "request_bytes", "response_bytes"]:
            same(f"{reader}, {table}, {key}, {column}", one[column], row[column])
        for percentile, column in [(0.5, "p50_ns"), (0.9, "p90_ns"), (0.95, "p95_ns"), (0.99, "p99_ns")]:
            near(f"{reader}, {table}, {key}", percentile, one["values"], row[column])


def check_file(name, table):
    """What the Parquet file itself is like."""
    file = pyarrow.parquet.ParquetFile(name)
    schema, meta = file.schema_arrow, file.metadata
    for field in schema:
        kind = {
            "start": pyarrow.timestamp("ns", tz="UTC"),
            "complete": pyarrow.bool_(),
            "client_port": pyarrow.uint32(),
            "server_ip": pyarrow.large_string(),
        }.get(field.name)
        if field.name.endswith("_ns"):
            kind = pyarrow.uint64()
        if kind is not None and field.type != kind and not pyarrow.types.is_string_view(field.type):
            sys.exit(f"{name}: {field.name} is {field.type}, wanted {kind}")
    if meta.num_row_groups < 2:
        sys.exit(f"{name}: {meta.num_row_groups} row groups, several were wanted")
    start = schema.get_field_index("start")
    spans = []
    for group in range(meta.num_row_groups):
        for column in range(meta.num_columns):
            chunk = meta.row_group(group).column(column)
            same(f"{name}, {chunk.path_in_schema}: compression", chunk.compression, "ZSTD")
            repeats = {"method", "server_ip", "client_comm", "command", "side"}
            if chunk.path_in_schema in repeats and "RLE_DICTIONARY" not in chunk.encodings:
                sys.exit(f"{name}, {chunk.path_in_schema}: {chunk.encodings}, a dictionary was wanted")
        statistics = meta.row_group(group).column(start).statistics
        spans.append((statistics.min, statistics.max))
    same(f"{name}: row groups in the order of time", spans, sorted(spans))
    for (_, end), (begin, _) in zip(spans, spans[1:]):
        if end > begin:
            sys.exit(f"{name}: row groups overlap: {end} and {begin}")
    facts = {key.decode(): value.decode() for key, value in meta.metadata.items()}
    for column in schema.names:
        if not facts.get(f"mdf.column.{column}"):
            sys.exit(f"{name}: no documentation of {column}")
    capture = json.loads(facts["mdf.captures"])[0]
    same(f"{name}: host", capture["host"], "one-host")
    same(f"{name}: first event", capture["first"][:19], "2026-01-01T00:00:00")


def main():
    report = json.loads(Path("report.json").read_text())
    for table in ["http", "mysql"]:
        name = f"dir/{table}.parquet"
        check_file(name, table)
        duck = duckdb.sql(f"SELECT * FROM '{name}'")
        # Columns that are null now and then become floats in pandas, which hold 53 bits: enough for what is compared.
        frames = {
            "duckdb": duck.df(),
            "pandas": pandas.read_parquet(name),
            "polars": polars.read_parquet(name).to_pandas(),
            "pyarrow, arrow": pyarrow.feather.read_table(f"arrow/{table}.arrow").to_pandas(),
        }
        wanted = report[f"confidence_{table}"]
        for reader, frame in frames.items():
            same(f"{reader}, {table}: rows", len(frame), wanted["exchanges"])
            same(f"{reader}, {table}: complete rows", int(frame["complete"].sum()), wanted["measured"])
            if not frame["start"].is_monotonic_increasing:
                sys.exit(f"{reader}, {table}: rows are not in the order of time")
            check_counts(reader, frame, table)
        parquet, arrow = frames["pandas"].astype(str), frames["pyarrow, arrow"].astype(str)
        same(f"{table}: Arrow as Parquet", parquet.equals(arrow), True)

    queries = re.findall(r"```sql\n(.*?)```", Path(sys.argv[1]).read_text(), re.S)
    same("queries in TABLES.md", len(queries), 3)
    slow, errors, statements = [duckdb.sql(query).df() for query in queries]
    if slow.empty or not slow["p95_ms"].is_monotonic_decreasing:
        sys.exit(f"TABLES.md, slowest minutes:\n{slow}")
    failed = sum(row["errors"] for row in json.loads(Path("endpoints.json").read_text()))
    same("TABLES.md, errors", int(errors["errors"].sum()), failed)
    digests = {row["digest"]: row for row in json.loads(Path("digests.json").read_text()) if row["digest"]}
    for _, row in statements.iterrows():
        digest = digests[row["digest"]]
        same("TABLES.md, statements", int(row["times"]), digest["count"])
        same("TABLES.md, seconds", round(row["seconds"], 6), round(digest["sum_ns"] / 1e9, 6))
    print("all the same")


main()
