"""Compile two functions, encode what torch recorded; in another process decode it and run them.

Used by tests/codecs/test_codecs_backend.py and tests/codecs/test_codecs_dynamo.py: `save(path, cases)` and
`load(path, out)` are called in processes of their own.
"""

import pickle
from pathlib import Path

import torch
import torch._functorch._aot_autograd.aot_autograd_result
import torch._inductor.compile_fx
from torch._dynamo import config as dynamo_config
from torch._dynamo.package import DynamoCache, PrecompileCacheEntry
from torch._dynamo.precompile_context import PrecompileContext
from torch._dynamo.utils import counters

from firebrick import codecs
from firebrick.codecs.backend import decode_backend, encode_backend
from firebrick.codecs.dynamo import DynamoCodec, generated_names


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.last = torch.nn.Linear(16, 4)

    def forward(self, x):
        return self.last(torch.sigmoid(self.first(x)))


def broken(x, buffer):
    y = torch.sin(x) * x.shape[0]
    buffer.add_(1)
    torch._dynamo.graph_break()
    return y.t() @ y + torch.tensor([2.0]), x.view(-1)


def train():
    torch.manual_seed(0)
    model = Model()
    result = torch.compile(model)(torch.randn(5, 8))
    result.sum().backward()
    return [result, *(parameter.grad for parameter in model.parameters())]


def graph_break():
    torch.manual_seed(0)
    x, buffer = torch.randn(6, 3, requires_grad=True), torch.zeros(2)
    product, flat = torch.compile(broken, dynamic=True)(x, buffer)
    (product.sum() + flat.sum()).backward()
    return [product, flat, buffer, x.grad]


CASES = {"train": train, "graph_break": graph_break}


def canonical(entry):
    return {name: f"__name_{i}" for i, name in enumerate(generated_names(entry))}


def save(path, cases):
    """Run cases and write what was recorded, encoded, and what they gave."""
    result = {}
    with dynamo_config.patch(caching_precompile=True):
        for case in cases:
            PrecompileContext.clear()
            values = CASES[case]()
            backends, entries = {}, {}
            for key, artifact in PrecompileContext._backend_artifacts_by_key.items():
                artifact.content._my_private_field = 42
                sink = codecs.Collector()
                body, volatile = encode_backend(artifact, sink)
                backends[key] = body, dict(sink.blobs), len(volatile)
            for key, entry in PrecompileContext._dynamo_cache_entries.items():
                names, sink = canonical(entry), codecs.Collector()
                entry._my_private_field = [42]
                body = DynamoCodec().encode(entry, sink, names)
                entries[key] = body, dict(sink.blobs), names
            facts = [value.detach().numpy().tobytes() for value in values]
            result[case] = {"backends": backends, "entries": entries, "values": facts}
    Path(path).write_bytes(pickle.dumps(result))


def load(path, out):
    """Decode everything into torch's own cache and run the cases again."""
    stored, result = pickle.loads(Path(path).read_bytes()), {}
    with dynamo_config.patch(caching_precompile=True):
        for case, recorded in stored.items():
            artifacts = {
                key: decode_backend(body, blobs.__getitem__, key=key)
                for key, (body, blobs, _) in recorded["backends"].items()
            }
            private = [artifact.content._my_private_field for artifact in artifacts.values()]
            for key, (body, blobs, names) in recorded["entries"].items():
                back = {canonical: name for name, canonical in names.items()}
                entry = DynamoCodec().decode(body, blobs.__getitem__, 1, back)
                private.append(entry._my_private_field)
                backends = {name: artifacts[name] for name in entry.backend_ids}
                DynamoCache.write(PrecompileCacheEntry(entry, backends), key)
            values = [value.detach().numpy().tobytes() for value in CASES[case]()]
            result[case] = {"values": values, "private": private}
    result["hits"] = counters["dynamo_cache"]["dynamo_cache_hit"]
    result["graphs"] = counters["stats"]["unique_graphs"]
    Path(out).write_bytes(pickle.dumps(result))
