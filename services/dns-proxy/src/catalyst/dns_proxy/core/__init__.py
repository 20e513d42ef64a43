"""Pure decisions: snapshots and what is served now go in, what should be served comes out. Nothing here does I/O.

routes.py      which hosts are wanted, whose they are, and why one is refused
plan.py        wanted − current = changes; what goes needs evidence
caddy.py       the table of routes as Caddy's configuration, and back
edge.py        the configuration an edge starts with, before it has a table
cloudflare.py  the tunnel's rules and the DNS records, with marks of ownership
answers.py     what to tell env-controller about each host
pages.py       what a visitor sees when there is no application to answer
"""
