"""What a pull request should be told, decided with values. Nothing here waits, reads or writes."""
