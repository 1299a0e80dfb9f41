"""The conditions for using a bundle: the recipe of a function, and the platform."""
