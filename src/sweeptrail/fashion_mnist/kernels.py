"""Convolution, ReLU and max-pooling as one operation that is fast on a CPU."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

SMALLEST_BATCH = 16
"""With fewer images torch's own operations are faster."""


def conv_relu_pool(images: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return `functional.max_pool2d(functional.relu(conv(images)), 2)`, equal but for the rounding of the convolution.

    On a CPU it takes about half the time, forward and backward. Whatever that way cannot do (other
    devices, tracing, export, autocast, vmap, hooks, strides, padding, odd sizes) takes torch's own.
    """
    if _is_plain(images) and _has_fast_shape(images, conv):
        return _ConvReluPool.apply(images, conv.weight, conv.bias)  # type: ignore[no-any-return]  # torch does not type what `apply` returns
    return functional.max_pool2d(functional.relu(conv(images)), 2)


def _is_plain(images: Tensor) -> bool:
    """Whether this is a computation of numbers on a CPU, not the recording or transformation of one."""
    return (
        type(images) is Tensor
        and images.is_cpu
        and torch._C._get_tracing_state() is None
        and not torch.compiler.is_compiling()  # true during torch.export as well
        and not torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled("cpu")
    )


def _has_fast_shape(images: Tensor, conv: nn.Conv2d) -> bool:
    """Whether convolution and images are of the kind for which the fast way is written."""
    if type(conv) is not nn.Conv2d or conv.bias is None or _is_hooked(conv):
        return False
    if (conv.stride, conv.padding, conv.dilation, conv.groups) != ((1, 1), (0, 0), (1, 1), 1):
        return False
    if images.dim() != 4 or len(images) < SMALLEST_BATCH or images.dtype != conv.weight.dtype:
        return False
    (kernel_height, kernel_width), (channels, height, width) = conv.kernel_size, images.shape[1:]
    return (
        images.is_floating_point()
        and channels == conv.in_channels
        and kernel_height == kernel_width
        and kernel_height % 2 == 1
        and min(height, width) > kernel_height
        and height % 2 == width % 2 == 0
    )


def _is_hooked(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks)


class _ConvReluPool(torch.autograd.Function):
    """Computes the four pixels that are pooled into one from the one patch of the image that they share.

    The patches are the columns of a matrix, and each pixel of a window has a filter as large as the
    patch, zero where the others look: one matrix product does the convolution, and the pooling takes
    maxima of whole blocks of its result. Samples are the innermost dimension, so that everything is
    read and written in long rows. Sizes: N samples, C channels in, O out, K x K kernel,
    S = K + 1 side of a patch, R x Q windows.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        (out_channels, channels, kernel, _), side = weight.shape, weight.shape[-1] + 1
        patches, windows = _patches(images.permute(1, 2, 3, 0).contiguous(), side)
        placements = _placements(kernel, weight.dtype)
        filters = (weight.reshape(-1, kernel * kernel) @ placements).view(4 * out_channels, channels * side * side)
        pixels = (filters @ patches).view(2, 2, out_channels, -1)
        rows = torch.maximum(pixels[:, 0], pixels[:, 1])
        # The greatest of the four decides, whether bias and ReLU come before it or after: a quarter of the work.
        pooled = torch.maximum(rows[0], rows[1]).add_(bias.view(-1, 1)).relu_()
        ctx.save_for_backward(patches, filters, pixels, rows, pooled)
        ctx.sizes = (channels, side, *windows, len(images))
        return pooled.view(out_channels, *windows, -1).permute(3, 0, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        patches, filters, pixels, rows, pooled = ctx.saved_tensors
        channels, side, *_ = ctx.sizes
        out_channels, kernel = len(pooled), side - 1
        gradient = gradient.permute(1, 2, 3, 0).reshape(pooled.shape)
        gradient = torch.ops.aten.threshold_backward(gradient, pooled, 0)
        of_pixels = _to_first_maximum(gradient, rows, pixels).view(4 * out_channels, -1)
        of_filters = (of_pixels @ patches.t()).view(4, -1, side * side)
        of_weight = (of_filters @ _placements(kernel, filters.dtype).mT).sum(0)
        of_images = _fold(filters.t() @ of_pixels, *ctx.sizes) if ctx.needs_input_grad[0] else None
        return of_images, of_weight.view(out_channels, channels, kernel, kernel), gradient.sum(1)


def _patches(images: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """Return C·S·S x R·Q·N, every second patch of C x H x W x N in both directions, and (R, Q)."""
    channels, height, width, samples = images.shape
    windows = ((height - side) // 2 + 1, (width - side) // 2 + 1)
    strides = (height * width * samples, width * samples, samples, 2 * width * samples, 2 * samples, 1)
    patches = images.as_strided((channels, side, side, *windows, samples), strides)
    return patches.reshape(channels * side * side, -1), windows


@lru_cache
def _placements(kernel: int, dtype: torch.dtype) -> Tensor:
    """Return 4 x K·K x S·S of zeros and ones, which put a kernel into the four corners of a patch."""
    side = kernel + 1
    identity = torch.eye(kernel * kernel, dtype=dtype).view(-1, kernel, kernel)
    corners = [functional.pad(identity, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
    return torch.stack(corners).view(4, -1, side * side)


def _to_first_maximum(gradient: Tensor, rows: Tensor, pixels: Tensor) -> Tensor:
    """Return the gradient of 2 x 2 x O x R·Q·N pixels: all for the first of the greatest, as torch's pooling does."""
    # Comparisons are written as 0.0 and 1.0: on a CPU a product with booleans takes six times as long.
    of_rows = torch.empty_like(rows)
    torch.ge(rows[0], rows[1], out=of_rows[0]).mul_(gradient)
    torch.sub(gradient, of_rows[0], out=of_rows[1])
    of_pixels = torch.empty_like(pixels)
    left, right = of_pixels[:, 0], of_pixels[:, 1]
    torch.ge(pixels[:, 0], pixels[:, 1], out=left).mul_(of_rows)
    torch.sub(of_rows, left, out=right)
    return of_pixels


def _fold(patches: Tensor, channels: int, side: int, height: int, width: int, samples: int) -> Tensor:
    """Return N x C x H x W, in each pixel the sum over the patches that it is part of; the inverse of `_patches`."""
    half = side // 2
    # Halving the sizes makes a patch half x half blocks of 2 x 2 pixels, and each block a slice of the images.
    blocks = patches.view(channels, half, 2, half, 2, height, width, samples).permute(1, 3, 0, 5, 2, 6, 4, 7)
    images = patches.new_zeros(channels, height + half - 1, 2, width + half - 1, 2, samples)
    for y in range(half):
        for x in range(half):
            images[:, y : y + height, :, x : x + width].add_(blocks[y, x])
    return images.view(channels, images.shape[1] * 2, -1, samples).permute(3, 0, 1, 2)
