"""Images that show several objects, with a mask or boxes each."""
