"""Small tools that every room may use. Nothing here knows of the store or of torch."""
