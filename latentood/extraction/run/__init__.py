"""From a pipeline to committed blocks."""
