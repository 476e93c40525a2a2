"""The pipeline file: its schema, overrides, and the targets that it names."""
