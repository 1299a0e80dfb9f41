"""Read settings from the environment and the command line where a model is built and run."""

import argparse
import logging
import os

import torch
from torch import nn

log = logging.getLogger(__name__)
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=8)
parser.add_argument("--scale", type=float, default=0.5)
args = parser.parse_args([])
DEBUG = os.environ.get("MODEL_DEBUG", "0") == "1"


class Net(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args, self.layer = args, nn.Linear(args.width, args.width)

    def forward(self, x):
        if os.environ.get("USE_RELU", "1") == "1":
            x = self.layer(x).relu()
        if os.getenv("MODEL_CACHE") or "MODEL_TRACE" in os.environ:
            x = x + 1
        if DEBUG:
            log.info("mean %s", x.mean())
        return x * self.args.scale


torch.manual_seed(0)
result = torch.compile(Net(args))(torch.randn(2, 8))
