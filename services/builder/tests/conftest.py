"""builder on real servers; see tests/support/building.py."""

from building import buses, project, registry, serve, settings_of

__all__ = ["buses", "project", "registry", "serve", "settings_of"]
