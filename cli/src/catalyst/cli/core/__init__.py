"""What a history says, found with values: order, lines, states, causes. Nothing here waits, reads or writes."""
