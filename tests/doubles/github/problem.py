"""What GitHub says when it does not do what was asked."""

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = "https://docs.github.com/rest"


class Problem(Exception):
    """An error answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {"message": self.message, "documentation_url": DOCUMENTATION}
        if self.errors:
            told["errors"] = self.errors
        told["status"] = str(self.status)
        return told


def not_found() -> Problem:
    """It is not there, or whoever asks may not know that it is."""
    return Problem(404, "Not Found")


def invalid(resource: str, field: str, message: str) -> Problem:
    """The request cannot be done as it is."""
    error = {"resource": resource, "field": field, "code": "custom", "message": message}
    return Problem(422, "Validation Failed", errors=[error])
