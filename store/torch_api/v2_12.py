"""torch 2.12: as in torch 2.11."""

from firebrick.torch_api._common import *  # noqa: F403
from firebrick.torch_api.v2_11 import AutotuneFiles

__all__ = ["AutotuneFiles"]
