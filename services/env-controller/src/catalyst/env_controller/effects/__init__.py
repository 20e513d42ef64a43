"""Everything that touches the world.

cluster.py    what Kubernetes holds, mirrored; and the writes a Decision asks for
history.py    facts read from SCM, snapshots read from STATE and published to EVENTS
"""
