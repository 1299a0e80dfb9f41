"""Compile once, then fork workers that serve."""

import multiprocessing

import torch
from torch import nn


def work(model, numbers, queue):
    torch.set_num_threads(1)
    for number in numbers:
        with torch.no_grad():
            queue.put((number, model(torch.full((1, 4), float(number))).tolist()))


def main():
    torch.manual_seed(0)
    model = torch.compile(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).eval())
    torch.set_num_threads(1)
    with torch.no_grad():
        first = model(torch.zeros(1, 4))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=work, args=(model, part, queue)) for part in ((1, 2), (3, 4))]
    for worker in workers:
        worker.start()
    served = sorted(queue.get(timeout=100) for _ in range(4))
    for worker in workers:
        worker.join()
    return first, served


if __name__ == "__main__":
    result = main()
