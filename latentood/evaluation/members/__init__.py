"""How well the members of images (pixels, cells, boxes) separate OOD from ID."""
