"""Saving and loading: bit-identical round trips, and clear errors for invalid files."""

import errno
import json
import os
import stat
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

import rcnn
from rcnn import nn
from rcnn.zoo import checkpoint
from rcnn.zoo.checkpoint import CheckpointError
from rcnn.zoo.detectors import faster_rcnn_small

CLASSES = ("background", "circle", "square")


@pytest.fixture(params=["with safetensors", "without safetensors"])
def package(request, monkeypatch):
    """Run the test with the safetensors package, and as on a platform that does not have it."""
    if request.param == "without safetensors":
        monkeypatch.setattr(checkpoint, "safetensors", None)


class SimpleBackbone(nn.Module):
    """A user's backbone with parameters and buffers of several dtypes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8, padding=1)
        self.scale = nn.Parameter(np.float32(1.5))  # a single number
        self.register_buffer("steps", np.array(7, np.int64))
        self.register_buffer("offset", np.array([0.1, 0.2, 0.3, 0.4]))  # float64 in a float32 model

    def forward(self, x):
        return self.conv(x) * self.scale + self.offset.astype(x.dtype)[:, None, None]


def make(backbone=None, **fields):
    rcnn.seed(0)
    if backbone is None:
        return faster_rcnn_small(CLASSES, hidden_dim=8, **fields)
    return rcnn.FasterRCNN(rcnn.FasterRCNNConfig(backbone, 4, 3, hidden_dim=8, pool_size=(2, 2), **fields))


def shake(model):
    """Change every number of the state, buffers included."""
    rng = np.random.default_rng(1)
    for array in model.state_dict().values():
        array[...] += rng.uniform(-0.01, 0.01, array.shape) if array.dtype.kind == "f" else 35
    return model


def assert_same_bits(model, other):
    state, others = model.state_dict(), other.state_dict()
    assert list(state) == list(others)
    for name, array in state.items():
        assert (array.dtype, array.shape) == (others[name].dtype, others[name].shape), name
        assert array.tobytes() == others[name].tobytes(), name


def image():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


# ---------------------------------------------------------------------- round trips


def test_model_with_a_backbone_of_the_library_is_rebuilt(tmp_path):
    model = shake(make(box_score_thresh=0.0, anchor_sizes=(16, 32)))
    rcnn.save(tmp_path / "model.safetensors", model)
    again = rcnn.load(tmp_path / "model.safetensors")
    assert_same_bits(model, again)
    assert again.config.settings() == model.config.settings()
    assert again.config.class_names == CLASSES
    assert not any(module.training for module in again.modules())
    found, expected = again.predict([image()])[0], model.predict([image()])[0]
    assert len(found["scores"]) > 0
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key])


def test_float64_stays_float64(tmp_path):
    model = shake(make().astype(np.float64))
    rcnn.save(str(tmp_path / "model.safetensors"), model)
    again = rcnn.load(str(tmp_path / "model.safetensors"))
    assert again.dtype == np.float64
    assert_same_bits(model, again)


def test_strided_parameters_keep_their_values(tmp_path):
    model = shake(make())
    for parameter in model.parameters():
        parameter.data = np.asfortranarray(parameter.data)
    weight = model.roi_heads.box_head.fc6.weight
    weight.data = np.repeat(weight.data, 2, axis=1)[:, ::2]
    assert not weight.data.flags.c_contiguous
    rcnn.save(tmp_path / "model.safetensors", model)
    assert_same_bits(model, rcnn.load(tmp_path / "model.safetensors"))


def test_users_backbone_must_be_passed_to_load(tmp_path):
    path = tmp_path / "model.safetensors"
    model = shake(make(SimpleBackbone()))
    rcnn.save(path, model)
    with pytest.raises(CheckpointError) as caught:
        rcnn.load(path)
    assert f"rcnn.load({str(path)!r}, backbone=SimpleBackbone())" in str(caught.value)
    backbone = SimpleBackbone()
    again = rcnn.load(path, backbone=backbone)
    assert again.backbone is backbone
    assert again.dtype == np.float32
    assert_same_bits(model, again)


@pytest.mark.usefixtures("package")
def test_tensors_keep_shape_and_dtype(tmp_path):
    tensors = {
        "one": np.array(5, np.int64),
        "none": np.zeros((0, 3), np.float32),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "flags": np.array([True, False]),
    }
    checkpoint.write_tensors(tmp_path / "some.safetensors", tensors, {"note": ["é", 1]})
    read, metadata = checkpoint.read_tensors(tmp_path / "some.safetensors")
    assert metadata == {"note": ["é", 1]}
    assert set(read) == set(tensors)
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array, strict=True)


@pytest.mark.usefixtures("package")
def test_equal_models_make_equal_files(tmp_path):
    for name in ("one", "other"):
        rcnn.save(tmp_path / name, make())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


# ---------------------------------------------------------------------- invalid files


@pytest.mark.usefixtures("package")
def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    rcnn.save(path, make())
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    damaged = [
        b"",
        b"not a checkpoint",
        whole[:4],
        whole[:100],
        whole[:header],
        whole[: header + 10],
        whole[:-1],
        b"\xff" * 8 + whole[8:],
        whole[:8] + b"}" + whole[9:],
        whole[::-1],
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{path.name} is not a valid safetensors file"):
            rcnn.load(path)


def save_changed(path, change):
    """Save a model after `change(tensors, metadata)` has changed its tensors and metadata."""
    model = make()
    tensors, metadata = model.state_dict(), checkpoint.describe(model)
    change(tensors, metadata)
    checkpoint.write_tensors(path, tensors, metadata)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, m: m.clear(), "was not written by rcnn.save: its format must be 'rcnn-1', got None"),
        (lambda t, m: m.update(format="rcnn-9"), "its format must be 'rcnn-1', got 'rcnn-9'"),
        (lambda t, m: m.pop("settings"), "does not contain a valid description of its model: KeyError"),
        (lambda t, m: m.update(settings=[1]), "settings must be a table"),
        (lambda t, m: m.update(backbone="SmallBackbone"), "must be a dict of name and arguments, got 'SmallBackbone'"),
        (
            lambda t, m: m["backbone"].update(name="Other"),
            "must be one of SmallBackbone, .*, got 'Other'",
        ),
        (
            lambda t, m: m["settings"].update(hidden_dim=0),
            "hidden_dim must be an integer of at least 1 and .*, got 0",
        ),
        (lambda t, m: m["settings"].update(novelty=1), "settings: unknown key 'novelty'"),
        (lambda t, m: t.pop("rpn.head.conv.0.0.bias"), "missing: rpn.head.conv.0.0.bias"),
        (lambda t, m: t.update(extra=np.zeros(1)), "unexpected: extra"),
        (
            lambda t, m: m["settings"].update(hidden_dim=9),
            r"wrong shape: its settings require \(9, 1600\) for roi_heads.box_head.fc6.weight, got \(8, 1600\)",
        ),
    ],
)
def test_error_of_a_mismatched_file_names_the_mismatch(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    save_changed(path, change)
    with pytest.raises(CheckpointError, match=f"{path.name}.*{message}"):
        rcnn.load(path)


def test_backbone_that_is_not_like_the_saved_one_is_refused(tmp_path):
    rcnn.save(tmp_path / "model.safetensors", make(SimpleBackbone()))
    unlike = nn.Conv2d(3, 4, 3, stride=8, padding=1)
    for other, message in (
        (unlike, "missing: backbone.weight, .*unexpected: backbone.conv.bias"),
        ("SimpleBackbone", "backbone must be an rcnn.nn.Module"),
    ):
        with pytest.raises(CheckpointError, match=message):
            rcnn.load(tmp_path / "model.safetensors", backbone=other)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "metadata, message",
    [
        (None, "its format must be .*, got None"),
        ({"format": "pt"}, "its format must be .*, got None"),
        ({"rcnn": "[1]"}, "its format must be .*, got None"),
        ({"rcnn": "{"}, "not a valid safetensors file"),
    ],
)
def test_file_of_another_program_is_refused(tmp_path, metadata, message):
    safetensors.numpy.save_file({"weight": np.zeros(2)}, tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(CheckpointError, match=f"foreign.safetensors.* {message}"):
        rcnn.load(tmp_path / "foreign.safetensors")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("dtype, size", [("BF16", 4), ("F8_E4M3", 2)])
def test_dtype_that_numpy_does_not_have_is_refused(tmp_path, dtype, size):
    header = json.dumps({"weight": {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(CheckpointError, match="foreign.safetensors contains a dtype that NumPy does not support"):
        rcnn.load(path)


@pytest.mark.parametrize(
    "content, remedy", [(b"\xff\0\0\0\0\0\0\0{}", "download it again"), (None, r"tensor.float\(\)")]
)
def test_what_to_do_about_a_safetensors_file(tmp_path, content, remedy):
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content or struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointError, match=f"{remedy}"):
        rcnn.load_detector(path)


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.safetensors: file not found"):
        rcnn.load(tmp_path / "absent.safetensors")
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder, but a file is required"):
        rcnn.load(tmp_path)


# ---------------------------------------------------------------------- atomic writing


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, step, error):
    path = tmp_path / "model.safetensors"
    rcnn.save(path, make())
    before = path.read_bytes()

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)) as raised:
        rcnn.save(path, shake(make()))
    if isinstance(error, OSError):
        assert str(path) in str(raised.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "model.safetensors"
    rcnn.save(path, make())
    model = shake(make())
    rcnn.save(path, model)
    assert_same_bits(model, rcnn.load(path))
    assert os.listdir(tmp_path) == [path.name]


def test_unwritable_file_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="absent"):
        rcnn.save(tmp_path / "absent" / "model.safetensors", make())
    with pytest.raises(OSError):
        rcnn.save(tmp_path, make())  # a folder
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_file_has_the_permissions_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        rcnn.save(tmp_path / "model.safetensors", make())
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == mode


# ---------------------------------------------------------------------- numbers in the metadata


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda m: m["backbone"]["arguments"].update(depth=10**7),
            r"depth must be an integer of at least 0 and at most 1000, got 10000000",
        ),
        (lambda m: m["backbone"]["arguments"].update(depth=999), "require a tensor backbone.blocks.2.first.0.weight"),
        (lambda m: m["backbone"]["arguments"].update(depth=-1), "depth must be"),
        (lambda m: m["backbone"]["arguments"].update(out_channels=0), "out_channels must be"),
        (lambda m: m["backbone"]["arguments"].update(out_channels=True), "out_channels must be"),
        (lambda m: m["backbone"]["arguments"].update(out_channels=10**9), "out_channels must be"),
        (lambda m: m["backbone"]["arguments"].update(out_channels=50_000), "wrong shape: .*backbone.blocks.0.first"),
        (lambda m: m["settings"].update(hidden_dim=30_000), "wrong shape: .*fc6.weight"),
        (lambda m: m["settings"].update(pool_size=[60, 60]), "wrong shape: .*fc6.weight"),
        (lambda m: m["settings"].update(feat_channels=30_000), "wrong shape: .*rpn.head.conv.0.0.weight"),
        (lambda m: m["settings"].update(num_classes=9_000, class_names=None), "wrong shape: .*cls_score.weight"),
        (lambda m: m["settings"].update(anchor_sizes=[16] * 4_000), "require 8000 anchors per cell, but .* has 6"),
        (lambda m: m["settings"].update({"x" * 50_000: 1}), "settings: unknown key 'xx"),
        (lambda m: m.update(settings=None), "settings must be a table"),
        (lambda m: m.update(format=[[[[[[[[]]]]]]]]), "its format must be 'rcnn-1'"),
        (
            lambda m: m.update(
                backbone={
                    "name": "ResNetFPN",
                    "arguments": {"layers": 18, "out_channels": 60_000, "eps": 0, "batch_norm": False},
                }
            ),
            "require a tensor backbone.fpn.layer_blocks.0.0.weight",
        ),
        (lambda m: m["settings"].update(rpn_num_convs=16), "require a tensor rpn.head.conv.1.0.weight"),
        (lambda m: m["settings"].update(box_num_convs=16), "require a tensor roi_heads.box_head.0.0.weight"),
        (
            lambda m: m.update(
                backbone={
                    "name": "ResNetFPN",
                    "arguments": {"layers": 18, "out_channels": 8, "eps": -1, "batch_norm": False},
                }
            ),
            r"eps must be a number in \[0, 1\], got -1",
        ),
    ],
)
def test_sizes_are_compared_with_the_tensors_before_memory_is_allocated(tmp_path, change, message):
    path = tmp_path / "bomb.safetensors"
    save_changed(path, lambda tensors, metadata: change(metadata))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"bomb.safetensors.*{message}") as error:
            rcnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "{"])
def test_metadata_that_is_not_json_or_nested_deeply(tmp_path, text):
    header = json.dumps({"__metadata__": {checkpoint.KEY: text}}).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="odd.safetensors is not a valid safetensors file"):
        rcnn.load(path)


@pytest.mark.parametrize("read", [rcnn.load, rcnn.load_detector, checkpoint.read_weights])
def test_special_files_are_not_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="but a regular file is required"):
            read(path)


@pytest.mark.parametrize("problem", ["missing", "unexpected", "wrong shape", "other names", "no real numbers"])
def test_message_about_a_state_that_does_not_fit_is_short(tmp_path, problem):
    module = type("Long" * 500, (nn.Module,), {})()
    names = [f"{'layer' * 400}{i}" for i in range(40)]
    for name in names:
        module.register_buffer(name, np.zeros(1))
    tensors = {
        "missing": {names[0]: np.zeros(1)},
        "unexpected": {f"{prefix}{name}": np.zeros(1) for name in names for prefix in ("", "x" * 2000)},
        "wrong shape": {name: np.zeros((1,) * 30) for name in names},
        "other names": {"other" * 400: np.zeros(1)},
        "no real numbers": {name: np.zeros(1, np.complex64) for name in names},
    }[problem]
    before = module.state_dict()[names[0]].copy()
    weights = checkpoint.Weights(tmp_path / "x.pth", tensors, {})
    with pytest.raises(CheckpointError, match="^.*x.pth") as caught:
        checkpoint.put_into(module, weights)
    message = str(caught.value).replace(str(tmp_path), "")
    assert len(message) < 400 and "\n" not in message
    assert np.array_equal(module.state_dict()[names[0]], before)
