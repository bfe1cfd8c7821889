"""The fast convolution, ReLU and pooling give what torch's own operations give."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeptrail.fashion_mnist.kernels import SMALLEST_BATCH, conv_relu_pool
from sweeptrail.fashion_mnist.networks import Network


def plain(images: Tensor, conv: nn.Conv2d) -> Tensor:
    return functional.max_pool2d(functional.relu(conv(images)), 2)


def is_fast(result: Tensor) -> bool:
    return "_ConvReluPool" in type(result.grad_fn).__name__


def with_gradients(
    operation: Callable[[Tensor, nn.Conv2d], Tensor], images: Tensor, conv: nn.Conv2d, gradient: Tensor
) -> list[Tensor]:
    images = images.detach().requires_grad_()
    result = operation(images, conv)
    return [result.detach(), *torch.autograd.grad(result, [images, *conv.parameters()], gradient)]


def whole_numbers(conv: nn.Conv2d, *shape: int) -> tuple[Tensor, Tensor]:
    """Make the weights whole numbers and return such images and such a gradient: then nothing is rounded."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randint(-2, 3, size, generator=generator).to(conv.weight.dtype)

    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(draw(*parameter.shape))
    images = draw(*shape)
    return images, draw(*plain(images, conv).shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv2d(1, 6, 5), (28, 28)),
        (nn.Conv2d(6, 12, 5), (12, 12)),
        (nn.Conv2d(3, 2, 3), (8, 14)),
        (nn.Conv2d(2, 3, 1), (4, 2)),
        (nn.Conv2d(1, 1, 7), (8, 8)),
    ],
    ids=str,
)
def test_without_rounding_all_is_equal_ties_and_zeros_included(
    conv: nn.Conv2d, size: tuple[int, int], dtype: torch.dtype
) -> None:
    conv = conv.to(dtype)
    images, gradient = whole_numbers(conv, 17, conv.in_channels, *size)
    assert is_fast(conv_relu_pool(images, conv))
    ours, theirs = (with_gradients(operation, images, conv, gradient) for operation in (conv_relu_pool, plain))
    assert all(torch.equal(our, their) for our, their in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("tied", [0.0, -0.0, 1.0])
def test_of_four_equal_pixels_the_first_gets_the_gradient(tied: float) -> None:
    conv = nn.Conv2d(1, 1, 1)
    conv.load_state_dict({"weight": torch.ones(1, 1, 1, 1), "bias": torch.tensor([0.5])})
    images = torch.full((SMALLEST_BATCH, 1, 2, 2), tied)
    _, of_images, *_ = with_gradients(conv_relu_pool, images, conv, torch.ones(SMALLEST_BATCH, 1, 1, 1))
    assert of_images.flatten(1).tolist() == [[1, 0, 0, 0]] * SMALLEST_BATCH


def test_real_numbers_are_equal_but_for_rounding() -> None:
    torch.manual_seed(0)
    conv, images = nn.Conv2d(6, 12, 5), torch.rand(100, 6, 12, 12)
    gradient = torch.randn(100, 12, 4, 4)
    ours, theirs = (with_gradients(operation, images, conv, gradient) for operation in (conv_relu_pool, plain))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_gradients_are_the_derivatives() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 2, 3, dtype=torch.float64)
    images = torch.randn(SMALLEST_BATCH, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert is_fast(conv_relu_pool(images, conv))
    assert torch.autograd.gradcheck(lambda images, *_: conv_relu_pool(images, conv), [images, *conv.parameters()])


@pytest.mark.parametrize(
    "rearranged",
    [
        lambda images: images.contiguous(memory_format=torch.channels_last),
        lambda images: images.permute(0, 1, 3, 2),
        lambda images: images.repeat(1, 1, 1, 2)[..., ::2],
        lambda images: images[:1].expand(20, -1, -1, -1),
    ],
    ids=["channels last", "transposed", "strided", "expanded"],
)
def test_images_may_lie_in_memory_in_any_way(rearranged: Callable[[Tensor], Tensor]) -> None:
    conv = nn.Conv2d(2, 3, 3)
    images, _ = whole_numbers(conv, 20, 2, 8, 8)
    result = conv_relu_pool(rearranged(images), conv)
    assert is_fast(result)
    assert torch.equal(result, plain(rearranged(images), conv))


def test_the_gradient_may_lie_in_memory_in_any_way() -> None:
    conv = nn.Conv2d(2, 3, 3)
    images, gradient = whole_numbers(conv, 20, 2, 8, 8)
    for one in (gradient.contiguous(memory_format=torch.channels_last), gradient[:, :, :1, :1].expand_as(gradient)):
        ours, theirs = (with_gradients(operation, images, conv, one) for operation in (conv_relu_pool, plain))
        assert all(torch.equal(our, their) for our, their in zip(ours, theirs, strict=True))


def test_backward_can_be_repeated() -> None:
    conv = nn.Conv2d(2, 3, 3)
    result = conv_relu_pool(torch.rand(20, 2, 8, 8), conv).sum()
    first, second = (torch.autograd.grad(result, conv.weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_what_is_no_number_stays_so() -> None:
    images = torch.zeros(20, 1, 6, 6)
    images[3, 0, 0, 0] = torch.nan
    result = conv_relu_pool(images, nn.Conv2d(1, 2, 3))
    assert is_fast(result)
    assert result.isnan().nonzero()[:, [0, 2, 3]].unique(dim=0).tolist() == [[3, 0, 0]]


class Halved(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / 2


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        pytest.param(nn.Conv2d(2, 3, 3), (SMALLEST_BATCH - 1, 2, 8, 8), id="few images"),
        pytest.param(nn.Conv2d(2, 3, 3), (20, 2, 9, 8), id="odd height"),
        pytest.param(nn.Conv2d(2, 3, 3), (20, 2, 8, 9), id="odd width"),
        pytest.param(nn.Conv2d(2, 3, 4), (20, 2, 9, 9), id="even kernel"),
        pytest.param(nn.Conv2d(2, 3, (3, 5)), (20, 2, 8, 8), id="oblong kernel"),
        pytest.param(nn.Conv2d(2, 3, 3, stride=2), (20, 2, 8, 8), id="stride"),
        pytest.param(nn.Conv2d(2, 3, 3, padding=1), (20, 2, 8, 8), id="padding"),
        pytest.param(nn.Conv2d(2, 3, 3, padding="same"), (20, 2, 8, 8), id="padding in words"),
        pytest.param(nn.Conv2d(2, 3, 3, dilation=2), (20, 2, 8, 8), id="dilation"),
        pytest.param(nn.Conv2d(2, 4, 3, groups=2), (20, 2, 8, 8), id="groups"),
        pytest.param(nn.Conv2d(2, 3, 3, bias=False), (20, 2, 8, 8), id="no bias"),
        pytest.param(nn.Conv2d(2, 3, 3), (2, 8, 8), id="one image without a batch"),
        pytest.param(Halved(2, 3, 3), (20, 2, 8, 8), id="derived class"),
    ],
)
def test_what_it_is_not_written_for_goes_torchs_way(conv: nn.Conv2d, shape: tuple[int, ...]) -> None:
    images = torch.rand(*shape)
    result = conv_relu_pool(images, conv)
    assert not is_fast(result)
    assert torch.equal(result, plain(images, conv))


def test_hooks_of_the_convolution_are_called() -> None:
    conv, seen = nn.Conv2d(2, 3, 3), []
    conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    conv_relu_pool(torch.rand(20, 2, 8, 8), conv)
    assert seen == [(20, 3, 6, 6)]


def test_autocast_is_honoured() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        result = conv_relu_pool(torch.rand(20, 2, 8, 8), nn.Conv2d(2, 3, 3))
    assert result.dtype == torch.bfloat16


def test_wrong_channels_give_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        conv_relu_pool(torch.rand(20, 4, 8, 8), nn.Conv2d(2, 3, 3))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
def test_a_traced_graph_shows_convolution_relu_and_pooling() -> None:
    graph = str(torch.jit.trace(Network(), torch.rand(20, 1, 28, 28)).inlined_graph)
    assert [graph.count(name) for name in ("aten::_convolution", "aten::relu", "aten::max_pool2d")] == [2, 4, 2]
    assert "_ConvReluPool" not in graph


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_network_takes_any_number_of_images(strict: bool) -> None:
    network = Network()
    samples = torch.export.Dim("samples")
    program = torch.export.export(network, (torch.rand(20, 1, 28, 28),), dynamic_shapes=({0: samples},), strict=strict)
    assert str(program.graph).count("aten.max_pool2d") == 2
    images = torch.rand(33, 1, 28, 28)
    torch.testing.assert_close(program.module()(images), network(images))


def test_function_transforms_go_through_the_network() -> None:
    network, images = Network(), torch.rand(3, 20, 1, 28, 28)
    each = torch.stack([network(some) for some in images])
    torch.testing.assert_close(torch.func.vmap(network)(images), each)
    slopes = torch.func.grad(lambda some: network(some).sum())(images[0])
    images.requires_grad_()
    torch.testing.assert_close(slopes, torch.autograd.grad(network(images[0]).sum(), images)[0][0])
