"""What this machine and these servers could do: the same work with nothing of ours in the way.

Nothing here imports Catalyst. Each module is a process of its own: one JSON object of arguments in (addresses, files,
credentials), one JSON object on the last line of its standard output. Each limit sweeps its concurrency where it has
one, so that a ratio never looks good because the limit was measured badly.

http_hmac.py    a bare ASGI app that only checks the HMAC of a body
publish.py      a pipelined publish on a raw socket, every message acknowledged
fdatasync.py    the same bytes written and synced in one file
follow.py       a bare standing pull
replay.py       a bare ordered consumer with a callback
kubernetes.py   recorded requests to an API server again, over warm connections
by_hand.py      a build, Deployment, Service and route applied by hand, until the URL answers
delete_namespace.py   kubectl delete
"""
