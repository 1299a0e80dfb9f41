"""Suites and tools for testing stores and the programs that use them."""
