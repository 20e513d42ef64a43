"""Settings: one frozen value, read once from variables named `CATALYST_…`.

A wrong or missing variable stops the boot with one sentence that names it and says what was expected. The value itself
is never repeated: it may be a secret.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

PREFIX = "CATALYST_"

LogLevel = Literal["debug", "info", "warning", "error"]


class BadSettings(Exception):
    """A variable is missing or wrong. `str()` is the sentence for the operator."""


class ServiceSettings(BaseSettings):
    """What every process has. A service subclasses it and gives each field a description, which `--help` prints.

    Unknown variables are ignored: Kubernetes injects some (`CATALYST_…_SERVICE_HOST`) for every Service it knows.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    ops_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the kubelet and Prometheus come from outside the pod
        description="address on which /healthz, /readyz and /metrics are served",
    )
    ops_port: int = Field(
        default=9090,
        ge=0,
        le=65535,
        description="port of /healthz, /readyz and /metrics; 0 takes a free one and logs it",
    )
    built_from: str | None = Field(
        default=None, description="the commit this was built from; without it, git or a digest of the sources says"
    )
    log_level: LogLevel = Field(default="info", description="least severe level that is logged")
    drain_seconds: float = Field(
        default=20.0, gt=0, description="seconds that running work may take to finish after SIGTERM"
    )


S = TypeVar("S", bound=ServiceSettings)


def load(settings_type: type[S]) -> S:
    """The settings from this process's environment. Raises `BadSettings`."""
    try:
        return settings_type()
    except ValidationError as exc:
        raise BadSettings("; ".join(_sentences(settings_type, exc))) from exc
    except SettingsError as exc:
        raise BadSettings(_not_json(settings_type, exc)) from exc


def variable(settings_type: type[ServiceSettings], field: str) -> str:
    """The environment variable of a field: `http_port` → `CATALYST_HTTP_PORT`."""
    prefix = settings_type.model_config.get("env_prefix", PREFIX)
    return f"{prefix}{field}".upper()


def table(settings_type: type[ServiceSettings]) -> Iterator[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of declaration, the service's own first."""
    own = [name for name in settings_type.model_fields if name not in ServiceSettings.model_fields]
    for name in [*own, *ServiceSettings.model_fields]:
        field = settings_type.model_fields[name]
        yield variable(settings_type, name), _default(field), field.description or ""


def secrets_in(path: Path) -> tuple[SecretStr, ...]:
    """The secrets of a file, one a line; empty lines and surrounding blanks do not count.

    Raises `ValueError` saying why the file cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"the file {path} cannot be read: {exc.__class__.__name__}") from exc
    found = tuple(SecretStr(line.strip()) for line in lines if line.strip())
    if not found:
        raise ValueError(f"the file {path} holds no secret; write one a line")
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    return "none" if default is None else str(default)


def _not_json(settings_type: type[ServiceSettings], error: SettingsError) -> str:
    """The package names the field in quotes, and nothing else about it is safe to repeat."""
    field = next((name for name in settings_type.model_fields if f'"{name}"' in str(error)), None)
    if field is None:
        return "a setting cannot be read; expected JSON for lists and objects"
    meaning = settings_type.model_fields[field].description or "a value"
    return f"{variable(settings_type, field)} is not the JSON it should be; expected: {meaning}"


def _sentences(settings_type: type[ServiceSettings], errors: ValidationError) -> Iterator[str]:
    for error in errors.errors(include_input=False, include_url=False, include_context=False):
        if not error["loc"]:  # a rule over several variables: its own sentence names them
            yield error["msg"].removeprefix("Value error, ")
            continue
        field = str(error["loc"][0])
        meaning = settings_type.model_fields[field].description or "a value"
        if error["type"] == "missing":
            yield f"{variable(settings_type, field)} is missing; expected: {meaning}"
        else:
            reason = error["msg"].removeprefix("Value error, ")
            yield f"{variable(settings_type, field)} is wrong ({reason}); expected: {meaning}"
