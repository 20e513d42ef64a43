"""`make demo`: a pull request becomes a running URL, a live comment, and goes away again, on the node of cluster.py.

GitHub is played by tests/doubles/github, as a process of its own; everything else is what an installation has.

| Module | Is |
|---|---|
| `places.py` | names, ports and files |
| `parts.py` | the demo's own processes: GitHub's double and the way from this machine to the edge |
| `forward.py` | that way |
| `stages.py` | the table on the screen |
| `source.py` | the repository that is pushed: an example, or yours |
| `forge.py` | what a person does at the forge |
| `visitor.py` | what a visitor of the URL sees |
| `sight.py` | what the cluster says meanwhile; only looked at |
| `desk.py` | where somebody on call sits: `make demo-shell` |
| `setting.py` | machine, cluster, Catalyst, Project |
| `story.py` | the commands: up, push, break, close, down |
"""
