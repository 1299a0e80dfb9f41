"""torch 2.12: as in `_common`."""

from torch._inductor.remote_cache import LocalCacheBackend as AutotuneFiles

from firebrick.torch_api._common import *  # noqa: F403

__all__ = ["AutotuneFiles"]
