"""Everything that touches the world: the edges, Cloudflare, and the door where friendly pages are served."""
