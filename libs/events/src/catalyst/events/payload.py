"""A forge's payload, carried verbatim beside the normalised state, so that a corrected translator can replay history.

Up to `VERBATIM_LIMIT` bytes ride along as the JSON object they are; of larger ones only size and digest.
"""

import hashlib
from typing import Any, Final, TypedDict

import orjson
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

VERBATIM_LIMIT: Final = 512 * 1024
"""Bytes. With the state beside it an event stays well below NATS' default `max_payload` of 1 MiB."""


class Verbatim:
    """A JSON object kept as the bytes it came in; parsed only when somebody asks.

    Parsing and writing 26 KB again costs 100 µs a webhook and could change it (a float's digits, a doubled key).
    """

    __slots__ = ("_document", "_raw")

    def __init__(self, raw: bytes | None = None, *, parsed: dict[str, Any] | None = None) -> None:
        """`raw`: the bytes of a JSON object, already known to be valid JSON. Or `parsed`: the object itself."""
        if (raw is None) == (parsed is None):
            raise TypeError("a Verbatim is made from raw bytes or from a parsed object, not from both")
        self._raw = raw
        self._document = parsed

    @property
    def raw(self) -> bytes:
        """The JSON text, UTF-8."""
        if self._raw is None:
            self._raw = orjson.dumps(self._document)
        return self._raw

    @property
    def document(self) -> dict[str, Any]:
        """The parsed object. Raises ValueError or TypeError when the bytes are no JSON object."""
        if self._document is None:
            parsed = orjson.loads(self.raw)
            if not isinstance(parsed, dict):
                raise TypeError(f"expected a JSON object, found {type(parsed).__name__}")
            self._document = parsed
        return self._document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verbatim) and self.document == other.document

    def __hash__(self) -> int:
        return hash(orjson.dumps(self.document, option=orjson.OPT_SORT_KEYS))

    def __repr__(self) -> str:
        return f"Verbatim({len(self.raw)} bytes)"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        from_object = core_schema.no_info_after_validator_function(
            lambda parsed: cls(parsed=parsed), core_schema.dict_schema(core_schema.str_schema())
        )
        return core_schema.json_or_python_schema(
            json_schema=from_object,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_object]),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda verbatim: verbatim.document),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "object", "description": "The forge's payload, verbatim."}


class Omitted(BaseModel):
    """A payload that was too large to ride along."""

    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes."""
    sha256: str


class Carried(TypedDict, total=False):
    """The two fields of an event that carry a payload: exactly one is present."""

    payload: Verbatim
    payload_omitted: Omitted


def carried(raw: bytes) -> Carried:
    """How a payload rides along: `PullRequestChanged(..., **carried(body))`. `raw` is a valid JSON object."""
    if len(raw) <= VERBATIM_LIMIT:
        return {"payload": Verbatim(raw)}
    return {"payload_omitted": Omitted(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())}
