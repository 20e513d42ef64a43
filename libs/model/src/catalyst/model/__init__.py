"""The nouns of Catalyst: resources, names, snapshots and the access table. Pure: nothing here does I/O."""
