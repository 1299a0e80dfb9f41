"""torch 2.11: as in `_common`, except for autotuning files, which have a separate class."""

from torch._inductor.runtime import autotune_cache

from firebrick.torch_api._common import *  # noqa: F403

__all__ = ["AutotuneFiles"]
AutotuneFiles = autotune_cache._LocalAutotuneCacheBackend  # type: ignore[attr-defined]  # of 2.11 and 2.12
