"""The attacks, one method a file."""
