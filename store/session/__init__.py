"""How Firebrick joins ``torch.compile``: enable, hooks, and what they put in place."""
