"""Decide whether stored code still is what torch.compile would make now; one decision for both lanes.

`reach` digests everything that the traced code can reach by name, `facts` asks again what the compiler folded
into graphs without a guard, `shipped` tells what is torch's or Python's own, and unchanged. Nothing here
imports torch's compiler.
"""
