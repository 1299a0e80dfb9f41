"""Decide whether stored code is still what torch.compile would produce now; one decision for both lanes.

`reach` digests everything the traced code can reach by name, `facts` re-asks what the compiler folded into
graphs without a guard, `shipped` recognises unchanged code of torch and Python. Nothing here imports torch's
compiler.
"""
