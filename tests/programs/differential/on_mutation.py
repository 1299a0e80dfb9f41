"""Arguments that are written to, views, and outputs that share memory with inputs."""

import torch
from made import flags, mixed, ramp, whole

from support.differential import Call, call, case

trains = {"train": True}


@case(lambda: [call(ramp(4)), call(ramp(4) + 1)], misses=lambda: [call(ramp(6))])
def written_argument(x):
    x.add_(1)
    return x * 2


@case(lambda: [call(ramp(4))])
def returned_argument(x):
    x.mul_(2)
    return x


@case(lambda: [call(ramp(4))])
def returned_untouched(x):
    return x, x.sin()


@case(lambda: [call(ramp(4))])
def returned_twice(x):
    y = x.cos()
    return y, y, x


@case(lambda: [call(ramp(4, 4))])
def views_of_the_argument(x):
    return x[1:], x.t(), x.view(2, 8), x.reshape(-1), x.unsqueeze(0), x.diagonal(), x.expand(2, 4, 4)


@case(lambda: [call(ramp(4, 4, grad=True))], **trains)
def views_of_the_argument_in_training(x):
    return x[1:], x.t() * 2, x.view(16)


@case(lambda: [call(ramp(4, 4))])
def views_of_a_new_tensor(x):
    y = x.sin()
    return y, y[0], y.t(), y.view(-1)


@case(lambda: [call(ramp(4, 4, grad=True))], **trains)
def views_of_a_new_tensor_in_training(x):
    y = x.sin()
    return y, y[0], y.t()


@case(lambda: [call(ramp(4, 4)[1:])])
def written_view(x):
    x[0] = 5
    x[:, 1] += 1
    return x.sum()


@case(lambda: [call(ramp(4, 4))])
def written_through_a_view(x):
    y = x.view(-1)
    y[3:7].zero_()
    return y, x


def _base_and_view():
    base = ramp(6)
    return [call(base, base[2:])]


@case(_base_and_view)
def arguments_that_overlap(x, y):
    x.add_(1)
    return y * 2


def _same_twice():
    x = ramp(4)
    return [call(x, x), call(ramp(4), ramp(4))]


@case(_same_twice)
def one_object_twice(x, y):
    x.mul_(3)
    return x + y


@case(lambda: [call(ramp(4, grad=True), ramp(4))], **trains)
def written_in_training(x, log):
    log.copy_(x.detach())
    return x.exp()


@case(lambda: [call(ramp(4, grad=True))], **trains)
def clone_written_in_training(x):
    y = x.clone()
    y[1:3] *= 2
    y.relu_()
    return y


@case(lambda: [call(ramp(4, grad=True) * 1, ramp(4))])
def written_tensor_with_history(x, y):
    x.add_(y)
    return x * 2


@case(lambda: [Call((ramp(4, grad=True),), inside=torch.no_grad)])
def leaf_written_without_gradients(x):
    x.sub_(0.1)
    return x + 1


@case(lambda: [call(ramp(4, 3), whole(3, below=4), ramp(3, 3))])
def rows_written(x, rows, values):
    x[rows] = values
    x.index_add_(0, rows, values)
    return x.sum(0)


@case(lambda: [call(ramp(6), flags(6))])
def written_where_set(x, mask):
    x.masked_fill_(mask, 9.0)
    x.clamp_(max=4)
    return mask.sum()


@case(lambda: [call(ramp(2, 3))])
def form_changed(x):
    x.t_()
    x.unsqueeze_(0)
    return x + 1


@case(lambda: [call(ramp(2, 3))])
def form_and_values_changed(x):
    x.transpose_(0, 1)
    x.mul_(2)
    return x.sum(0)


@case(lambda: [call(ramp(4), ramp(4))])
def written_with_out(x, y):
    torch.add(x, 1, out=y)
    return y * 2


@case(lambda: [call(ramp(4), torch.zeros(4, dtype=torch.int64))])
def several_written(x, counts):
    counts += 1
    x.exp_()
    x.neg_()
    counts.mul_(2)


@case(lambda: [call(mixed(4, dtype=torch.complex64))])
def conjugates_and_real_parts(z):
    return z.conj(), z.real, z.imag, torch.view_as_real(z)


@case(lambda: [call(ramp(4))])
def other_type_of_view(x):
    return x.view(torch.int32), x.view(torch.uint8).view(4, 4)


@case(lambda: [call(ramp(3, 4))])
def parts_as_views(x):
    a, b, c = x.unbind(0)
    return x.split(2, 1), a, x.chunk(2, 1)[1], (b, c)


@case(lambda: [call(ramp(2, 3, 4))])
def windows(x):
    return x.as_strided((2, 2), (3, 1), 1), x.unfold(2, 2, 1), x.movedim(0, 2), x.flatten(1), x.swapaxes(0, 1)


@case(lambda: [call(ramp(4)), call(ramp(4))])
def the_same_result_each_time(x):
    return x.detach(), x.data, x.contiguous(), x.to(torch.float32), x.float(), x.alias if False else x.clone()


@case(lambda: [call(ramp(4, grad=True))], **trains)
def detached_output_shares_memory(x):
    y = x * 2
    return y, y.detach()


def _overlapping_rows():
    base = mixed(4, 4)
    return [call(base, base[0], base[1])]


@case(_overlapping_rows)
def rows_of_one_tensor(x, first, second):
    first.add_(1)
    second.mul_(2)
    return x.sum(1)


@case(lambda: [call(ramp(1, 4).expand(3, 4).contiguous(), ramp(4))])
def written_by_broadcast(x, y):
    x += y
    x /= 2
    return x


@case(lambda: [call(ramp(8, grad=True))], **trains)
def outputs_of_in_place_chain(x):
    y = x * 2
    z = y.view(2, 4)
    z.add_(1)
    return y, z
