"""Arrays ↔ disk: the cache in Zarr v3 (see ``docs/cache-format.md``)."""
