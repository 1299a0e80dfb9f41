"""Small tools that any room may use. Nothing here knows about the store or torch."""
