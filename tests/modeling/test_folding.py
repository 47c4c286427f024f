"""Norms folded into convolutions: once, in float32, and anew whenever a tensor has changed."""

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.modeling.resnet import AffineNorm, BatchNorm, ConvNorm, FrozenStatNorm
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.resnet import NormLearning

from tiny import lively, tiny


class Counting(TorchDispatchMode):
    """The names of the operators that run, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **kwargs or {})


def layer(norm: Norm = Norm.BATCH, learning: NormLearning = NormLearning.AFFINE) -> ConvNorm:
    torch.manual_seed(0)
    made = ConvNorm(3, 4, 3, norm=norm, learning=learning).eval()
    for tensor in made.norm.tensors():
        nn.init.uniform_(tensor, 0.5, 2)
    return made


def expected(conv: ConvNorm, x: Tensor) -> Tensor:
    """The convolution, and after it torch's own batch norm, in float64."""
    plain = nn.functional.conv2d(x.double(), conv.weight.double(), padding=1)
    norm = conv.norm
    statistics = (norm.running_mean.double(), norm.running_var.double(), norm.weight.double(), norm.bias.double())
    return nn.functional.batch_norm(plain, *statistics, eps=norm.eps).float()


X = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def scaled(conv: ConvNorm) -> None:
    conv.weight.mul_(2)


def by_optimizer(conv: ConvNorm) -> None:
    for parameter in conv.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(conv.parameters(), lr=0.25).step()


def by_state_dict(conv: ConvNorm, assign: bool = False) -> None:
    conv.load_state_dict({name: tensor + 0.5 for name, tensor in conv.state_dict().items()}, assign=assign)


def by_data(conv: ConvNorm) -> None:
    conv.weight.data = conv.weight.data + 1


def by_data_twice(conv: ConvNorm) -> None:
    """The second may come to lie where the weights of the start were."""
    by_data(conv)
    by_data(conv)


def by_average(conv: ConvNorm) -> None:
    """As timm's and this package's moving averages are swapped in."""
    for tensor in conv.state_dict().values():
        tensor.copy_(tensor * 0.5 + 0.25)


def by_a_new_parameter(conv: ConvNorm) -> None:
    conv.norm.weight = nn.Parameter(conv.norm.weight.detach() * 3)


def by_training(conv: ConvNorm) -> None:
    """A step in training mode moves the running statistics, which PyTorch does not count as a write."""
    conv.norm = BatchNorm(4)
    conv(X)
    conv.train()
    conv(X * 7 + 5)
    conv.eval()


def in_inference_mode(conv: ConvNorm) -> None:
    with torch.inference_mode():
        conv.norm.running_var.add_(1)


def past_the_counter(conv: ConvNorm) -> None:
    """A write that PyTorch does not count, and the documented way to say so."""
    conv.weight.data.mul_(3)
    conv.eval()


@pytest.mark.parametrize(
    "change",
    [
        scaled,
        by_optimizer,
        by_state_dict,
        lambda conv: by_state_dict(conv, assign=True),
        by_data,
        by_data_twice,
        by_average,
        by_a_new_parameter,
        by_training,
        in_inference_mode,
        past_the_counter,
        lambda conv: conv.norm.running_mean.fill_(3),
        lambda conv: conv.double().float(),
        lambda conv: conv.to(memory_format=torch.channels_last),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_P10_a_change_of_weights_is_folded_anew(change: Callable[[ConvNorm], None], mode: type) -> None:
    conv = layer()
    with mode():
        before = conv(X)
        torch.testing.assert_close(before, expected(conv, X))
    change(conv)
    with mode():
        torch.testing.assert_close(conv(X), expected(conv, X))


@pytest.mark.parametrize("norm", [Norm.BATCH, Norm.AFFINE])
def test_P10_norms_are_folded_once(norm: Norm) -> None:
    conv = layer(norm)
    with torch.no_grad():
        conv(X)
        with Counting() as counting:
            conv(X)
    assert counting.names == ["convolution.default"]


def test_P10_a_whole_network_folds_once() -> None:
    model = lively(tiny("cascade_mask_r50_fpn"))
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        model.backbone(pixels)
        with Counting() as counting:
            model.backbone(pixels)
    assert set(counting.names) == {
        "convolution.default",
        "relu_.default",
        "add_.Tensor",
        "max_pool2d_with_indices.default",
    }
    assert counting.names.count("convolution.default") == 1 + 4 * 4  # the stem; four blocks, each with its shortcut


def test_P10_a_frozen_layer_is_folded_once_in_training_too() -> None:
    conv = layer().requires_grad_(False).train()
    x = X.clone().requires_grad_()
    conv(x)
    with Counting() as counting:
        out = conv(x)
    assert counting.names == ["convolution.default"]
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_P10_half_precision_folds_in_float32(dtype: torch.dtype) -> None:
    """A variance of 70,000 is beyond half precision, as are a mean of 100,000 and a scale of a ten-millionth."""
    conv = layer()
    with torch.no_grad():
        conv.norm.running_var.fill_(7e4)
        conv.norm.running_mean.fill_(1e5)
        conv.norm.weight.fill_(264.575131)  # the root of 70,000: a scale of 1
        conv.norm.bias.fill_(1e5)
    original = conv.weight.detach().clone()
    conv.to(dtype)
    assert conv.weight.dtype == dtype
    with torch.no_grad():
        weight, bias = conv.folded()
        assert conv(X.to(dtype)).dtype == dtype
    torch.testing.assert_close(weight, original.to(dtype))
    assert bias.dtype == dtype
    assert bias.abs().max() < 0.5  # 100,000 - 100,000 * 1, to float32's 1e-7


def test_P10_an_affine_scale_below_half_precision_survives() -> None:
    conv = layer(Norm.AFFINE)
    with torch.no_grad():
        conv.weight.fill_(1000)
        conv.norm.weight.fill_(1e-8)
    conv.half()
    with torch.no_grad():
        torch.testing.assert_close(conv.folded()[0], torch.full_like(conv.weight, 1e-5))


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.float16), nn.Module.double])
def test_P10_norms_keep_float32_through_any_cast(cast: Callable[[nn.Module], nn.Module]) -> None:
    norm = FrozenStatNorm(2)
    norm.running_var.fill_(7e4)
    cast(norm)
    assert {tensor.dtype for tensor in norm.tensors()} <= {torch.float32, torch.float64}
    assert norm.running_var.tolist() == [7e4, 7e4]
    assert AffineNorm(2).to("meta").half().weight.dtype == torch.float32


def test_P10_a_half_model_detects_what_the_float_model_does() -> None:
    model = lively(tiny("cascade_r50_fpn"))
    for module in model.modules():
        if isinstance(module, FrozenStatNorm):
            nn.init.constant_(module.running_var, 7e4)
            nn.init.constant_(module.weight, 264.575131)
    image = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.extract(model.prepare([model.resize(image)]).pixels)
        model.half()
        halves = model.extract(model.prepare([model.resize(image)]).pixels)
    for half, one in zip(halves, whole, strict=True):
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), one, atol=0.01 * one.abs().max().item(), rtol=0)


def test_P10_gradients_reach_weights_and_norm_in_eval_mode() -> None:
    """Against torch's own batch norm in float64, after a fold has been kept."""
    conv, twin = layer().double(), layer().double()
    with torch.no_grad():
        conv(X.double())
    conv(X.double()).square().sum().backward()
    plain = nn.functional.conv2d(X.double(), twin.weight, padding=1)
    norm = twin.norm
    nn.functional.batch_norm(
        plain, norm.running_mean, norm.running_var, norm.weight, norm.bias
    ).square().sum().backward()
    for ours, theirs in zip(conv.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_P10_a_fold_of_inference_mode_serves_gradients() -> None:
    conv = layer().requires_grad_(False)
    with torch.inference_mode():
        conv(X)
    x = X.clone().requires_grad_()
    conv(x).sum().backward()
    assert x.grad is not None


def test_P10_parameters_of_inference_mode_are_folded_each_time() -> None:
    """Their writes are not counted, so nothing may be kept."""
    with torch.inference_mode():
        conv = layer()
        conv(X)
        conv.weight.mul_(2)
        torch.testing.assert_close(conv(X), expected(conv, X))


def test_P10_the_state_dict_and_copies_hold_no_fold() -> None:
    conv = layer()
    names = list(conv.state_dict())
    size = len(pickle.dumps(conv))
    with torch.no_grad():
        conv(X)
    assert list(conv.state_dict()) == names
    assert len(pickle.dumps(conv)) == size
    twin, again = copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))
    file = io.BytesIO()
    torch.save(conv, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    scaled(conv)
    for other in (twin, again, loaded):
        scaled(other)
        scaled(other)
        with torch.no_grad():
            torch.testing.assert_close(other(X), expected(other, X))
            torch.testing.assert_close(conv(X), expected(conv, X))


def test_P10_replicas_and_functional_calls_use_their_own_weights() -> None:
    conv = layer()
    with torch.no_grad():
        before = conv(X)
        replica = conv._replicate_for_data_parallel()  # as DataParallel makes them: its tensors are set afterwards
        replica.weight, replica.norm = conv.weight * 2, conv.norm
        torch.testing.assert_close(replica(X), expected(replica, X))
        other = {name: tensor + 1 for name, tensor in conv.state_dict().items()}
        out = torch.func.functional_call(conv, other, (X,))
        twin = layer()
        twin.load_state_dict(other)
        torch.testing.assert_close(out, expected(twin, X))
        torch.testing.assert_close(conv(X), before)


def test_P10_threads_that_start_together_agree() -> None:
    conv = layer()
    want = expected(conv, X)

    def run(_: int) -> Tensor:
        with torch.no_grad():
            return conv(X)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            conv.eval()
            for out in pool.map(run, range(8)):
                torch.testing.assert_close(out, want)
