"""The JSON Schemas of the catalogue, one file an event type. Pure: `make generate` writes them to `schemas`.

A schema says what a reader accepts: validation's view, where a field with a default may be missing.
"""

from typing import Any

from catalyst.events.catalogue import CATALOGUE, Data

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JsonSchema = dict[str, Any]


def json_schemas() -> dict[str, JsonSchema]:
    """File name → JSON Schema of the event's `data`."""
    return {data.schema_file(): json_schema(data) for data in CATALOGUE.values()}


def json_schema(data: type[Data]) -> JsonSchema:
    """The JSON Schema of one event's data; `$id` is its `dataschema`."""
    schema = data.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": DIALECT, "$id": data.dataschema(), **schema}
