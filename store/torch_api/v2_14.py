"""torch 2.14: as in `_common`; autotuning files are those of torch 2.13."""

from firebrick.torch_api._common import *  # noqa: F403
from firebrick.torch_api.v2_13 import AutotuneFiles

__all__ = ["AutotuneFiles"]
