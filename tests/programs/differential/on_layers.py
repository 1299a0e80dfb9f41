"""The layers of torch.nn: each is made, compiled in a function of its own, and trained where it can be."""

import types

import torch
from made import mixed, ramp, whole
from torch import nn

from support.differential import Program, call, register


def apply(layer, *inputs):
    return layer(*inputs)


def own_function(name):
    """Return `apply` as another function: a recipe of its own, as in a program that has one layer."""
    code = apply.__code__.replace(co_name=name, co_qualname=name)
    return types.FunctionType(code, globals(), name)


def rows():
    return (mixed(3, 6, grad=True),)


def signal():
    return (mixed(2, 4, 8, grad=True),)


def image():
    return (mixed(1, 4, 6, 6, grad=True),)


def volume():
    return (mixed(1, 2, 4, 4, 4, grad=True),)


def sequence():
    return (mixed(2, 3, 6, grad=True),)


def pair():
    return mixed(3, 6, grad=True), ramp(3, 6)


def classes():
    return mixed(3, 6, grad=True), whole(3, below=6)


def chances():
    return mixed(3, 6).sigmoid().requires_grad_(), whole(3, 6, below=2).float()


def signs():
    return mixed(3, 6, grad=True), whole(3, 6, below=2) * 2.0 - 1


LAYERS = {
    # linear and embedding
    "identity": (nn.Identity, rows),
    "linear": (lambda: nn.Linear(6, 4), rows),
    "linear_without_bias": (lambda: nn.Linear(6, 4, bias=False), rows),
    "bilinear": (lambda: nn.Bilinear(6, 6, 2), pair),
    "embedding": (lambda: nn.Embedding(8, 4, padding_idx=0), lambda: (whole(2, 3, below=8),)),
    "embedding_max_norm": (lambda: nn.Embedding(8, 4, max_norm=0.5), lambda: (whole(2, 3, below=8),)),
    "embedding_bag": (lambda: nn.EmbeddingBag(8, 4, mode="sum"), lambda: (whole(2, 3, below=8),)),
    # convolution
    "conv1d": (lambda: nn.Conv1d(4, 2, 3, padding="same"), signal),
    "conv2d": (lambda: nn.Conv2d(4, 2, 3, stride=2, padding=1), image),
    "conv2d_grouped": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), image),
    "conv2d_reflect": (lambda: nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"), image),
    "conv3d": (lambda: nn.Conv3d(2, 2, 2), volume),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 2, 3, stride=2), signal),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1), image),
    "unfold": (lambda: nn.Unfold(2), image),
    "fold": (lambda: nn.Fold((4, 5), 2), lambda: (mixed(1, 8, 12, grad=True),)),
    # pooling and form
    "max_pool1d": (lambda: nn.MaxPool1d(2), signal),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, 1), image),
    "avg_pool2d": (lambda: nn.AvgPool2d(2, ceil_mode=True), image),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), image),
    "adaptive_max_pool1d": (lambda: nn.AdaptiveMaxPool1d(3), signal),
    "lp_pool1d": (lambda: nn.LPPool1d(2, 2), signal),
    "fractional_pool": (lambda: nn.FractionalMaxPool2d(2, output_size=3), image),
    "pixel_shuffle": (lambda: nn.PixelShuffle(2), image),
    "pixel_unshuffle": (lambda: nn.PixelUnshuffle(2), image),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), image),
    "reflection_pad": (lambda: nn.ReflectionPad2d(1), image),
    "replication_pad": (lambda: nn.ReplicationPad1d(2), signal),
    "zero_pad": (lambda: nn.ZeroPad2d((1, 0, 2, 0)), image),
    "circular_pad": (lambda: nn.CircularPad1d(2), signal),
    "flatten": (nn.Flatten, image),
    "unflatten": (lambda: nn.Unflatten(1, (2, 3)), rows),
    # norms
    "batch_norm1d": (lambda: nn.BatchNorm1d(6), rows),
    "batch_norm2d": (lambda: nn.BatchNorm2d(4, momentum=None), image),
    "batch_norm_no_stats": (lambda: nn.BatchNorm1d(6, affine=False, track_running_stats=False), rows),
    "batch_norm_eval": (lambda: nn.BatchNorm1d(6).eval(), rows),
    "layer_norm": (lambda: nn.LayerNorm(6), sequence),
    "group_norm": (lambda: nn.GroupNorm(2, 4), image),
    "instance_norm": (lambda: nn.InstanceNorm2d(4, affine=True), image),
    "rms_norm": (lambda: nn.RMSNorm(6), sequence),
    "local_response_norm": (lambda: nn.LocalResponseNorm(2), image),
    # random
    "dropout": (lambda: nn.Dropout(0.4), rows),
    "dropout_eval": (lambda: nn.Dropout(0.4).eval(), rows),
    "dropout2d": (lambda: nn.Dropout2d(0.5), image),
    "alpha_dropout": (lambda: nn.AlphaDropout(0.3), rows),
    "rrelu": (nn.RReLU, rows),
    # recurrent and attention
    "rnn": (lambda: nn.RNN(6, 4, batch_first=True), sequence),
    "lstm": (lambda: nn.LSTM(6, 4, bidirectional=True), sequence),
    "gru": (lambda: nn.GRU(6, 4, 2), sequence),
    "rnn_cell": (lambda: nn.RNNCell(6, 4), rows),
    "lstm_cell": (lambda: nn.LSTMCell(6, 4), rows),
    "gru_cell": (lambda: nn.GRUCell(6, 4), rows),
    "multihead_attention": (lambda: nn.MultiheadAttention(6, 2, batch_first=True), lambda: sequence() * 3),
    "encoder_layer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True), sequence),
    "encoder_layer_eval": (lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval(), sequence),
    "decoder_layer": (
        lambda: nn.TransformerDecoderLayer(6, 2, 8, 0.0, batch_first=True),
        lambda: sequence() * 2,
    ),
    # losses
    "l1_loss": (nn.L1Loss, pair),
    "mse_loss": (lambda: nn.MSELoss(reduction="sum"), pair),
    "cross_entropy": (lambda: nn.CrossEntropyLoss(weight=ramp(6) + 2), classes),
    "nll_loss": (nn.NLLLoss, classes),
    "bce_loss": (nn.BCELoss, chances),
    "bce_with_logits": (lambda: nn.BCEWithLogitsLoss(pos_weight=ramp(6) + 2), chances),
    "kl_div": (lambda: nn.KLDivLoss(reduction="batchmean"), pair),
    "huber_loss": (lambda: nn.HuberLoss(delta=0.3), pair),
    "hinge_embedding": (nn.HingeEmbeddingLoss, signs),
    "soft_margin": (nn.SoftMarginLoss, signs),
    "multi_margin": (nn.MultiMarginLoss, classes),
    "triplet": (nn.TripletMarginLoss, lambda: (mixed(3, 6, grad=True), ramp(3, 6), mixed(3, 6).cos())),
    "cosine_embedding": (nn.CosineEmbeddingLoss, lambda: (*pair(), torch.tensor([1, -1, 1]))),
    "gaussian_nll": (nn.GaussianNLLLoss, lambda: (*pair(), ramp(3, 6) + 2)),
    "poisson_nll": (nn.PoissonNLLLoss, pair),
    "ctc_loss": (
        nn.CTCLoss,
        lambda: (
            mixed(6, 2, 4).log_softmax(2).requires_grad_(),
            whole(2, 3, below=3) + 1,
            torch.tensor([6, 5]),
            torch.tensor([3, 2]),
        ),
    ),
    "adaptive_softmax": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(6, 9, [4]),
        lambda: (mixed(3, 6), whole(3, below=9)),
    ),
    # distances
    "cosine_similarity": (nn.CosineSimilarity, pair),
    "pairwise_distance": (nn.PairwiseDistance, pair),
    # activations with state or something of their own
    "prelu": (lambda: nn.PReLU(3), lambda: (mixed(2, 3, 4, grad=True),)),
    "glu": (nn.GLU, rows),
    "softmax": (lambda: nn.Softmax(1), rows),
    "log_softmax": (lambda: nn.LogSoftmax(0), rows),
    "softmin": (lambda: nn.Softmin(1), rows),
    "threshold": (lambda: nn.Threshold(0.1, 2.0), rows),
    "relu_in_place": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True)), rows),
}
# torch breaks the graph in their forward and runs the frame as it is
NO_GRAPH = {"identity", "batch_norm2d", "rnn", "lstm", "gru", "gaussian_nll", "ctc_loss", "adaptive_softmax"}
ACTIVATIONS = (
    "CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish ReLU ReLU6 SELU "
    "Sigmoid SiLU Softplus Softshrink Softsign Tanh Tanhshrink"
).split()


def layer_program(name, construct, inputs):
    layer, arguments = construct(), inputs()
    calls = [call(layer, *arguments), call(layer, *inputs())]
    return Program(target=own_function(name), calls=calls, train=True, graphs=name not in NO_GRAPH)


for name, (construct, inputs) in LAYERS.items():
    register(__name__, name, lambda n=name, c=construct, i=inputs: layer_program(n, c, i))


def activations():
    """All activations that have neither state nor arguments, one after the other, in one module."""
    stack = nn.Sequential(*(getattr(nn, name)() for name in ACTIVATIONS))
    return Program(target=own_function("activations"), calls=[call(stack, *rows())], train=True)


register(__name__, "activations", activations)


def compiled_directly(construct, inputs):
    layer = construct()
    return Program(target=layer, calls=[call(*inputs()), call(*inputs())], train=True)


# The frame that torch compiles for these belongs to torch: all such modules of a process share it.
for name in ("linear", "conv2d", "layer_norm", "batch_norm1d"):
    construct, inputs = LAYERS[name]
    register(__name__, f"{name}_compiled_directly", lambda c=construct, i=inputs: compiled_directly(c, i))
