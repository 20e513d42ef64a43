"""catalyst: the command line for people on call."""
