"""The node: what makes the control plane a whole Kubernetes on this machine. `catalyst.local.cluster` runs it.

| Module | Is |
|---|---|
| `layout.py` | every name, address, port and folder |
| `packages.py` | what is needed of Debian |
| `network.py` | bridge, stand-in internet, the machine's hosts file and kernel settings |
| `images.py` | the base images: built once, served by the mirror |
| `parts.py` | each server's configuration and command line |
| `internet.py` | the server that plays the internet |
| `leftovers.py` | what a node leaves in a machine, and how it goes |
"""
