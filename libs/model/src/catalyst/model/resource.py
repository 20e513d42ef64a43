"""The bases of every resource: how a model reads tolerantly and writes exactly.

```
Spec     what somebody wishes: an unknown field is an error, so a typo never vanishes
Status   what was observed: an unknown field is ignored, so an older reader survives a newer writer
```

Field names are snake_case here and camelCase in JSON. `parse` ignores unknown fields everywhere; `manifest` writes
exactly what was given: no None, and no default that nobody chose (the API server fills those in, owned by nobody).
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from catalyst.model import labels
from catalyst.model.fields import ObjectName
from catalyst.model.manifest import Manifest, Ref, ref_of

_SHARED = ConfigDict(
    alias_generator=to_camel,
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
    frozen=True,
    use_attribute_docstrings=True,
)


class Spec(BaseModel):
    """A part of what somebody wishes."""

    model_config = ConfigDict(**_SHARED, extra="forbid")


class Status(BaseModel):
    """A part of what was observed."""

    model_config = ConfigDict(**_SHARED, extra="ignore")


class OwnerReference(Status):
    """Which object this one belongs to."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Status):
    """The part of Kubernetes' metadata that Catalyst reads or writes."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(Status):
    """One aspect of the state, for people and for `kubectl wait`."""

    type: Annotated[str, Field(max_length=316, pattern="^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$")]
    """Which aspect, in CamelCase, such as Accepted, Supported or Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """Why, as one CamelCase word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why and what to do about it, as a sentence for people."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The metadata.generation this condition speaks of."""
    last_transition_time: AwareDatetime
    """When the status last changed."""


class NamespaceRef(Status):
    """A namespace that was made."""

    name: ObjectName
    """Its name."""
    uid: Annotated[str, Field(max_length=64)] | None = None
    """Its uid: only this namespace will ever be deleted."""


class Resource(BaseModel):
    """The base of Project and Environment. `KIND` names the kind."""

    model_config = ConfigDict(**_SHARED, extra="forbid")
    KIND: ClassVar[str]

    api_version: str = labels.API_VERSION
    kind: str
    metadata: ObjectMeta

    @classmethod
    def parse(cls, manifest: Manifest) -> Self:
        """From the JSON form, unknown fields ignored. Raises pydantic's `ValidationError`, which names each field."""
        return cls.model_validate(manifest, extra="ignore")

    def manifest(self) -> Manifest:
        """The JSON form: camelCase, without None and without defaults nobody chose."""
        body: dict[str, Any] = self.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return {"apiVersion": self.api_version, "kind": self.kind} | body

    @property
    def ref(self) -> Ref:
        """Which object this is, with uid and resourceVersion when known."""
        return ref_of(self.manifest_head())

    def manifest_head(self) -> Manifest:
        """`apiVersion`, `kind` and the metadata that names the object."""
        metadata = self.metadata
        known = {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        }
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": {key: value for key, value in known.items() if value is not None},
        }
