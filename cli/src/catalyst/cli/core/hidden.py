"""What could not be read. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hidden:
    """`why` it could not be read, and what that `needs`."""

    why: str
    needs: str
