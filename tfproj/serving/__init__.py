"""``tfproj serve``: models behind HTTP, with what the network may ask of them bounded."""
