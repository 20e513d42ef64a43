"""The one way to the database that both programs use: DATABASE_URL, as Catalyst gives it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import LifoQueue
from urllib.parse import unquote, urlsplit

from pg8000.native import Connection, DatabaseError, InterfaceError

CONNECTIONS = 4
_pool: LifoQueue[Connection | None] = LifoQueue()
"""Signing in costs a hundred times what a query does, so connections are kept for the next request; None: one that may
be made. Whoever finds none waits for somebody else's.
"""
for _ in range(CONNECTIONS):
    _pool.put(None)


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
    found, usable = _pool.get(timeout=10), None
    try:
        usable = found if found and _is_alive(found) else connected()
        yield usable
    except BaseException:
        _pool.put(None)
        if usable:
            _close(usable)
        raise
    _pool.put(usable)


def begun() -> None:
    """All connections are there before the first request is: a new version is as quick as the one before it."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(borrowed())


def _is_alive(connection: Connection) -> bool:
    """The database may have been started anew."""
    try:
        connection.run("SELECT 1")
    except (OSError, DatabaseError, InterfaceError):
        _close(connection)
        return False
    return True


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except (OSError, DatabaseError, InterfaceError):
        return  # it was broken already
