"""notifier: the only writer to the forge."""
