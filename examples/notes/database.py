"""The one way to the database that both programs use: DATABASE_URL, as Catalyst gives it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, LifoQueue
from urllib.parse import unquote, urlsplit

from pg8000.native import Connection, DatabaseError, InterfaceError

_idle: LifoQueue[Connection] = LifoQueue(maxsize=8)
"""Signing in costs a hundred times what a query does, so connections are kept for the next request."""


def connected() -> Connection:
    url = urlsplit(os.environ["DATABASE_URL"])
    return Connection(
        unquote(url.username or ""),
        host=url.hostname or "",
        port=url.port or 5432,
        database=url.path.lstrip("/"),
        password=unquote(url.password or ""),
        timeout=10,
    )


@contextmanager
def borrowed() -> Iterator[Connection]:
    """A connection that nobody else uses meanwhile; one that failed is not kept."""
    connection = _kept() or connected()
    try:
        yield connection
    except BaseException:
        _close(connection)
        raise
    try:
        _idle.put_nowait(connection)
    except Full:
        _close(connection)


def _kept() -> Connection | None:
    """One from before that is still alive: the database may have been started anew."""
    while True:
        try:
            connection = _idle.get_nowait()
        except Empty:
            return None
        try:
            connection.run("SELECT 1")
        except (OSError, DatabaseError, InterfaceError):
            _close(connection)
        else:
            return connection


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except (OSError, DatabaseError, InterfaceError):
        return  # it was broken already
