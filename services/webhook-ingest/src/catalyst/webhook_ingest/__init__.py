"""webhook-ingest: the forge's world in, facts out. It decides nothing about environments."""
