"""Drive training with a trainer of one's own: callbacks, a logger, a checkpoint that is loaded again."""

import contextlib
import io
import logging
import time

import torch
from torch import nn

logger = logging.getLogger("trainer")


class Callback:
    def on_step(self, trainer, loss): ...


class History(Callback):
    def __init__(self):
        self.losses = []

    def on_step(self, trainer, loss):
        self.losses.append(loss.item())


class Model(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def training_step(self, batch):
        x, y = batch
        return nn.functional.huber_loss(self(x), y)

    def forward(self, x):
        return self.net(x)


class Trainer:
    def __init__(self, model, optimizer, *, callbacks=(), autocast=contextlib.nullcontext):
        self.model, self.optimizer, self.callbacks, self.autocast = model, optimizer, callbacks, autocast
        self.global_step, self._step = 0, torch.compile(self._forward)

    def _forward(self, batch):
        with self.autocast():
            return self.model.training_step(batch)

    def fit(self, batches):
        started = time.perf_counter()
        for batch in batches:
            loss = self._step(batch)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.global_step += 1
            for callback in self.callbacks:
                callback.on_step(self, loss)
        logger.info("%.3f seconds", time.perf_counter() - started)


torch.manual_seed(0)
model, history = Model(), History()
trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), callbacks=[history])
trainer.fit([(torch.randn(4, 4), torch.randn(4, 1)) for _ in range(2)])
saved = io.BytesIO()
torch.save(model.state_dict(), saved)
model.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
trainer.fit([(torch.randn(4, 4), torch.randn(4, 1))])
result = history.losses, list(model.parameters())
