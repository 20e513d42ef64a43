"""Everything of builder that touches the world, behind small classes: the cluster, the registry, STATE, the forge."""
