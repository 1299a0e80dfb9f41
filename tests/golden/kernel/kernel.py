"""Compile the kernel of this folder with Triton for an H100; needs no GPU.

TRITON_CACHE_DIR=/build/kernels/cache TRITON_DISABLE_LINE_INFO=1 python kernel.py
"""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def add_one(source, target, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    tl.store(target + at, tl.load(source + at, mask=mask) + 1.0, mask=mask)


if __name__ == "__main__":
    signature = {"source": "*fp32", "target": "*fp32", "count": "i32", "BLOCK": "constexpr"}
    triton.compile(ASTSource(add_one, signature, {"BLOCK": 128}), target=GPUTarget("cuda", 90, 32))
