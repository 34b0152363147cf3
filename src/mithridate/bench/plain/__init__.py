"""The plain forms: what a straightforward peer does, written anew. One module a path."""
