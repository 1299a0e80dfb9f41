"""What decides whether a bundle may be used: the recipe of a function, and the platform."""
