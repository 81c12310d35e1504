"""The peer: samples from standard input into one SQLite table, clustered by tag and time, and asked.

Lines are `tag,seq,time,value`. One JSON object for each answer.
"""

import json
import os
import sqlite3
import sys
import time

STEP = 300 * 10**9
QUESTIONS = [
    (
        "one tag, all of it, every 5 min",
        f"SELECT t / {STEP}, count(*), min(v), max(v), avg(v), max(t), v FROM sample"
        f" WHERE tag = 508 GROUP BY t / {STEP}",
    ),
    ("one tag, raw, 1 h", "SELECT t, seq, v FROM sample WHERE tag = 508 ORDER BY t"),
    (
        "every tag, all of it, every 4 min",
        f"SELECT tag, t / {STEP * 4 // 5}, count(*), avg(v) FROM sample GROUP BY 1, 2",
    ),
]


def samples():
    for line in sys.stdin:
        tag, seq, at, value = line.split(",")
        yield int(tag), int(at), int(seq), float(value)


def main():
    place = sys.argv[1]
    base = sqlite3.connect(place)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("PRAGMA cache_size = -400000")
    base.execute(
        "CREATE TABLE sample (tag INTEGER, t INTEGER, seq INTEGER, v REAL, PRIMARY KEY (tag, t))"
        " WITHOUT ROWID"
    )
    base.executemany("INSERT INTO sample VALUES (?, ?, ?, ?)", samples())
    base.commit()
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (count,) = base.execute("SELECT count(*) FROM sample").fetchone()
    print(json.dumps({"samples": count, "bytes": os.path.getsize(place)}))
    for what, statement in QUESTIONS:
        best = None
        for _ in range(3):
            begun, used = time.perf_counter(), time.process_time()
            rows = base.execute(statement).fetchall()
            took = time.perf_counter() - begun, time.process_time() - used
            best = took if best is None else min(best, took)
        print(json.dumps({"what": what, "rows": len(rows), "seconds": best[0], "cpu_s": best[1]}))


main()
