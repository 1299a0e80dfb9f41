"""Operators that Inductor calls and does not generate, and such that need care."""

import torch
import torch.nn.functional as F
from made import flags, mixed, ramp, whole

from support.differential import call, case

trains = {"train": True}


@case(lambda: [call(mixed(2, 3, 4, grad=True), mixed(2, 4, 5, grad=True))], **trains)
def einsum(a, b):
    return torch.einsum("bij,bjk->bik", a, b), torch.einsum("bij->ji", a)


@case(lambda: [call(mixed(8, grad=True))], **trains)
def fourier(x):
    return torch.fft.irfft(torch.fft.rfft(x) * 2)


@case(lambda: [call(mixed(4, 4))])
def fourier_complex(x):
    return torch.fft.fft2(x), torch.fft.fftshift(x)


@case(lambda: [call(mixed(3, 3) + 3 * torch.eye(3), mixed(3, 2))])
def linear_algebra(a, b):
    return torch.linalg.solve(a, b), torch.linalg.inv(a), torch.linalg.det(a)


@case(lambda: [call(mixed(4, 3, grad=True))], **trains)
def matrix_norms(a):
    return torch.linalg.norm(a), torch.linalg.vector_norm(a, dim=1)


@case(lambda: [call((mixed(3, 3) @ mixed(3, 3).t() + 4 * torch.eye(3)).requires_grad_())], **trains)
def cholesky(a):
    return torch.linalg.cholesky(a)


@case(lambda: [call(mixed(4, 5))])
def sorting(x):
    values, indices = x.sort(1, descending=True)
    top = x.topk(2, dim=1)
    return values, indices, top.values, top.indices, x.argsort(0)


@case(lambda: [call(mixed(4, 5, grad=True))], **trains)
def sorting_gradient(x):
    return x.topk(3, dim=1).values, x.sort(0)[0]


@case(lambda: [call(mixed(4, 5, grad=True), whole(4, 2, below=5))], **trains)
def gather(x, index):
    return x.gather(1, index), x.index_select(1, index[0])


@case(lambda: [call(mixed(4, 5, grad=True), whole(4, 2, below=5), mixed(4, 2, grad=True))], **trains)
def scatter(x, index, source):
    return x.scatter(1, index, source), x.scatter_add(1, index, source)


@case(lambda: [call(mixed(4, 5, grad=True), whole(3, below=4), mixed(3, 5))], **trains)
def index_put(x, rows, values):
    y = x.clone()
    y[rows] = values
    return y, x.index_put((rows,), values, accumulate=True), x.index_add(0, rows, values)


@case(lambda: [call(mixed(5, 4, grad=True), whole(2, 3, below=5), flags(5))], **trains)
def indexing(x, rows, mask):
    return x[rows], x[:, 1:3], x[..., -1], x[[0, 2]], x * mask[:, None], x[1], x[::2]


@case(lambda: [call(mixed(6), flags(6))])
def nonzero_breaks_the_graph(x, mask):
    return x[mask] * 2


@case(lambda: [call(mixed(7, 4, grad=True), whole(3, 2, below=7))], **trains)
def embedding(weight, index):
    return F.embedding(index, weight, padding_idx=1)


@case(lambda: [call(mixed(7, 4, grad=True), whole(6, below=7), torch.tensor([0, 2, 5]))], **trains)
def embedding_bag(weight, index, offsets):
    return F.embedding_bag(index, weight, offsets, mode="mean")


@case(lambda: [call(mixed(2, 3, 8, grad=True), mixed(4, 3, 3, grad=True), mixed(4, grad=True))], **trains)
def convolution_1d(x, weight, bias):
    return F.conv1d(x, weight, bias, padding=1)


@case(lambda: [call(mixed(1, 3, 6, 6, grad=True), mixed(4, 3, 3, 3, grad=True))], **trains)
def convolution_2d(x, weight):
    return F.conv2d(x, weight, stride=2)


@case(lambda: [call(mixed(1, 2, 4, 4, 4, grad=True), mixed(2, 2, 2, 2, 2, grad=True))], **trains)
def convolution_3d(x, weight):
    return F.conv3d(x, weight)


@case(lambda: [call(mixed(1, 4, 5, 5, grad=True), mixed(4, 1, 3, 3, grad=True))], **trains)
def convolution_in_groups(x, weight):
    return F.conv2d(x, weight, groups=4, dilation=2)


@case(lambda: [call(mixed(1, 3, 4, 4, grad=True), mixed(3, 2, 2, 2, grad=True))], **trains)
def transposed_convolution(x, weight):
    return F.conv_transpose2d(x, weight, stride=2)


@case(lambda: [call(mixed(1, 2, 6, 6, grad=True))], **trains)
def pooling(x):
    return F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 1), F.adaptive_avg_pool2d(x, 2), F.lp_pool2d(x, 2, 2)


@case(lambda: [call(mixed(1, 2, 6, 6))])
def pooling_with_indices(x):
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(values, indices, 2), indices


@case(lambda: [call(mixed(1, 2, 4, 4, grad=True))], **trains)
def interpolation(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear"), F.interpolate(x, size=(3, 5), mode="nearest")


@case(lambda: [call(mixed(1, 2, 4, 4, grad=True), mixed(1, 3, 3, 2, grad=True))], **trains)
def grid_sample(x, grid):
    return F.grid_sample(x, grid, align_corners=False)


@case(lambda: [call(mixed(2, 3, 4, grad=True))], **trains)
def padding(x):
    return F.pad(x, (1, 2)), F.pad(x, (1, 1), mode="reflect"), F.pad(x, (2, 0), value=3.0)


@case(lambda: [call(*(mixed(1, 2, 4, 6, grad=True) for _ in range(3)))], **trains)
def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@case(lambda: [call(*(mixed(1, 2, 4, 6) for _ in range(3)), flags(4, 4) | torch.eye(4, dtype=torch.bool))])
def attention_with_a_mask(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@case(lambda: [call(mixed(4, 5, grad=True), whole(4, below=5))], **trains)
def cross_entropy(x, target):
    return F.cross_entropy(x, target), F.cross_entropy(x, target, label_smoothing=0.1, reduction="none")


@case(lambda: [call(mixed(4, 5, grad=True), mixed(4, 5))], **trains)
def losses(x, y):
    return F.mse_loss(x, y), F.smooth_l1_loss(x, y), F.huber_loss(x, y), F.kl_div(x, y.exp(), reduction="sum")


@case(lambda: [call(mixed(3, 8, grad=True))], **trains)
def activations(x):
    return F.gelu(x), F.silu(x), F.mish(x), F.elu(x), F.hardswish(x), F.leaky_relu(x, 0.2), F.softplus(x)


@case(lambda: [call(mixed(2, 6, 4, grad=True), mixed(6, grad=True), mixed(6, grad=True))], **trains)
def norms(x, weight, bias):
    return F.group_norm(x, 2, weight, bias), F.instance_norm(x), F.layer_norm(x, (4,)), F.normalize(x, dim=1)


@case(lambda: [call(mixed(4, 6, grad=True))], **trains)
def joined_and_split(x):
    a, b = x.chunk(2, 1)
    parts = x.split([1, 3], 0) if x.shape[0] == 4 else ()
    return torch.cat([a, b * 2]), torch.stack([a, b], 1), [p * 2 for p in parts], x.unbind(0)[1] + 1


@case(lambda: [call(mixed(3, 4, grad=True))], **trains)
def rolled_and_flipped(x):
    return x.roll(1, 0), x.flip(1), x.repeat(2, 1), x.tile(2), x.repeat_interleave(2, 1), x.tril()


@case(lambda: [call(mixed(3, 4, grad=True))], **trains)
def cumulative(x):
    return x.cumsum(1), x.cumprod(0), x.logcumsumexp(1), x.cummax(1).values, x.logsumexp(0)


@case(lambda: [call(mixed(6), ramp(4))])
def searched(x, edges):
    return torch.searchsorted(edges, x), torch.bucketize(x, edges), torch.isin(x, edges)


@case(lambda: [call(whole(8, below=4))])
def histogram_breaks_the_graph(x):
    return torch.bincount(x, minlength=5) * 2, torch.unique(x) + 1


@case(lambda: [call(mixed(2, 3), mixed(2, 3))])
def distances(x, y):
    return torch.cdist(x, y), F.cosine_similarity(x, y), F.pairwise_distance(x, y)


@case(lambda: [call(mixed(3, 4, dtype=torch.float64, grad=True))], **trains)
def special_functions(x):
    return torch.special.erf(x), torch.special.expit(x), x.atan2(x + 2), torch.lgamma(x + 3), x.sinc()


@case(lambda: [call(5, ramp(3))])
def made_inside(n, x):
    return (
        torch.arange(n) * 2,
        torch.zeros(n, 2) + x[0],
        torch.eye(3) * x,
        torch.linspace(0, 1, n),
        x.new_ones(2),
    )


@case(lambda: [call(mixed(4, 4, grad=True), mixed(4, 4, grad=True))], **trains)
def forward_of_many_operators(a, b):
    c = (a @ b).relu()
    d = torch.addmm(c, a, b, beta=0.5, alpha=2)
    return torch.addcmul(d, a, b), torch.lerp(a, b, 0.3), torch.kron(a[:2, :2], b[:2, :2])
