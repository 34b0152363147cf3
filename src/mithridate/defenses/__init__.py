"""The defenses, one method a file."""
