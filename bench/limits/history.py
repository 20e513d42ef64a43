"""Bare reading of a compressed file of JSON lines: what replaying it costs before anything is decided.

Arguments: file. Answers: seconds, records.
"""

import gzip
import json
import time

from bench.limits.arguments import answer, given


def main() -> None:
    path = given()["file"]
    began = time.perf_counter()
    with gzip.open(path) as lines:
        records = sum(1 for line in lines if json.loads(line))
    answer(seconds=time.perf_counter() - began, records=records)


if __name__ == "__main__":
    main()
