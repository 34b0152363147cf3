"""Where data come from: one kind of source a file."""
