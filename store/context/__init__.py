"""The persistent mirror of torch's ``PrecompileContext``: write-through, history and edits."""
