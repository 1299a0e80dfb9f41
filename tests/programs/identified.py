"""A function whose arguments are compared by what they are."""

import torch


def applied(x, function, functions, kind):
    return functions["sine"](function(x)) + isinstance(x, kind)


def function_arguments():
    class Kind: ...

    return torch.compile(applied)(torch.linspace(-1, 1, 4), torch.relu, {"sine": torch.sin}, Kind)
