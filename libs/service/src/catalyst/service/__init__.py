"""How every process of Catalyst boots, is observed and drains. It never knows what a service is for.

`run` is the one door; a service's `__main__.py` holds nothing but `run(name, Settings, main)`:

    environment ─▶ Settings ─▶ logs, telemetry ─▶ ops server ─▶ main(settings, life) ─▶ SIGTERM ─▶ drain ─▶ exit
"""

from catalyst.service.http import serving
from catalyst.service.lifecycle import Check, Lifecycle
from catalyst.service.run import Main, run
from catalyst.service.settings import BadSettings, ServiceSettings, load, secrets_in
from catalyst.service.telemetry import exporting
from catalyst.service.version import code_version

__all__ = [
    "BadSettings",
    "Check",
    "Lifecycle",
    "Main",
    "ServiceSettings",
    "code_version",
    "exporting",
    "load",
    "run",
    "secrets_in",
    "serving",
]
