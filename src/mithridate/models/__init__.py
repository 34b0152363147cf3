"""The networks, one family a file."""
