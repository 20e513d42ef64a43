"""The kinds of text and number that resources are made of, each checked here and by the API server alike.

What a regular expression can say is a `pattern` (one expression, read by pydantic and by Kubernetes). What it cannot
say readably is a CEL rule with a sentence, and a function here that refuses with the same sentence.
"""

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo

from catalyst.model.names import MAX_NAME, NAME_PATTERN

Json = dict[str, Any]


def cel(rule: str, message: str, **extra: str) -> Json:
    """One entry of `x-kubernetes-validations`."""
    return {"rule": rule, "message": message, **extra}


def ruled(*rules: Json, **extra: Any) -> Json:
    """`json_schema_extra` that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules), **extra}


def keyed(*keys: str, max_items: int, default: Any = ()) -> Any:
    """A list that Kubernetes treats as a map: unique by `keys`, merged entry by entry under server-side apply."""
    extra = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return Field(default=default, max_length=max_items, json_schema_extra=extra)  # type: ignore[arg-type]


def mapped(max_items: int, *rules: Json) -> Any:
    """A map, empty by default, of at most so many entries."""
    return Field(default_factory=dict, max_length=max_items, json_schema_extra=ruled(*rules) if rules else None)


def unique(max_items: int, **extra: Any) -> FieldInfo:
    """Constraints of a list that Kubernetes treats as a set of plain values."""
    field: FieldInfo = Field(max_length=max_items, json_schema_extra={"x-kubernetes-list-type": "set", **extra})
    return field


def _refuse_unless(holds: Callable[[str], bool], message: str) -> AfterValidator:
    def check(text: str) -> str:
        if not holds(text):
            raise ValueError(message)
        return text

    return AfterValidator(check)


Name = Annotated[str, Field(max_length=MAX_NAME, min_length=1, pattern=NAME_PATTERN)]
"""A part of an identity: lower case, digits and single '-' between them."""

ObjectName = Annotated[
    str,
    Field(max_length=253, min_length=1, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"),
]
"""The name of a Kubernetes object such as a Secret or ConfigMap."""

Key = Annotated[str, Field(max_length=253, min_length=1, pattern="^[-._a-zA-Z0-9]+$")]
"""A key in a Secret or ConfigMap."""

PortName = Annotated[str, Field(max_length=15, min_length=1, pattern="^[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
"""The name of a port."""

Port = Annotated[int, Field(ge=1, le=65535)]
"""A port's number."""

VARIABLE_KEYS: Final = cel(
    "self.all(key, key.matches('^[A-Za-z_][A-Za-z0-9_.-]*$'))",
    "keys are names of variables: letters, digits, '_', '.' and '-', not beginning with a digit",
)
"""A map's keys are names of variables."""

NAMED_BY_COMPONENT: Final = cel(
    f"self.all(key, key.matches('{NAME_PATTERN}'))",
    "keys are names of components: a-z, 0-9 and single '-' between them",
)
"""A map's keys are names of components."""

EnvName = Annotated[str, Field(max_length=256, min_length=1, pattern="^[A-Za-z_][A-Za-z0-9_.-]*$")]
"""The name of an environment variable."""

Repository = Annotated[
    str,
    Field(max_length=140, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/\.?[A-Za-z0-9_-][A-Za-z0-9_.-]*$"),
]
"""A repository as `owner/name`."""

_REF_MESSAGE = "expected a git branch or tag such as main or feature/foo, not beginning with '-' or '/'"
GitRef = Annotated[
    str,
    Field(
        max_length=255,
        min_length=1,
        pattern=r"^[^-/\x00-\x20\x7f~^:?*\[\\][^\x00-\x20\x7f~^:?*\[\\]*$",
        json_schema_extra=ruled(cel("!self.contains('..') && !self.contains('@{')", _REF_MESSAGE)),
    ),
    _refuse_unless(lambda text: ".." not in text and "@{" not in text, _REF_MESSAGE),
]
"""A branch or tag, safe to hand to git."""

RefPattern = Annotated[
    str, Field(max_length=255, min_length=1, pattern=r"^[^-/\x00-\x20\x7f~^:\\][^\x00-\x20\x7f~^:\\]*$")
]
"""A glob over branches or tags, such as `release/*`."""

Commit = Annotated[str, Field(max_length=64, pattern="^([0-9a-f]{40}|[0-9a-f]{64})$")]
"""A full commit id, 40 (sha1) or 64 (sha256) hex digits."""

Digest = Annotated[str, Field(max_length=71, pattern="^sha256:[0-9a-f]{64}$")]
"""The digest of an image."""

Image = Annotated[str, Field(max_length=512, min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
"""An image reference, by tag or digest."""

_PATH_MESSAGE = "expected a path inside the repository such as apps/web: relative, without '..', not beginning with '-'"
RepositoryPath = Annotated[
    str,
    Field(
        max_length=512,
        min_length=1,
        pattern=r"^[^-/\x00-\x1f\x7f\\][^\x00-\x1f\x7f\\]*$",
        json_schema_extra=ruled(cel("!('/' + self + '/').contains('/../')", _PATH_MESSAGE)),
    ),
    _refuse_unless(lambda text: ".." not in text.split("/"), _PATH_MESSAGE),
]
"""A path inside the repository."""

AbsolutePath = Annotated[str, Field(max_length=512, min_length=1, pattern=r"^/[^:\x00-\x1f\x7f]*$")]
"""A path inside a container."""

UrlPath = Annotated[str, Field(max_length=512, min_length=1, pattern=r"^/[^\x00-\x20\x7f]*$")]
"""The path of a URL."""

_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
HttpsUrl = Annotated[str, Field(max_length=2048, pattern=rf"^https?://{_HOST}(:[0-9]+)?(/[^\x00-\x20\x7f]*)?$")]
"""A web address."""

DURATION_PATTERN: Final = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"
_DURATION_MESSAGE = "expected a duration above zero such as 72h, 30m or 1h30m"
Duration = Annotated[
    str,
    Field(
        max_length=21,
        min_length=2,
        pattern=DURATION_PATTERN,
        json_schema_extra=ruled(cel("duration(self) > duration('0s')", _DURATION_MESSAGE)),
    ),
    _refuse_unless(lambda text: duration(text) > timedelta(), _DURATION_MESSAGE),
]
"""A length of time, as Go writes it: `72h`, `30m`, `1h30m`."""

QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
Quantity = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=32, pattern=QUANTITY_PATTERN)],
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "pattern": QUANTITY_PATTERN,
            "minimum": 0,
        }
    ),
]
"""An amount as Kubernetes writes it: `500m`, `2`, `4Gi`."""

IntOrString = Annotated[
    int | Annotated[str, Field(max_length=15)],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 15}),
]
"""A port, by number or by name."""

_CIDR_MESSAGE = "expected a network such as 203.0.113.0/24 or 2001:db8::/32, without host bits"


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=True)
    except ValueError:
        return False
    return "/" in text


Cidr = Annotated[
    str,
    Field(
        max_length=43,
        min_length=4,
        json_schema_extra=ruled(cel("isCIDR(self) && cidr(self) == cidr(self).masked()", _CIDR_MESSAGE)),
    ),
    _refuse_unless(_is_network, _CIDR_MESSAGE),
]
"""An IP network."""


def duration(text: str) -> timedelta:
    """`1h30m` → timedelta. Raises ValueError for anything that is not a `Duration`."""
    match = re.fullmatch(DURATION_PATTERN[1:-1], text)
    if not text or match is None:
        raise ValueError(f"{text[:50]!r}: {_DURATION_MESSAGE}")
    hours, minutes, seconds = (int(group[:-1]) if group else 0 for group in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
