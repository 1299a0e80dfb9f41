"""From bundles to functions. The full lane may import torch's compiler."""
