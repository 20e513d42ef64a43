"""What an installation runs, as its Deployments say."""

from collections.abc import Mapping
from typing import Final

from catalyst.cli.core.hidden import Hidden
from catalyst.kube.client import Kube
from catalyst.kube.errors import Forbidden, NotFound
from catalyst.model.manifest import Ref

SYSTEM_NAMESPACE: Final = "catalyst-system"


async def settings_of(kube: Kube, service: str, namespace: str) -> Mapping[str, str] | Hidden:
    """The variables that its Deployment gives a service; those whose value the cluster makes are left out."""
    try:
        deployment = await kube.get(Ref("apps/v1", "Deployment", namespace, service))
        (container, *_) = deployment["spec"]["template"]["spec"]["containers"]
        found: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            if name := source.get("configMapRef", {}).get("name"):
                found |= (await kube.get(Ref("v1", "ConfigMap", namespace, name))).get("data") or {}
        return found | {each["name"]: each["value"] for each in container.get("env") or () if "value" in each}
    except NotFound as exc:
        return Hidden(
            f"the settings of {service} are not known: {exc.message}",
            "name its namespace (--system-namespace), or the settings (--setting CATALYST_ZONE=…)",
        )
    except Forbidden as exc:
        return Hidden(
            f"the settings of {service} may not be read: {exc.message}",
            f"ask with a credential that may get deployments and configmaps in namespace {namespace}, or name the "
            "settings (--setting CATALYST_ZONE=…)",
        )
