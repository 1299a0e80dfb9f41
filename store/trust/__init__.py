"""Whose entries are believed: keys, signatures, and the layers that they are asked for."""
