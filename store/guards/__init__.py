"""Guards in both directions: recorded while Dynamo builds them, replayed without it."""
