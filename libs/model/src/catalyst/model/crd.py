"""CustomResourceDefinitions, derived from the models: one source for what Python reads and the API server accepts.

Pydantic's JSON Schema becomes a structural schema: references are written out, "or null" becomes "may be absent", a
single constant an enum. CEL rules and list types ride along as the models' `json_schema_extra`. Status carries no
defaults: what env-controller writes is what is stored.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.fields import Json, cel
from catalyst.model.manifest import Manifest
from catalyst.model.names import MAX_NAME, NAME_PATTERN
from catalyst.model.project import Project
from catalyst.model.resource import Resource

_NAME_RULE = cel(
    f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('{NAME_PATTERN}')",
    f"metadata.name: expected at most {MAX_NAME} of a-z, 0-9 and single '-' between them",
)
_KEPT = (
    "type", "description", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "minItems", "maxItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
_HEAD = {
    "apiVersion": {"type": "string", "description": "The version of this schema."},
    "kind": {"type": "string", "description": "The kind of this resource."},
    "metadata": {"type": "object"},
}


@dataclass(frozen=True)
class _Column:
    name: str
    path: str
    type: str = "string"
    wide: bool = False
    format: str | None = None
    description: str | None = None

    def manifest(self) -> Manifest:
        column: Manifest = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.format:
            column["format"] = self.format
        if self.description:
            column["description"] = self.description
        return column | ({"priority": 1} if self.wide else {})


def _condition(type_: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{part}'


_AGE = _Column("Age", ".metadata.creationTimestamp", "date")
_PROJECT_COLUMNS = (
    _Column("Repository", ".spec.source.repository"),
    _Column("Accepted", _condition("Accepted", "status")),
    _Column("Reason", _condition("Accepted", "reason")),
    _Column("Namespace", ".status.namespace.name", wide=True),
    _Column("Paused", ".spec.paused", "boolean", wide=True),
    _Column("Message", _condition("Accepted", "message"), wide=True),
    _AGE,
)
_ENVIRONMENT_COLUMNS = (
    _Column("Phase", ".status.phase"),
    _Column("Reason", _condition("Ready", "reason")),
    _Column("URL", ".status.url"),
    _Column("PR", ".spec.source.pullRequest.number", "integer"),
    _Column("Type", ".spec.type", wide=True),
    _Column("Owner", ".spec.owner", wide=True),
    _Column("Commit", ".status.commit", wide=True, description="40 characters, hence only with -o wide"),
    _Column("Expires", ".spec.expiresAt", wide=True, description="A moment, not an age: kubectl cannot count down"),
    _Column("Message", _condition("Ready", "message"), wide=True),
    _AGE,
)


def crds() -> list[Manifest]:
    """The CustomResourceDefinitions of this version, Environment first."""
    return [
        _crd(Environment, "environments", ["env", "envs"], _ENVIRONMENT_COLUMNS, [".spec.type", ".status.phase"]),
        _crd(Project, "projects", ["proj"], _PROJECT_COLUMNS, [".spec.source.repository"]),
    ]


def _crd(
    model: type[Resource], plural: str, short: list[str], columns: tuple[_Column, ...], selectable: list[str]
) -> Manifest:
    version = {
        "name": labels.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.manifest() for column in columns],
        "selectableFields": [{"jsonPath": path} for path in selectable],
        "schema": {"openAPIV3Schema": schema(model)},
    }
    names = {
        "kind": model.KIND,
        "listKind": f"{model.KIND}List",
        "plural": plural,
        "singular": model.KIND.lower(),
        "shortNames": short,
        "categories": ["catalyst"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{labels.GROUP}"},
        "spec": {"group": labels.GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def schema(model: type[BaseModel]) -> Json:
    """The structural OpenAPI v3 schema of a resource."""
    source = model.model_json_schema(by_alias=True, mode="validation")
    definitions = source.get("$defs", {})
    spec = _structural(source["properties"]["spec"], definitions)
    status = _without_defaults(_structural(source["properties"]["status"], definitions))
    return {
        "type": "object",
        "description": source["description"],
        "properties": {**_HEAD, "spec": spec, "status": status},
        "required": ["spec"],
        "x-kubernetes-validations": [_NAME_RULE],
    }


def _structural(node: Json, definitions: Json) -> Json:
    node = _plain(node, definitions)
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
        kept = {key: node[key] for key in (*_KEPT, "x-kubernetes-int-or-string") if key in node}
        return kept | {"anyOf": [{"type": "integer"}, {"type": "string"}]} | _default(node)
    structural = {key: value for key, value in node.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    if "const" in node:
        structural["enum"] = [node["const"]]
    if "properties" in node:
        properties = {name: _structural(child, definitions) for name, child in node["properties"].items()}
        structural["properties"] = properties
    elif (values := _values(node)) is not None:
        structural["additionalProperties"] = _structural(values, definitions)
    if "items" in node:
        structural["items"] = _structural(node["items"], definitions)
    return structural | _default(node)


def _values(node: Json) -> Json | None:
    """The schema of a map's values. Pydantic writes patternProperties where keys have a pattern, which CRDs lack: there
    a CEL rule says it."""
    by_pattern = node.get("patternProperties")
    values = next(iter(by_pattern.values())) if by_pattern else node.get("additionalProperties")
    return values if isinstance(values, dict) else None


def _plain(node: Json, definitions: Json) -> Json:
    """The node without references and without "or null"; what stands beside a reference wins over what it points at."""
    if "$ref" in node:
        target = _plain(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
        return _merged(target, {key: value for key, value in node.items() if key != "$ref"})
    if "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
        choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError(f"a structural schema has no alternatives: {node}")
        return _merged(_plain(choices[0], definitions), {key: node[key] for key in node if key != "anyOf"})
    return dict(node)


def _merged(target: Json, beside: Json) -> Json:
    key = "x-kubernetes-validations"
    rules = [*target.get(key, []), *beside.get(key, [])]
    return {**target, **beside, **({key: rules} if rules else {})}


def _default(node: Json) -> Json:
    """A model's default becomes `{}`, filled by the API server from the defaults inside; empty and null say nothing."""
    default: Any = node.get("default")
    if default is None or default in ([], ""):
        return {}
    if isinstance(default, dict):
        return {"default": {}} if "properties" in node else {}
    return {"default": default}


def _without_defaults(node: Json) -> Json:
    """The same schema, with no default anywhere."""
    bare = {key: value for key, value in node.items() if key != "default"}
    if "properties" in bare:
        bare["properties"] = {name: _without_defaults(child) for name, child in bare["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in bare:
            bare[key] = _without_defaults(bare[key])
    return bare
