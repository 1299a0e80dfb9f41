"""How Firebrick joins ``torch.compile``: enabling, and the hooks it installs."""
