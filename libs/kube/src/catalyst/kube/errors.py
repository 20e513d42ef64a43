"""One error tree for everything an API server, or the way to it, can answer.

    KubeError                 status, reason, message, causes
    ├── Unauthorized          401  the credential is not accepted
    ├── Forbidden             403  RBAC, admission or quota said no
    ├── NotFound              404
    ├── AlreadyExists         409  reason AlreadyExists: a create met an object of that name
    ├── Conflict              409  another writer was faster, a precondition failed, or a field has another owner
    ├── Expired               410  the resourceVersion or continue token is too old: list again
    ├── Invalid               400, 413, 415, 422  the object is wrong; `causes` name the fields
    ├── TooManyRequests       429  `retry_after` says when to come back
    ├── Unavailable           5xx, timeouts and broken connections. A write that ends so may have happened
    └── FencedOut             never sent: this process may not write any more

Foreign exceptions (aiohttp, ssl, sockets) are translated here and nowhere else, with `from`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One field the server complains about: path such as `spec.hard`, a machine reason, a sentence."""

    field: str
    reason: str
    message: str


class KubeError(Exception):
    """A request failed. `status` is the HTTP status, 0 when there was no answer. `details` is `Status.details`,
    verbatim.
    """

    def __init__(self, status: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The fields named by the server, in its order; empty when it named none."""
        return tuple(
            Cause(cause.get("field", ""), cause.get("reason", ""), cause.get("message", ""))
            for cause in self.details.get("causes") or ()
        )

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asks us to wait, None when it did not say."""
        seconds = self.details.get("retryAfterSeconds")
        return float(seconds) if seconds else None


class Unauthorized(KubeError):
    """401: the credential is missing, expired or unknown."""


class Forbidden(KubeError):
    """403: RBAC, an admission policy or a quota refuses; the message says which."""


class NotFound(KubeError):
    """404: no such object, or no such kind on this server."""


class AlreadyExists(KubeError):
    """409: a create met an object of the same name."""


class Conflict(KubeError):
    """409: stale resourceVersion, another uid, or a field that belongs to another manager.

    A patch or apply that names another uid than the object's is answered 422 "metadata.uid: field is immutable" (seen
    on 1.36): the same precondition failed, so it is a Conflict too, with the server's status and reason kept.
    """


class Expired(KubeError):
    """410: the resourceVersion or the continue token is older than what the server keeps."""


class Invalid(KubeError):
    """400, 413, 415 or 422: the request itself is wrong. Sending it again changes nothing."""


class TooManyRequests(KubeError):
    """429: priority and fairness, or an eviction that a disruption budget holds up."""


class Unavailable(KubeError):
    """No usable answer. Reads may be repeated; a write may have happened: read before deciding again."""


class FencedOut(KubeError):
    """The write was not sent, because this process does not hold the right to write (see lease.py)."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "FencedOut", message)


_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: TooManyRequests,
}


def error_of(status: int, body: Any) -> KubeError:
    """The error for an HTTP status and its decoded body: a Kubernetes `Status` object, or any text a proxy sent."""
    answer = body if isinstance(body, dict) else {}
    reason = str(answer.get("reason") or _reason_of(status))
    message = str(answer.get("message") or (body if isinstance(body, str) and body else reason))
    details = answer.get("details") or {}
    return _class_of(status, reason, details)(status, reason, message, details)


def _class_of(status: int, reason: str, details: dict[str, Any]) -> type[KubeError]:
    if reason == "AlreadyExists":
        return AlreadyExists
    if status == 422 and any(cause.get("field") == "metadata.uid" for cause in details.get("causes") or ()):
        return Conflict
    if status >= 500 or reason == "Timeout":
        return Unavailable
    return _BY_STATUS.get(status, KubeError)


def _reason_of(status: int) -> str:
    return "ServerError" if status >= 500 else "Unknown"
