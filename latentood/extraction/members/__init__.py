"""Members of an image, cells and boxes: what a cache holds about them."""
