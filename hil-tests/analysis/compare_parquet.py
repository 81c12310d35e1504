"""Reads a file of Parquet by pyarrow and compares it with the JSON lines of the same samples.

usage: compare_parquet.py FILE.parquet FILE.jsonl; prints {"rows": N, "groups": N} or fails.
"""

import datetime
import json
import math
import sys

import pyarrow as pa
import pyarrow.parquet as pq

TYPES = {
    "ts": pa.timestamp("ns", tz="UTC"),
    "acquired": pa.timestamp("ns", tz="UTC"),
    "path": pa.string(),
    "v": pa.float64(),
    "v_int": pa.int64(),
    "v_bool": pa.bool_(),
    "v_text": pa.string(),
    "v_bytes": pa.binary(),
    "v_json": pa.string(),
    "u": pa.string(),
    "q": pa.string(),
    "why": pa.string(),
    "epoch": pa.string(),
    "seq": pa.uint64(),
}
NO_NUMBER = {"not-a-number": math.nan, "positive-infinity": math.inf, "negative-infinity": -math.inf}


def nanoseconds(text):
    """A time of RFC 3339 with up to nine decimals, in UTC."""
    whole, _, decimals = text.removesuffix("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
    return int(seconds) * 1_000_000_000 + int(decimals.ljust(9, "0") or 0)


def value(row):
    """What the columns of types say, as JSON would."""
    for column in ("v_bool", "v_text", "v_int", "v"):
        if row[column] is not None:
            return row[column]
    return None


def main(parquet, lines):
    file = pq.ParquetFile(parquet)
    for name, kind in TYPES.items():
        found = file.schema_arrow.field(name).type
        assert found == kind, f"{name} is {found}, not {kind}"
    rows = 0
    with open(lines, encoding="utf-8") as expected:
        for batch in file.iter_batches(batch_size=4096):
            times = {name: batch.column(name).cast(pa.int64()).to_pylist() for name in ("ts", "acquired")}
            names = [name for name in batch.schema.names if not pa.types.is_timestamp(batch.schema.field(name).type)]
            for at, row in enumerate(batch.select(names).to_pylist()):
                line = json.loads(next(expected))
                for key in ("path", "q", "u", "why", "epoch", "seq", "note", "gateway", "status"):
                    assert row.get(key) == line.get(key), f"{key} of row {rows}: {row} against {line}"
                for key in ("ts", "acquired"):
                    assert times[key][at] == nanoseconds(line[key]), f"{key} of row {rows}: {line}"
                said, meant = value(row), line["v"]
                if line.get("note") in NO_NUMBER:
                    meant = NO_NUMBER[line["note"]]
                # JSON has integers that a double would change as texts.
                if isinstance(said, int) and isinstance(meant, str):
                    meant = int(meant)
                same = said == meant or (isinstance(meant, float) and math.isnan(meant) and math.isnan(said))
                assert same, f"row {rows}: {said!r} against {meant!r}"
                rows += 1
        assert expected.readline() == "", "more lines than rows"
    print(json.dumps({"rows": rows, "groups": file.metadata.num_row_groups}))


main(*sys.argv[1:])
