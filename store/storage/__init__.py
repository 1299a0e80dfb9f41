"""Bytes in a directory: one LMDB environment, its files, locks and transactions. Knows nothing of torch."""
