"""Published set-ups as YAML, each citing its table."""
