"""Address and credentials from kubernetes_asyncio: kubeconfig (certificates, tokens, exec plugins, OIDC) and
in-cluster.

Only its `config` package is wanted. Importing it the usual way runs `kubernetes_asyncio.client.__init__`, which loads
some 800 modules of typed models that a dict-only client never touches: 73 MB and a second of every boot. So the
parent packages stand in empty while it is imported, and are taken away again, so that a real import elsewhere still
gets the real thing.
"""

from __future__ import annotations

import importlib
import importlib.util
import ssl
import sys
from types import ModuleType
from typing import Any

from catalyst.kube.settings import KubeSettings


class BadKubeSettings(ValueError):
    """The kubeconfig or the pod's service account cannot be used; the message names what is missing."""


async def load_configuration(settings: KubeSettings) -> Any:
    """A `kubernetes_asyncio.client.Configuration`: host, certificates, token and its refresh hook.

    Raises BadKubeSettings.
    """
    library = _config_package()
    configuration = library["configuration"].Configuration()
    try:
        if settings.kubeconfig is not None:
            await _from_kubeconfig(library["kube_config"], settings, configuration)
        else:
            library["incluster_config"].load_incluster_config(
                configuration, token_filename=str(settings.token_file), cert_filename=str(settings.ca_file)
            )
    except library["config_exception"].ConfigException as error:
        where = settings.kubeconfig or "service account of the pod"
        raise BadKubeSettings(f"{where}: {error}; expected a usable kubeconfig, or to run inside a pod") from error
    return configuration


async def _from_kubeconfig(library: ModuleType, settings: KubeSettings, configuration: Any) -> None:
    path = settings.kubeconfig
    if path is None or not path.is_file():
        raise BadKubeSettings(f"kubeconfig {path}: expected a readable file; set its path")
    loader = await library.load_kube_config(
        config_file=str(path), context=settings.context, client_configuration=configuration, persist_config=False
    )
    if "exec" not in (loader._user or {}):  # noqa: SLF001 (the library offers no other way to ask)
        return

    async def refresh(current: Any) -> None:
        # Returns at once while the plugin's own expirationTimestamp lies ahead; without one the token lives as long
        # as we do.
        if hasattr(loader, "exec_plugin_expiry"):
            await loader.load_from_exec_plugin()
            current.api_key["BearerToken"] = loader.token

    configuration.refresh_api_key_hook = refresh


def ssl_context(configuration: Any) -> ssl.SSLContext | None:
    """TLS as the configuration wants it; None for plain http."""
    if not configuration.host.startswith("https"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


_PACKAGES = ("kubernetes_asyncio", "kubernetes_asyncio.client", "kubernetes_asyncio.config")
_library: dict[str, ModuleType] = {}


def _config_package() -> dict[str, ModuleType]:
    if not _library:
        _library.update(_imported())
    return _library


def _imported() -> dict[str, ModuleType]:
    if "kubernetes_asyncio" in sys.modules:  # somebody paid for all of it already
        return _modules()
    spec = importlib.util.find_spec("kubernetes_asyncio")
    if spec is None or not spec.submodule_search_locations:
        raise BadKubeSettings("kubernetes_asyncio is not installed")
    root = spec.submodule_search_locations[0]
    for name in _PACKAGES:
        sys.modules[name] = _hollow(name, root)
    try:
        client: Any = sys.modules["kubernetes_asyncio.client"]
        client.Configuration = importlib.import_module("kubernetes_asyncio.client.configuration").Configuration
        client.ApiClient = object  # named by kube_config for helpers that are never called here
        return _modules()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "kubernetes_asyncio"]:
            del sys.modules[name]


def _modules() -> dict[str, ModuleType]:
    return {
        "configuration": importlib.import_module("kubernetes_asyncio.client.configuration"),
        "config_exception": importlib.import_module("kubernetes_asyncio.config.config_exception"),
        "incluster_config": importlib.import_module("kubernetes_asyncio.config.incluster_config"),
        "kube_config": importlib.import_module("kubernetes_asyncio.config.kube_config"),
    }


def _hollow(name: str, root: str) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [root + name.removeprefix("kubernetes_asyncio").replace(".", "/")]
    return module
