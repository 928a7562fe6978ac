"""Comparison of the convolution kernels with the reference in float64: every algorithm, geometry and gradient."""

import numpy as np
import pytest

import rcnn
from rcnn._ext import backend, conv, load, memory
from rcnn.nn import Tensor, fused, no_grad
from rcnn.nn import functional as F
from rcnn.nn.windows import channels_last

MEMORY = load("_memory")

# (N, C, H, W), O, kernel, stride, padding, dilation, and groups if there are several
GEOMETRIES = {
    "1x1": ((2, 5, 4, 6), 7, (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 every second": ((1, 70, 9, 8), 65, (1, 1), (2, 2), (0, 0), (1, 1)),
    "3x3": ((2, 20, 13, 18), 33, (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 unpadded": ((1, 16, 9, 11), 16, (3, 3), (1, 1), (0, 0), (1, 1)),
    "3x3 padded by 2 and 0": ((1, 18, 6, 7), 17, (3, 3), (1, 1), (2, 0), (1, 1)),
    "3x3 padded by 4": ((1, 18, 3, 3), 17, (3, 3), (1, 1), (4, 4), (1, 1)),
    "3x3 of many tiles": ((1, 16, 90, 100), 16, (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 of few channels": ((1, 3, 12, 10), 4, (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 every second": ((2, 24, 11, 14), 48, (3, 3), (2, 2), (1, 1), (1, 1)),
    "3x3 every third, unpadded": ((1, 6, 13, 12), 5, (3, 3), (3, 3), (0, 0), (1, 1)),
    "1x1 with stride 3 and padding": ((1, 4, 7, 8), 5, (1, 1), (3, 3), (1, 2), (1, 1)),
    "a window as large as the map": ((5, 20, 5, 7), 40, (5, 7), (5, 7), (0, 0), (1, 1)),
    "7x7 of an image": ((1, 3, 21, 30), 64, (7, 7), (2, 2), (3, 3), (1, 1)),
    "2x5, strides 3 and 1": ((1, 9, 12, 11), 10, (2, 5), (3, 1), (1, 4), (1, 1)),
    "dilated": ((1, 8, 15, 14), 9, (3, 3), (1, 1), (2, 2), (2, 2)),
    "dilated, every second": ((1, 8, 15, 14), 9, (3, 2), (2, 1), (1, 3), (2, 3)),
    "long sums": ((2, 2500, 3, 2), 70, (1, 1), (1, 1), (0, 0), (1, 1)),
    "long sums of windows": ((1, 800, 4, 5), 6, (3, 3), (2, 2), (1, 1), (1, 1)),
    "the whole map": ((5, 30, 7, 7), 40, (7, 7), (7, 7), (0, 0), (1, 1)),
    "no image": ((0, 16, 5, 5), 16, (3, 3), (1, 1), (1, 1), (1, 1)),
    "two groups": ((2, 20, 13, 18), 34, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "groups of more filters than a panel": ((1, 9, 8, 11), 210, (1, 1), (1, 1), (0, 0), (1, 1), 3),
    "four groups, every second": ((1, 12, 9, 8), 20, (3, 2), (2, 2), (1, 0), (1, 1), 4),
    "groups, dilated, every second": ((1, 8, 15, 14), 6, (3, 2), (2, 1), (1, 3), (2, 3), 2),
    "groups of long sums": ((2, 1400, 3, 2), 12, (1, 1), (1, 1), (0, 0), (1, 1), 2),
    "two filters per channel": ((1, 5, 7, 6), 10, (3, 3), (1, 1), (1, 1), (1, 1), 5),
    "depthwise": ((2, 37, 13, 18), 37, (3, 3), (1, 1), (1, 1), (1, 1), 37),
    "depthwise of one vector": ((1, 16, 5, 30), 16, (3, 3), (1, 1), (1, 1), (1, 1), 16),
    "depthwise of many channels": ((1, 200, 9, 8), 200, (5, 5), (1, 1), (2, 2), (1, 1), 200),
    "depthwise, every second": ((2, 40, 12, 15), 40, (5, 5), (2, 2), (2, 2), (1, 1), 40),
    "depthwise, strides 3 and 2": ((1, 24, 13, 12), 24, (2, 3), (3, 2), (0, 1), (1, 1), 24),
    "depthwise, stride above the kernel": ((1, 3, 13, 12), 3, (2, 2), (3, 4), (1, 0), (1, 1), 3),
    "depthwise, dilated": ((1, 48, 15, 14), 48, (3, 3), (1, 1), (4, 4), (4, 4), 48),
    "depthwise, dilated, every second": ((1, 8, 15, 14), 8, (3, 2), (2, 1), (1, 3), (2, 3), 8),
    "depthwise, dilated, every fourth": ((1, 8, 29, 30), 8, (5, 4), (4, 4), (3, 2), (6, 3), 8),
    "depthwise, padded by more than the kernel": ((1, 6, 4, 3), 6, (3, 3), (1, 1), (4, 5), (1, 1), 6),
    "depthwise, window above the map": ((1, 6, 2, 3), 6, (5, 5), (1, 1), (3, 2), (1, 1), 6),
    "depthwise, no image": ((0, 6, 5, 5), 6, (3, 3), (1, 1), (1, 1), (1, 1), 6),
}


@pytest.fixture(params=backend.CONV_ALGORITHMS)
def algorithm(request):
    with rcnn.set_conv_algorithm(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def kernels():
    with rcnn.use_backend("cython"):
        yield


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def assert_close(got, expected):
    """Assert that two arrays differ only by float32's rounding of sums, relative to the largest value."""
    assert got.dtype == np.float32 and got.shape == expected.shape
    if expected.size:
        assert np.abs(got - expected).max() <= 4e-6 * np.abs(expected).max()


def run(geometry, dtype):
    """Return (result, gradients of maps and filters) of a convolution of seeded numbers, in `dtype`."""
    shape, outs, kernel, stride, padding, dilation, *groups = geometry
    groups = groups[0] if groups else 1
    x = Tensor(channels_last(draw(*shape).astype(dtype)), requires_grad=True)
    weight = Tensor(draw(outs, shape[1] // groups, *kernel).astype(dtype), requires_grad=True)
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    out.backward(draw(*out.shape))
    return out.data, x.grad, weight.grad


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_the_kernels_agree_with_the_reference(algorithm, geometry):
    for got, expected in zip(run(geometry, np.float32), run(geometry, np.float64), strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, algorithm, geometry):
    monkeypatch.setattr(backend, "WORTH_THREADS", 1)
    with rcnn.set_num_threads(1):
        one = run(geometry, np.float32)
    with rcnn.set_num_threads(3):
        three = run(geometry, np.float32)
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)


NAMES = ["1x1", "3x3", "3x3 of many tiles", "7x7 of an image", "long sums", "two groups", "depthwise"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parts", ["scale", "bias", "residual", "relu", "scale residual relu", "bias residual relu"])
def test_fused_steps_are_computed_with_the_convolution(algorithm, name, parts):
    shape, outs, kernel, *geometry = GEOMETRIES[name]
    channels = shape[1] // (geometry[3] if len(geometry) > 3 else 1)
    results = []
    for dtype in (np.float32, np.float64):
        x, weight, bias = (
            Tensor(draw(*s).astype(dtype), requires_grad=True) for s in (shape, (outs, channels, *kernel), (outs,))
        )
        plain = F.conv2d(x, weight, None, *geometry)
        scale, rest = draw(outs + 1)[:outs].astype(dtype), Tensor(draw(*plain.shape).astype(dtype), requires_grad=True)
        shift, has_bias = np.cos(scale), "bias" in parts
        out = convolve_fused(parts, x, weight, bias if has_bias else None, geometry, scale, shift, rest)
        out.backward(draw(*out.shape))
        by_hand = plain.data + bias.data[:, None, None] if has_bias else plain.data
        if "scale" in parts:
            by_hand = by_hand * scale[:, None, None] + shift[:, None, None]
        if "residual" in parts:
            by_hand = by_hand + rest.data
        if "relu" in parts:
            by_hand = np.maximum(by_hand, 0)
        np.testing.assert_allclose(out.data, by_hand, rtol=1e-4, atol=2e-4 if dtype == np.float32 else 1e-10)
        results.append((out.data, x.grad, weight.grad, bias.grad, rest.grad))
    for got, expected in zip(*results, strict=True):
        assert (got is None) == (expected is None)
        if got is not None and "relu" not in parts:  # rounding near 0 may switch an element on or off
            assert_close(got, expected)


@fused
def convolve_fused(parts, x, weight, bias, geometry, scale, shift, rest):
    """Return a convolution fused with some of the steps that can follow it."""
    out = F.conv2d(x, weight, bias, *geometry)
    if "scale" in parts:
        out = F.scale_and_shift(out, scale, shift)
    if "residual" in parts:
        out = out + rest
    return F.relu(out) if "relu" in parts else out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", [F.relu, F.relu6, F.hardswish])
def test_activations_are_computed_with_the_convolution(algorithm, name, activation):
    shape, outs, kernel, *geometry = GEOMETRIES[name]
    channels = shape[1] // (geometry[3] if len(geometry) > 3 else 1)
    x, weight = (Tensor(draw(*s).astype("f")) for s in (shape, (outs, channels, *kernel)))
    scale, shift = draw(outs + 1)[:outs].astype("f"), draw(outs + 1)[1:].astype("f")

    def steps():
        out = F.scale_and_shift(F.conv2d(x, weight, None, *geometry), scale, shift)
        return activation(out + out.detach())

    assert_close(fused(steps)().data, steps().data)


def test_the_residual_may_lie_in_memory_in_any_order():
    x, weight = Tensor(draw(1, 16, 6, 5).astype("f")), Tensor(draw(16, 16, 3, 3).astype("f"))
    rest = draw(1, 16, 6, 5).astype("f")
    with no_grad():
        first, second = (
            convolve_fused("residual", x, weight, None, (1, 1, 1), None, None, Tensor(given))
            for given in (rest, channels_last(rest))
        )
    np.testing.assert_array_equal(first.data, second.data)


def test_relu_keeps_nan():
    x, weight = Tensor(np.full((1, 1, 2, 2), np.nan, np.float32)), Tensor(np.ones((1, 1, 1, 1), np.float32))
    assert np.isnan(convolve_fused("relu", x, weight, None, (1, 0, 1), None, None, None).data).all()


def test_winograd_is_as_accurate_as_documented():
    """Tiles of side 2 are about as accurate as the direct algorithm; tiles of side 4 are less accurate."""
    x, weight = draw(1, 256, 40, 40), draw(64, 256, 3, 3)
    expected = F.conv2d(Tensor(x), Tensor(weight), padding=1).data
    errors = {}
    for name in ("direct", "winograd2", "winograd4"):
        with rcnn.set_conv_algorithm(name):
            got = F.conv2d(Tensor(x.astype("f")), Tensor(weight.astype("f")), padding=1).data
        errors[name] = np.abs(got - expected).max() / np.abs(expected).max()
    assert errors["winograd4"] < 4e-6
    assert errors["winograd2"] < 1e-6
    assert errors["direct"] < 3e-6


def test_auto_takes_winograd_if_there_are_enough_channels():
    sides = [
        conv._winograd_side((outs, channels, 3, 3), (1, 1), (1, 1), (1, 1), 1)
        for outs, channels in ((64, 64), (16, 16), (15, 64), (64, 3))
    ]
    assert sides == [4, 4, 0, 0]
    assert conv._winograd_side((64, 64, 3, 3), (2, 2), (1, 1), (1, 1), 1) == 0
    assert conv._winograd_side((64, 64, 3, 1), (1, 1), (1, 1), (1, 1), 1) == 0
    assert conv._winograd_side((64, 64, 3, 3), (1, 1), (1, 1), (2, 2), 1) == 0


def test_auto_takes_the_direct_algorithm_for_few_pixels():
    """Below 256 pixels in all images, the transforms of the filters take longer than they save."""
    weight = draw(16, 16, 3, 3).astype("f")
    for n, side, few in ((1, 15, True), (1, 16, False), (2, 15, False)):
        x, answers = Tensor(channels_last(draw(n, 16, side, side).astype("f"))), {}
        for name in ("auto", "direct", "winograd4"):
            with rcnn.set_conv_algorithm(name):
                answers[name] = F.conv2d(x, Tensor(weight), padding=1).data
        np.testing.assert_array_equal(answers["auto"], answers["direct" if few else "winograd4"])


@pytest.mark.parametrize("n", [0, 1, 7, 70])
@pytest.mark.parametrize("activation", [lambda x: x, F.relu, F.hardswish])
def test_few_maps_are_packed_instead_of_large_filters(monkeypatch, n, activation):
    monkeypatch.setattr(conv, "LARGE", 1000)
    monkeypatch.setattr(backend, "WORTH_THREADS", 1)
    maps, weight, bias = draw(n, 12, 5, 5), draw(140, 12 * 5 * 5), draw(140)
    multiply, packed = conv._multiply_filters, []
    monkeypatch.setattr(conv, "_multiply_filters", lambda *args: packed.append(n) or multiply(*args))
    for added in (None, bias):
        results = []
        for dtype, threads in ((np.float64, 1), (np.float32, 1), (np.float32, 3)):
            x, w = Tensor(channels_last(maps.astype(dtype))), Tensor(weight.astype(dtype))
            shift = None if added is None else Tensor(added.astype(dtype))
            with rcnn.set_num_threads(threads):
                results.append(fused(lambda x, w, shift: activation(F.linear(x, w, shift)))(x, w, shift).data)
        assert_close(results[1], results[0])
        if n > 1:  # BLAS multiplies a single vector
            np.testing.assert_array_equal(results[1], results[2])
    assert len(packed) == (4 if n else 0)


@pytest.mark.parametrize("name", NAMES)
def test_shared_filters_are_rearranged_once(algorithm, name):
    shape, outs, kernel, *geometry = GEOMETRIES[name]
    channels = shape[1] // (geometry[3] if len(geometry) > 3 else 1)
    first, second = Tensor(draw(*shape).astype("f")), Tensor(draw(*shape)[::-1].astype("f"))
    weights = [Tensor(draw(outs, channels, *kernel).astype("f")) for _ in range(2)]
    weights[1].data *= -1
    alone = [F.conv2d(x, weight, None, *geometry).data for x in (first, second) for weight in weights]
    with memory.shared_filters():
        shared = [F.conv2d(x, weight, None, *geometry).data for x in (first, second) for weight in weights]
        weights[0].data *= 0  # now, its rearranged filters are out of date, which shows that they are used again
        again = F.conv2d(first, weights[0], None, *geometry).data
    for got, expected in zip(shared, alone, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert again.any() or name == "depthwise"  # whose filters are not kept
    assert not F.conv2d(first, weights[0], None, *geometry).data.any()


def test_a_broadcasting_sum_is_not_fused():
    x, weight = Tensor(draw(1, 2, 4, 4).astype("f")), Tensor(draw(3, 2, 3, 3).astype("f"))
    out = convolve_fused("residual", x, weight, None, (1, 0, 1), None, None, Tensor(np.full((1, 3, 1, 1), 2, "f")))
    np.testing.assert_array_equal(out.data, F.conv2d(x, weight).data + 2)


def test_fused_steps_may_have_another_precision():
    """The result has the precision of the maps, even if the scale and the residual have another one."""
    x, weight = Tensor(draw(1, 8, 5, 4).astype("f"), requires_grad=True), Tensor(draw(8, 8, 3, 3).astype("f"))
    scale, rest = draw(8), draw(1, 8, 5, 4)
    results = []
    for dtype in (np.float32, np.float64):
        given = scale.astype(dtype), np.zeros(8, dtype), Tensor(rest.astype(dtype))
        out = convolve_fused("scale residual", x, weight, None, (1, 1, 1), *given)
        out.backward(np.ones(out.shape, "f"))
        results.append((out.data, x.grad))
        x.grad = None
    for got, expected in zip(*results, strict=True):
        assert_close(got, expected)


def test_empty_sums_are_0():
    x, weight = Tensor(np.zeros((1, 0, 4, 4), "f"), requires_grad=True), Tensor(np.zeros((2, 0, 1, 1), "f"))
    weight.requires_grad = True
    bias = Tensor(np.array([1, 2], "f"))
    out = F.conv2d(x, weight, bias)
    out.backward(np.ones(out.shape, "f"))
    np.testing.assert_array_equal(out.data[0, :, 0, 0], [1, 2])
    assert (x.grad.shape, weight.grad.shape) == (x.shape, weight.shape)
    assert F.linear(Tensor(np.zeros((2, 0), "f")), Tensor(np.zeros((3, 0), "f"))).data.tolist() == [[0] * 3] * 2


def test_windows_of_padding_only_give_no_gradient():
    x, weight = Tensor(np.zeros((1, 2, 0, 5), "f"), requires_grad=True), Tensor(np.ones((3, 2, 3, 3), "f"))
    out = F.conv2d(x, weight, padding=(2, 0))
    out.backward(np.ones(out.shape, "f"))
    assert out.shape == (1, 3, 2, 3) and not out.data.any() and x.grad.shape == x.shape


@pytest.mark.parametrize("threads", [15, 16, 24])
def test_winograds_scratch_is_enough_for_any_number_of_threads(threads):
    """15 x 15 tiles are 15 blocks, so one of 16 threads has no work and no part of the scratch memory."""
    maps, weight = draw(1, 60, 60, 16).astype("f"), draw(16, 16, 3, 3).astype("f")
    kernels, answers = load("_winograd"), []
    for number in (1, threads):
        size = kernels.scratch_size(225, 16, 16, 4, number)
        transformed = np.empty(kernels.transformed_size(16, 16, 4), np.float32)
        memory = np.full(size + 1_000_000, 7, np.float32)
        out = np.empty((1, 60, 60, 16), np.float32)
        steps = (None, None, None, 0)
        kernels.convolve(maps, weight, out, np.array([1, 1]), *steps, 4, transformed, False, memory[:size], number)
        assert (memory[size:] == 7).all()
        answers.append(out)
    np.testing.assert_array_equal(*answers)


def test_an_unknown_algorithm_is_rejected():
    with pytest.raises(ValueError, match="name must be one of auto, direct, winograd2, winograd4, got 'fft'"):
        rcnn.set_conv_algorithm("fft")


# ---------------------------------------------------------------- memory that is reused


def test_unreferenced_memory_is_reused():
    for _ in range(3):
        MEMORY.pass_ends()  # memory of other tests
    shape = (300, 1000)
    first = memory.empty(shape)
    view = first[10:20]
    address = first.__array_interface__["data"][0]
    del first
    second = memory.empty(shape)
    assert second.__array_interface__["data"][0] != address  # a view still references it
    del view
    assert memory.empty(shape).__array_interface__["data"][0] == address


def test_a_pass_returns_unused_memory():
    for _ in range(3):
        MEMORY.pass_ends()
    assert MEMORY.kept_bytes() == 0
    a, b = memory.empty((1000, 1000)), memory.empty((1000, 1000))
    del a, b
    MEMORY.pass_ends()
    held = MEMORY.kept_bytes()
    assert held >= 8_000_000
    c = memory.empty((1000, 1000))
    del c
    MEMORY.pass_ends()
    assert MEMORY.kept_bytes() == held / 2
    MEMORY.pass_ends()
    assert MEMORY.kept_bytes() == 0


def test_at_most_twice_the_memory_in_use_is_kept():
    for _ in range(3):
        MEMORY.pass_ends()
    base = memory.empty((100, 1000))
    for side in range(200, 1000, 10):  # each larger than all kept blocks
        array = memory.empty((side, 1000))
        del array
    most = base.nbytes + 4 * 990 * 1000
    assert 4 * 990 * 1000 <= MEMORY.kept_bytes() <= 2 * (most + 2**22)
    del base


def test_any_number_of_blocks_is_returned():
    for _ in range(3):
        MEMORY.pass_ends()
    arrays = [memory.empty((20_000,)) for _ in range(300)]
    del arrays
    assert 0 < MEMORY.kept_bytes() <= 128 * 80_064
    for _ in range(2):
        MEMORY.pass_ends()
    assert MEMORY.kept_bytes() == 0


def test_a_buffer_is_aligned_and_writable_and_has_its_shape():
    for shape in ((5,), (7, 9, 11), (3, 1000, 1001)):
        array = memory.empty(shape)
        assert array.shape == shape and array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
    assert array.__array_interface__["data"][0] % 64 == 0
    assert memory.empty_maps((2, 64, 30, 40)).transpose(0, 2, 3, 1).flags.c_contiguous
    assert memory.empty((0, 4)).shape == (0, 4)
