"""One plug-in of each kind, written with the public names of latentood alone."""
