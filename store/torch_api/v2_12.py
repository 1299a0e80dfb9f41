"""torch 2.12: all that is needed is as in `_common`."""

from firebrick.torch_api._common import *  # noqa: F403
