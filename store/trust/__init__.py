"""Trust in entries: keys, signatures, and the layers that require them."""
