"""What the disk allows: the same bytes appended to one file, each followed by fdatasync.

Arguments: file (made and removed), body (file with the bytes), writers (each number of threads is tried), seconds
(each). Answers: rates {writers: writes/s}, best.
"""

import os
import threading
import time
from pathlib import Path

from bench.limits.arguments import answer, given


def rate(path: Path, body: bytes, writers: int, seconds: float) -> float:
    """Synced writes per second. Several threads share the file, as group commits would."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC, 0o600)
    written = [0] * writers
    until = time.perf_counter() + seconds

    def write(writer: int) -> None:
        while time.perf_counter() < until:
            os.write(file, body)
            os.fdatasync(file)
            written[writer] += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    os.close(file)
    path.unlink()
    return sum(written) / elapsed


def main() -> None:
    arguments = given()
    body = Path(arguments["body"]).read_bytes()
    rates = {
        writers: rate(Path(arguments["file"]), body, writers, arguments["seconds"]) for writers in arguments["writers"]
    }
    answer(rates=rates, best=max(rates.values()))


if __name__ == "__main__":
    main()
