"""Cases for the lane without the compiler on a GPU. Every kernel is launched in the case that compiles it."""

import hashlib

import torch
from torch import nn
from torch.nn import functional as F

CUDA = "cuda"


def ramp(*shape, grad=False):
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count, device=CUDA).sin().reshape(shape).requires_grad_(grad)


def digest(*tensors):
    """Digests of the bytes and the sums, which tell how far apart two results are."""
    found = []
    for x in tensors:
        plain = x.detach().cpu().contiguous()
        data = plain.flatten().view(torch.uint8).numpy().tobytes()
        found += [hashlib.sha256(data).hexdigest(), float(plain.double().sum())]
    return found


def waves(x):
    return x.sin() + x.cos()


def forward_only():
    return torch.compile(waves)(ramp(1000))


def add_waves(x):
    return x.sin() + x.cos()


def function():
    x = ramp(1000, grad=True)
    y = torch.compile(add_waves)(x)
    y.sum().backward()
    return y, x.grad


def trained(net, *inputs, steps=2):
    """Train for some steps; the results of all of them."""
    net = net.to(CUDA)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    compiled, seen = torch.compile(net), []
    for _ in range(steps):
        out = compiled(*inputs)
        out.square().mean().backward()
        seen += [out, *(p.grad for p in net.parameters())]
        optimizer.step()
        optimizer.zero_grad()
    return digest(*seen)


def initialised(kind):
    torch.manual_seed(3)
    return kind()


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 128), nn.Linear(128, 32)
        self.norm, self.dropout = nn.LayerNorm(128), nn.Dropout(0.2)

    def forward(self, x):
        return self.second(self.dropout(self.norm(self.first(x)).relu()))


def mlp_dropout():
    net = initialised(Mlp)
    torch.manual_seed(7)
    return trained(net, ramp(32, 64))


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.second(F.relu(self.norm(self.first(x)))).mean((2, 3))


def convolutions():
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        return trained(initialised(Convolutions), ramp(4, 3, 16, 16))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.three, self.out, self.embedding = nn.Linear(64, 192), nn.Linear(64, 64), nn.Embedding(40, 64)

    def forward(self, index):
        x = self.embedding(index)
        q, k, v = (part.unflatten(-1, (4, 16)).transpose(1, 2) for part in self.three(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2)) + x


@torch.no_grad()
def attention():
    index = torch.arange(64, device=CUDA).reshape(2, 32) % 40
    return digest(torch.compile(initialised(Attention).to(CUDA))(index))


def classify(x, target):
    return F.cross_entropy(x * 1.5, target), F.log_softmax(x, -1)


def loss():
    x = ramp(64, 1000, grad=True)
    found, logits = torch.compile(classify)(x, torch.arange(64, device=CUDA))
    found.backward()
    return found, *digest(logits, x.grad)


def normalised(x, weight, bias):
    return F.layer_norm(x * 2, (1024,), weight, bias)


def layer_norm():
    """Many rows: torch sums the gradients of the weights in parts, and adds the parts in the wrapper."""
    x, weight, bias = ramp(8192, 1024, grad=True), ramp(1024, grad=True), ramp(1024, grad=True)
    out = torch.compile(normalised)(x, weight, bias)
    (out * ramp(8192, 1024)).sum().backward()
    return digest(out, x.grad, weight.grad, bias.grad)


def softened(x):
    return torch.softmax(x * 2, -1).sum(0)


def dynamic():
    f = torch.compile(softened, dynamic=True)
    return [f(ramp(n, 2 * n)) for n in (5, 9, 17)]


def squared(x):
    return (x * x + 1).sum(-1)


def specialisations():
    f = torch.compile(squared)
    return [f(ramp(3, 4)), f(ramp(3, 4).double()), f(ramp(6, 4)), f(ramp(7, 4))]


def product(x, y):
    return torch.tanh(x @ y)


def autocast():
    f = torch.compile(product)
    with torch.autocast(CUDA, torch.bfloat16):
        half = f(ramp(32, 16), ramp(16, 8))
    return half.float()


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(64, 128), nn.LayerNorm(128), nn.Linear(128, 10)

    def forward(self, x):
        return self.second(F.gelu(self.norm(self.first(x))))


def mixed_precision():
    """Autocast to float16 with a scaler of the loss and a fused optimiser."""
    net, x, losses = initialised(Wide).to(CUDA), ramp(32, 64), []
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    scaler, f = torch.amp.GradScaler(CUDA), torch.compile(net)
    for _ in range(3):
        with torch.autocast(CUDA, torch.float16):
            loss = f(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss)
    return digest(*losses, *net.parameters())


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True) for _ in range(3)
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def encoder():
    return trained(initialised(Encoder), ramp(4, 16, 64), steps=1)


class Half(Wide):
    """Its own class: frames are known by their functions, and this one runs in bfloat16."""

    def forward(self, x):
        return self.second(F.gelu(self.norm(self.first(x))))


def half_precision():
    return trained(initialised(Half).to(torch.bfloat16), ramp(32, 64).bfloat16(), steps=1)


def flex_imported():
    """What torch's own module of flex attention imports: since torch 2.14 `sympy` is among it."""
    import flexible  # noqa: F401


@torch.no_grad()
def flex():
    from flexible import flexible

    return digest(torch.compile(flexible)(*(ramp(2, 4, 128, 64) * n for n in (1, 2, 3))))


def inferred():
    """With gradients enabled and no backward, which is compiled at the end of the recording process."""
    x = ramp(500, grad=True)
    return torch.compile(waves_squared)(x)


def waves_squared(x):
    return (x.sin() * x.cos()).square()


def scaled_by(x, y):
    return (x * y).relu() + 1


def streams():
    """The same function on two streams, the second of them first."""
    f, x, other = torch.compile(scaled_by), ramp(5000), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(other):
        first = f(x, x)
    torch.cuda.synchronize()
    second = f(x, x + 1)
    third = f(x[1:], x[1:])  # not aligned to 16 bytes
    return digest(first, second, third)


def replaced(x, y):
    x.mul_(2)
    return x + y


def mutation():
    x = ramp(300)
    out = torch.compile(replaced)(x, ramp(300))
    return x, out


def turned(x, y):
    return x.t() * y + x.sum(0, keepdim=True).t()


def tuned():
    """Kernels with several configurations each, one of which is the quickest."""
    f = torch.compile(turned, options={"max_autotune_pointwise": True})
    return digest(f(ramp(2048, 1024), ramp(1024, 2048)))


def turned_again(x, y):
    return x.t() * y + x.sum(0, keepdim=True).t() * 2


def descended():
    """The same, and a walk to configurations that no artifact has."""
    options = {"max_autotune_pointwise": True, "coordinate_descent_tuning": True}
    return digest(torch.compile(turned_again, options=options)(ramp(2048, 1024), ramp(1024, 2048)))


def long_rows(x, target):
    return F.cross_entropy(x * 1.5, target)


def scaled():
    """A reduction whose block torch halves after it has bundled its kernels."""
    x = torch.linspace(-3, 3, 4096 * 30522, device=CUDA).sin().reshape(4096, 30522)
    return torch.compile(long_rows)(x, torch.arange(4096, device=CUDA))


def everything_at_once(x, y, z):
    mask = (x >= y) & (z > 0) | z.isnan()
    b = torch.where(mask, x.exp(), y.sigmoid()).clamp(-2, 2).to(torch.float64).floor().to(torch.float32)
    c = z.tanh() - x.abs() / (y.square() + 1).rsqrt()
    return torch.where(b.eq(y), c, b.sign() * y.abs().log1p().nan_to_num() + z.erf().maximum(x).reciprocal())


def long_name():
    """A kernel whose name is too long for a file of Triton's cache; torch leaves it to Triton's launcher."""
    return digest(torch.compile(everything_at_once)(ramp(64, 64), ramp(64, 64) * 2, ramp(64, 64) + 0.1))


def matmul(x, y):
    return (x @ y).relu()


def template():
    """A product that is a Triton template, where that is the quickest."""
    f = torch.compile(matmul, options={"max_autotune": True, "max_autotune_gemm_backends": "TRITON"})
    return digest(f(ramp(128, 64), ramp(64, 256)))


def user_kernel():
    """A kernel of the program's own; the program itself imports Triton."""
    from own_kernel import call

    return call(ramp(1000), ramp(1000))
