"""The one way to the database that both programs use: DATABASE_URL, as Catalyst gives it."""

import os
from urllib.parse import unquote, urlsplit

from pg8000.native import Connection


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
