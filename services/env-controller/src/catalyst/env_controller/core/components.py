"""What an environment runs: the Project's components, with what its Environment overrides. A Project that names nothing
but its source has one: `web`, a bare Dockerfile at the root, exposed on the first port its image exposes.
"""

from dataclasses import dataclass
from typing import Final

from catalyst.model.environment import ComponentOverride, Environment
from catalyst.model.project import Build, Component, Project

DEFAULT_NAME: Final = "web"
DEFAULT_PORT: Final = 8080
"""Where a bare Dockerfile's program is told to listen, when its image exposes nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """One component. `is_default`: nobody declared it, so its ports are the image's, and it is exposed."""

    component: Component
    is_default: bool = False

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def is_built(self) -> bool:
        """Whether its image is built from the repository; else it is given."""
        return self.component.image is None

    @property
    def is_exposed(self) -> bool:
        return self.is_default or self.component.expose is not None

    @property
    def is_private(self) -> bool:
        return self.component.expose is not None and self.component.expose.private


def parts(project: Project, environment: Environment) -> tuple[Part, ...]:
    """Everything that is to run, in the Project's order. Empty when the repository's own definition says it."""
    spec = project.spec
    if not spec.components:
        return () if spec.definition else (Part(_overridden(_DEFAULT, environment), is_default=True),)
    return tuple(Part(_overridden(component, environment)) for component in spec.components)


_DEFAULT: Final = Component(name=DEFAULT_NAME, build=Build())


def _overridden(component: Component, environment: Environment) -> Component:
    overrides = environment.spec.overrides
    override = overrides.components.get(component.name) if overrides else None
    return component.model_copy(update=_changes(component, override)) if override else component


def _changes(component: Component, override: ComponentOverride) -> dict[str, object]:
    changes: dict[str, object] = {}
    if override.image is not None:
        changes |= {"image": override.image, "build": None}
    if override.replicas is not None:
        changes["replicas"] = override.replicas
    if override.env:
        changes["env"] = tuple({variable.name: variable for variable in (*component.env, *override.env)}.values())
    if override.resources is not None:
        changes["resources"] = override.resources
    return changes
