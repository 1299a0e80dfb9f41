"""torch 2.11: all that is needed is as in `_common`."""

from firebrick.torch_api._common import *  # noqa: F403
