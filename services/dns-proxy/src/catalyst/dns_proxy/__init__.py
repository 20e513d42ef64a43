"""dns-proxy: public hostnames. It programs the edge and Cloudflare from the state of all environments."""
