"""The marks of backdoors."""
