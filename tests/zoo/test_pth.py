""".pth files: files of PyTorch are read bit for bit, and any other file is harmless."""

import pickle
import re
import stat
import struct
import subprocess
import sys
import tracemalloc
import types
import zipfile

import numpy as np
import pthfiles
import pytest
from pthfiles import FOLDER, archive, dict_of, name, number, numbers, storage, stream, tensor, text, tuple_of

import rcnn
from rcnn.zoo import checkpoint, pth
from rcnn.zoo.pth.bounded import CheckpointError

MARGIN = 100_000_000  # bytes of memory that reading may take beyond the file's size


def in_words(value):
    """Return the id of a parameter: a message as it is, "file" for the bytes of a file."""
    return value if isinstance(value, str) else "file"


@pytest.fixture
def read(tmp_path):
    """`read(content)` reads a file of these bytes."""

    def read_content(content):
        path = tmp_path / "some.pth"
        path.write_bytes(content)
        return pth.read(path)

    return read_content


@pytest.fixture
def refuse(read):
    """`refuse(content, match)` checks that a file of these bytes is refused with a message that names the file."""

    def refuse_content(content, match):
        with pytest.raises(CheckpointError, match=match) as caught:
            read(content)
        assert "some.pth is not a readable .pth file: " in str(caught.value)

    return refuse_content


@pytest.fixture(params=["zip", "stream"])
def wrapped(request):
    """`wrapped(pickle)` returns a file of one of the formats with an assembled pickle."""
    return archive if request.param == "zip" else stream


def assert_same_bits(arrays, expected):
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        assert (arrays[key].dtype, arrays[key].shape) == (array.dtype, array.shape), key
        assert arrays[key].tobytes() == array.tobytes(), key


# ---------------------------------------------------------------------- files of PyTorch


@pytest.mark.parametrize("file", ["kinds", "kinds_legacy", "kinds_protocol4"])
def test_every_kind_of_tensor_is_read_bit_for_bit(file):
    arrays = pth.read(FOLDER / f"{file}.pth")
    assert_same_bits(arrays, pthfiles.kinds())
    assert arrays["tied"] is arrays["whole"]
    assert np.shares_memory(arrays["turned"], arrays["whole"])
    assert arrays["turned"].strides == (4, 24)
    assert all(array.flags.writeable and array.dtype.isnative for array in arrays.values())


def test_file_with_torchvisions_old_names():
    assert_same_bits(pth.read(str(FOLDER / "old_names.pth")), pthfiles.old_names())


def test_state_dict_is_found_in_the_file_of_a_training_script():
    arrays = pth.read(FOLDER / "training.pth")
    assert list(arrays)[:2] == ["0.weight", "0.bias"]
    assert [array.ravel()[0] for array in arrays.values()] == list(range(7))
    np.testing.assert_array_equal(arrays["0.weight"], np.arange(6, dtype=np.float32).reshape(3, 2), strict=True)
    assert arrays["1.num_batches_tracked"].shape == ()


WEIGHTS = dict_of({"weight": tensor()})
READ = {"weight": pthfiles.SIX.reshape(2, 3)}


@pytest.mark.parametrize(
    "content",
    [
        dict_of({"model": WEIGHTS, "epoch": b"N"}),
        dict_of({"epoch": b"K\5", "model_state_dict": WEIGHTS, "loss": b"G" + struct.pack(">d", 0.31)}),
        dict_of({"ema": dict_of({"module": WEIGHTS, "updates": b"K\5"}), "model": b"N"}),
        dict_of({"epoch": b"K\5", "weight": tensor()}),
        dict_of({"state": dict_of({"network": dict_of({"params": WEIGHTS})})}),
        dict_of({"optimizer": dict_of({"a": tensor(), "b": tensor()}), "any name": WEIGHTS}),
        b"](" + WEIGHTS + dict_of({"epoch": b"N"}) + b"e",
        name("collections", "OrderedDict") + b"](](" + text("weight") + tensor() + b"ee\x85R",  # Python 2
        name("collections", "defaultdict") + b")R" + text("model") + WEIGHTS + b"s",
        dict_of({"model": dict_of({"_extra_state": b"N", "weight": tensor()})}),
        b"}(U\5model}(U\6weight" + tensor() + b"uu",  # texts of Python 2
    ],
)
def test_state_dict_is_found_under_any_key(read, wrapped, content):
    assert_same_bits(read(wrapped(content)), READ)


@pytest.mark.parametrize(
    "other",
    [
        name("numpy.core.multiarray", "scalar") + tuple_of(name("numpy", "dtype"), b"C\x08" + bytes(8)) + b"R",
        name("datetime", "datetime") + tuple_of(b"U\x0a" + bytes(10)) + b"R",
        name("collections", "Counter") + tuple_of(b"}K\x10K\1s") + b"R",
        name("argparse", "Namespace") + b")\x81" + dict_of({"lr": b"N"}) + b"b",
        name("pathlib", "PosixPath") + tuple_of(text("/"), text("data")) + b"R",
        name("omegaconf", "DictConfig") + b")}\x92" + dict_of({"_content": b"}"}) + b"b",
        name("numpy.core.multiarray", "_reconstruct")
        + b")R"
        + tuple_of(b"K\1", b"B" + struct.pack("<I", 9) + bytes(9))
        + b"b",
        name("collections", "deque") + b")R(K\1K\2e" + b"K\3a",
        name("torch.optim.lr_scheduler", "MultiStepLR") + b")\x81" + dict_of({"gamma": b"N"}) + b"b",
        name("torch", "float32"),
        name("torch", "Size") + tuple_of(numbers(2, 3)) + b"R",
        tensor(of=storage().replace(name("torch", "FloatStorage"), name("torch", "ComplexFloatStorage"))),
        b"\x8f(K\1K\2\x90",  # a set
        b"(K\1\x91",  # a frozenset
        b"\x96" + struct.pack("<Q", 5) + bytes(5),
        b"X" + struct.pack("<I", 2_000_000) + b"\xff" * 2_000_000,
        b"}(NK\1" + b"G" + bytes(8) + b"K\2" + numbers(1) + b"K\3" + number(2**47) + b"K\4u",  # keys of many kinds
    ],
)
def test_everything_beside_the_weights_is_skipped(read, other):
    assert_same_bits(read(archive(dict_of({"other": other, "model": WEIGHTS, "more": other}))), READ)


def test_largest_dict_of_tensors_is_the_state_dict(read):
    weights = dict_of({"a": tensor(), "b": tensor(), "c": tensor()})
    assert list(read(archive(dict_of({"loss": tensor(), "net": weights, "metric": WEIGHTS})))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "keys, chosen", [(("model", "model_ema"), "model"), (("ema", "net"), "net"), (("a", "b"), "a")]
)
def test_of_several_state_dicts_one_is_read_with_a_warning(read, keys, chosen):
    content = dict_of({key: dict_of({key: tensor()}) for key in keys})
    with pytest.warns(UserWarning, match=f"several state dicts; '{chosen}' is read, not "):
        assert list(read(archive(content))) == [chosen]


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "expected"),
    [
        (numbers(2, 3), numbers(3, 1), 0, [[0, 1, 2], [3, 4, 5]]),
        (numbers(2, 2), numbers(1, 3), 1, [[1, 4], [2, 5]]),
        (numbers(3), numbers(0), 5, [5, 5, 5]),
        (numbers(4, 3), numbers(1, 1), 0, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]),
        (b")", b")", 4, 4.0),
        (numbers(1, 2), numbers(2**62, 5), 0, [[0, 5]]),
        (numbers(0, 7), numbers(2**62, 1), 2**40, np.zeros((0, 7))),
        (numbers(0, 2**60), numbers(1, 1), 0, np.zeros((0, 2**60), np.float32)),
    ],
)
def test_views_by_hand(read, wrapped, shape, strides, offset, expected):
    arrays = read(wrapped(dict_of({"view": tensor(shape, strides, number(offset))})))
    np.testing.assert_array_equal(arrays["view"], np.asarray(expected, np.float32), strict=True)


def test_big_endian_storages(read):
    swapped = {"0": pthfiles.SIX.astype(">f4").tobytes(), "1": b"\x3f\x80"}
    content = dict_of({"six": tensor(), "one": tensor(b")", b")", of=storage("1", 1, "BFloat16Storage"))})
    arrays = read(archive(content, swapped, [("archive/byteorder", b"big")]))
    assert_same_bits(arrays, {"six": pthfiles.SIX.reshape(2, 3), "one": np.array(1, np.float32)})


def test_archive_of_another_program(tmp_path, read):
    """A comment, 64-bit sizes, sizes after the data, a folder of any name."""
    path = tmp_path / "other.zip"
    with open(path, "wb") as file, zipfile.ZipFile(file, "w") as other:
        other.comment = b"PK\5\6" * 1000
        with other.open("modèle/data.pkl", "w", force_zip64=True) as entry:
            entry.write(b"\x80\x02" + dict_of({"six": tensor()}) + b".")
        other.writestr("modèle/data/0", pthfiles.SIX.tobytes())
    assert_same_bits(read(path.read_bytes()), {"six": pthfiles.SIX.reshape(2, 3)})


def test_an_archive_with_64_bit_fields(monkeypatch, read):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 16)  # larger entries get 64-bit fields
    content = archive(dict_of({"six": tensor()}))
    assert content.count(b"\xff" * 4) >= 4
    assert_same_bits(read(content), {"six": pthfiles.SIX.reshape(2, 3)})


def test_global_as_in_protocol_4(read, wrapped):
    content = dict_of({"six": tensor()}).replace(
        name("torch._utils", "_rebuild_tensor_v2"), text("torch._utils") + text("_rebuild_tensor_v2") + b"\x93"
    )
    assert_same_bits(read(wrapped(content)), {"six": pthfiles.SIX.reshape(2, 3)})


def test_empty_storages_and_metadata_are_read(read, wrapped):
    flags = tensor(numbers(0), numbers(1), of=storage(count=0, kind="BoolStorage"))
    plain = flags.replace(b"\x89}tR", b"\x89}}tR")
    empty = {"0": b""} if wrapped is archive else {"0": (0, b"")}
    assert_same_bits(
        read(wrapped(dict_of({"flags": flags, "plain": plain}), empty)),
        {"flags": np.zeros(0, bool), "plain": np.zeros(0, bool)},
    )


def test_an_empty_state_dict(refuse, wrapped):
    refuse(wrapped(b"}", {}), "it contains no state dict")


def test_there_is_one_checkpoint_error():
    assert rcnn.CheckpointError is checkpoint.CheckpointError is CheckpointError


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.pth: file not found"):
        pth.read(tmp_path / "missing.pth")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        pth.read(tmp_path)


# ---------------------------------------------------------------------- other files


MODULE = name("my", "Net") + b")\x81" + dict_of({"training": b"\x89", "_modules": b"}"}) + b"b"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"what?", "it must start with .*, got b'what'"),
        (b"\n <!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x1f\x8b\x08", "compressed archive; unpack it"),
        (b"a.pth".ljust(257, b"\0") + b"ustar", "a tar archive"),
        (b"\x89HDF\r\n", "Keras"),
        (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
        (b"\x08\x01\x12\xa2\x05\n\xb0", "a TensorFlow graph; only weights of PyTorch models"),  # saved_model.pb
        (b"\n:\n\x0cimage_tensor\x12\x0bPlaceholder*\n\n", "a TensorFlow graph; only weights of PyTorch models"),
        (b"\xff\xd8\xff\xe0", "it is an image"),
        (b'{"a": 1}', "JSON"),
        (bytes(1000), "download is incomplete"),
        (b"\x80", "has 1 bytes; 0 are left"),
        (b"PK\3\4", "truncated"),
        (b"PK\3\4PK\5\6" + bytes(18), "not at the recorded offset"),
        (b"PK\3\4" + b"x" * 8 + b"PK\5\6.", "truncated"),
        (pickle.dumps({"a": 1}, 2), "a plain pickle, not a file from torch.save; .*state_dict()"),
        (pickle.dumps({"model": {}, "__author__": "x"}, 2), "a plain pickle of Detectron2"),
        (
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1000, 2),
            "its version must be 1001",
        ),
        (stream(b"N", {}), "it must contain a state dict, got nonetype"),
        (stream(b"]", {}), "it must contain a state dict, got list"),
        (stream(tensor()), "it must contain a state dict, got tensor"),
        (stream(dict_of({"model": b"}", "epoch": b"N"}), {}), "no state dict, only the keys model, epoch"),
        (stream(MODULE, {}), r"whole pickled model \(my.Net\), .*torch.save\(model.state_dict"),
        (stream(MODULE.replace(b"cmy\nNet", b"cultralytics\nYOLO"), {}), "which is not torchvision's Faster R-CNN"),
        (pickle.dumps({"a": 1}, 0), "a pickle in an old format"),
        (stream(dict_of({"epoch": b"N", "model": MODULE}), {}), r"whole pickled model \(my.Net\)"),
        (stream(name("__torch__.my", "Net") + b")R", {}), "TorchScript"),
        (stream(name("my", "Config") + b")R", {}), "it must contain a state dict, got my.Config"),
        (archive(b"}", extra=[("archive/constants.pkl", b"")], compression=zipfile.ZIP_DEFLATED), "TorchScript"),
        (archive(b"}", extra=[("a.npy", b"")]), "npz"),
        (archive(b"}", extra=[("best.pth", b"")]), "contains 'best.pth'; unpack it first"),
        (archive(b"}", extra=[("other/data.pkl", b"")]), "one entry FOLDER/data.pkl, but this one has 2"),
        (archive(b"}", extra=[("archive/byteorder", b"middle")]), "byte order must be .*, got b'middle'"),
    ],
    ids=in_words,
)
def test_invalid_files_are_refused(refuse, content, match):
    refuse(content, match)


@pytest.mark.parametrize("kind", ["torch.ComplexFloatStorage", "torch.storage.UntypedStorage"])
def test_unsupported_dtypes(refuse, kind):
    other = storage().replace(name("torch", "FloatStorage"), name(*kind.rsplit(".", 1)))
    refuse(archive(dict_of({"a": tensor(of=other), "b": tensor()})), f"tensor 'a' is a {kind}, which is not supported")
    refuse(archive(dict_of({"a": tensor(of=other)})), f"its tensors are stored as {kind}, which is not supported")


def test_tensors_under_numbers_are_no_state_dict(refuse):
    refuse(archive(b"}K\x01" + tensor() + b"s"), "contains no state dict, only the keys 1$")


# ---------------------------------------------------------------------- code in the file


def calls(marker):
    """Return pickles that would run code in Python's own machine; here, nothing is called.

    An attack that succeeds creates `marker`, or imports the module `this`.
    """
    command = text(f"echo >{marker}")
    code = text(f"open({str(marker)!r}, 'w')")
    return [
        name("os", "system") + tuple_of(command) + b"R",
        text("os") + text("system") + b"\x93" + tuple_of(command) + b"R",
        name("os", "system") + tuple_of(command) + b"\x81",
        name("os", "system") + tuple_of(command) + b"}\x92",
        tuple_of(text("storage"), name("os", "system"), command, text("cpu"), number(1)) + b"Q",
        name("posix", "system") + tuple_of(command) + b"R",
        name("builtins", "eval") + tuple_of(code) + b"R",
        name("__builtin__", "eval") + tuple_of(code) + b"R",
        name("this", "s"),
        name("functools", "partial") + tuple_of(name("os", "system"), command) + b"R)R",
        name("builtins", "getattr") + tuple_of(name("os", "path"), text("os")) + b"R",
        text("torch") + text("nn.modules.os.system") + b"\x93" + tuple_of(command) + b"R",
        text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93",
        name("torch._utils", "_rebuild_tensor_v2.__globals__"),
        name("my", "Class") + b")\x81" + dict_of({"__setstate__": name("os", "system"), "__class__": b"N"}) + b"b",
    ]


@pytest.mark.parametrize("number_of_attack", range(len(calls("x"))))
def test_nothing_is_called_or_imported(read, refuse, wrapped, tmp_path, number_of_attack):
    marker = tmp_path / "marker"
    attack = calls(marker)[number_of_attack]
    refuse(wrapped(attack, {}), "it must contain a state dict, got ")
    assert_same_bits(read(wrapped(dict_of({"b": attack, "weight": tensor()}))), READ)
    assert not marker.exists()
    assert "this" not in sys.modules


def attacks(marker):
    """Return pickles that are refused, by the message."""
    command = text(f"echo >{marker}")
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    state = dict_of({"__setstate__": rebuild, "__class__": b"N"})
    return {
        "uses the instruction INST": [b"(" + command + b"ios\nsystem\n"],
        "uses the instruction OBJ": [
            b"(" + name("collections", "OrderedDict") + b"o",
            b"(" + name("os", "system") + command + b"o",
        ],
        "uses the instruction EXT1": [b"\x82\1"],
        "creates an object of something that is not a class": [
            name("collections", "OrderedDict") + b")\x81",
            name("collections", "OrderedDict") + b")}\x92",
            text("system") + tuple_of(command) + b"\x81",
        ],
        "calls an object that is not a function": [
            text("system") + tuple_of(command) + b"R",
            name("torch", "FloatStorage") + b")R",
            name("collections", "OrderedDict") + b"]R",
        ],
        "sets attributes of an object that is not an OrderedDict": [
            tensor() + state + b"b",
            rebuild + state + b"b",
            name("torch", "FloatStorage") + state + b"b",
            b"}" + tuple_of(b"N", state) + b"b",
        ],
        "sets items of an object that is not a dict": [rebuild + text("__code__") + b"Ns", b"]NNs", b"](K\0Nu"],
        "appends to an object that is not a list": [tensor() + b"Na", b"}Na", rebuild + b"(NNe"],
        "refers to an object that is not a storage": [
            tuple_of(text("module"), rebuild, text("source.py"), command) + b"Q",
        ],
        "contains an invalid description of a storage": [
            tuple_of(text("storage"), rebuild, command, text("cpu"), number(1)) + b"Q"
        ],
        "contains an invalid OrderedDict": [name("collections", "OrderedDict") + tuple_of(b"N") + b"R"],
        "is damaged": [b"]" + text("system") + b"\x93"],
    }


@pytest.mark.parametrize("words", attacks("x"))
def test_invalid_instructions_are_refused(refuse, wrapped, tmp_path, words):
    marker = tmp_path / "marker"
    for content in attacks(marker)[words]:
        refuse(wrapped(content), f"its pickle {words}")
        refuse(wrapped(dict_of({"a": tensor(), "b": content})), f"its pickle {words}")
    assert not marker.exists()


def test_attributes_of_an_ordered_dict_are_dropped(read, wrapped):
    ordered = name("collections", "OrderedDict") + b")R"
    state = dict_of({"__class__": b"N", "__setitem__": name("collections", "OrderedDict"), "_metadata": ordered})
    assert_same_bits(
        read(wrapped(ordered + text("six") + tensor() + b"s" + state + b"b")), {"six": pthfiles.SIX.reshape(2, 3)}
    )


# ---------------------------------------------------------------------- damaged and greedy pickles

MANY = 100_000


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x8e" + b"\xff" * 8, "truncated at byte .*: 18,446,744,073,709,551,615 bytes expected"),
        (b"\x96" + struct.pack("<Q", 2**40), "truncated at byte"),
        (b"\x8d" + struct.pack("<Q", 2**40), "the instruction BINUNICODE8"),
        (b"\x8b" + struct.pack("<i", 2**31 - 1), "the instruction LONG4"),
        (b"X" + struct.pack("<I", 2**32 - 1), "4,294,967,295 bytes expected"),
        (b"\xff", "the instruction 0xff"),
        (b"\x97", "the instruction NEXT_BUFFER"),
        (b"c" + b"a" * 1000, "a line of its pickle has no line break"),
        (b"cc\xff\n\n", "is damaged"),
        (b"h\7", "is damaged"),
        (b"s", "is damaged"),
        (b"\x80\x09", "is damaged"),
        (b"X\1\0\0\0\xff", "is damaged"),
        (b"}(Nu", "is damaged"),
        (b"Nr" + struct.pack("<I", 2**32 - 1), "a memo index .* must be at most 0, got 4294967295"),
        (b"(" * MANY, "is damaged"),
        (b"}" + text("a") + b"Ns" + text("a") + b"Ns", "the key 'a' appears twice"),
        (
            tuple_of(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(-1)) + b"Q",
            "invalid description of a storage",
        ),
        (storage().replace(number(6), b"\x88"), "invalid description of a storage"),
        (storage("x" * 1000), "the key of a storage must have at most 40 characters, got 1,000"),
        (storage()[:-2] + tuple_of(text("1"), number(0), number(3)) + b"tQ", "is a view of another"),
        (storage() + storage(count=7), "storage '0' has two different descriptions"),
        (storage() + storage(kind="IntStorage"), "storage '0' has two different descriptions"),
        (text("0") + b"Q", "not a storage"),
        (numbers() + b"Q", "not a storage"),
        (text("stora") + b"Q", "not a storage"),
        (storage().replace(text("storage"), text("module")), "not a storage"),
        (storage().replace(text("storage"), b"N"), "not a storage"),
        (storage()[:-2] + b"NNtQ", "not a storage"),
        (storage().replace(text("0"), b"N"), "invalid description of a storage"),
        (storage().replace(text("cpu"), b"N"), "invalid description of a storage"),
        (
            storage().replace(name("torch", "FloatStorage"), text("torch.FloatStorage")),
            "invalid description of a storage",
        ),
    ],
    ids=in_words,
)
def test_damaged_pickles(refuse, wrapped, content, match):
    refuse(wrapped(content), match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"N" + b"\x85" * MANY, "got tuple"),
        (b"]" + b"]" * MANY + b"a" * MANY, "got list"),
        (b"]q\0h\0a", "got list"),
        (b"}q\0" + text("a") + b"h\0s", "no state dict"),
        # A tuple of two of a tuple of two ...: hashing it would take 2 ** 80 steps.
        (b"})q\0" + b"h\0\x86q\0" * 80 + b"Ns", "no state dict"),
    ],
    ids=in_words,
)
def test_deep_and_recursive_pickles(refuse, wrapped, content, match):
    refuse(wrapped(content, {}), match)


def test_only_tensors_may_refer_to_storages(refuse):
    refuse(stream(b"}").replace(pickle.dumps(["0"], 2), b"NQ."), "refers to a storage where none is allowed")


@pytest.mark.parametrize(
    "piece",
    [
        b"]",
        b"}",
        b"(",
        b"]\x94",
        b"}\x94",
        b"N\x85\x94",
        b"\x8c\1a\x94",
        b"(N",
        b"h\0)R\x94",
        b"h\1)R\x94",
        b"h\1)\x81\x94",
        b"ca\nb\n\x94",
    ],
)
def test_pickle_cannot_exceed_its_budget(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(pth, "ALLOWANCE", 5_000_000)
    path = tmp_path / "greedy.pth"
    path.write_bytes(
        stream(name("collections", "OrderedDict") + b"q\0" + name("my", "Class") + b"q\1" + piece * 60_000, {})
    )
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="more memory"):
            pth.read(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------- tensors beyond their storage


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        (numbers(7), numbers(1), 0),
        (numbers(6), numbers(1), 1),
        (numbers(1), numbers(1), 6),
        (b")", b")", 6),
        (numbers(2), numbers(6), 0),
        (numbers(2, 3), numbers(1, 3), 0),
        (numbers(2**62, 2**62), numbers(1, 1), 0),
        (numbers(2**62, 2**62), numbers(0, 0), 0),
        (numbers(0, 2**62), numbers(0, 0), 0),
        (numbers(1, 2), numbers(2**62, 2**62), 0),
    ],
)
def test_views_beyond_the_storage(refuse, wrapped, shape, strides, offset):
    content = dict_of({"view": tensor(shape, strides, number(offset))})
    refuse(wrapped(content), "exceeds its storage '0' of 6 numbers")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        (numbers(2, 3), numbers(-3, 1), number(3)),
        (numbers(-2, -3), numbers(3, 1), number(0)),
        (numbers(2, 3), numbers(3, 1), number(-1)),
        (numbers(2, 3), numbers(3), number(0)),
        (numbers(2), tuple_of(b"\x88"), number(0)),
        (numbers(2), numbers(2**63), number(0)),
        (numbers(*[1] * 17), numbers(*[1] * 17), number(0)),
        (tuple_of(text("2")), numbers(1), number(0)),
        (tuple_of(b"G" + struct.pack(">d", 2)), numbers(1), number(0)),
        (numbers(2), numbers(1), b"N"),
    ],
)
def test_invalid_views(refuse, wrapped, shape, strides, offset):
    refuse(wrapped(dict_of({"view": tensor(shape, strides, offset)})), "integers of at least 0")


@pytest.mark.parametrize(
    "content",
    [
        tensor(shape=b"]"),
        tensor(strides=b"N"),
        tensor(of=b"N"),
        tensor(of=numbers(1, 2, 3)),
        name("torch._utils", "_rebuild_parameter") + tuple_of(b"}", b"\x88", b"}") + b"R",
        name("torch._utils", "_rebuild_tensor_v2")
        + tuple_of(storage(), number(0), b")", b")", b"\x89", b"}", dict_of({"neg": b"\x88"}))
        + b"R",
    ],
)
def test_invalid_tensors(refuse, wrapped, content):
    refuse(wrapped(dict_of({"a": content})), "invalid description of a tensor|is not a tensor|conjugated view")


@pytest.mark.parametrize(
    "views",
    [
        {"a": tensor(numbers(10**9), numbers(0))},  # 4 GB from 24 bytes
        {"a": tensor(numbers(2**30, 2**30), numbers(0, 0))},
        {str(side): tensor(numbers(side, 1000), numbers(0, 0)) for side in range(1000, 1100)},  # each of them 4 MB
    ],
)
def test_views_whose_copies_would_be_too_large_are_refused(refuse, wrapped, views):
    refuse(wrapped(dict_of(views)), "its tensors would take .* bytes, more than the limit of")


def test_many_names_of_one_storage_share_it(tmp_path):
    """Copies would take 400 MB: the storage has a million numbers, and there are 100 names."""
    count = 1_000_000
    once = tensor(numbers(count), numbers(1), of=storage(count=count))
    names = b"".join(text(str(i)) + b"j\0\0\0\0" for i in range(1, 100))
    content = b"}(" + text("0") + once + b"r\0\0\0\0" + names + b"u"
    path = tmp_path / "shared.pth"
    path.write_bytes(archive(content, {"0": bytes(4 * count)}))
    tracemalloc.start()
    try:
        arrays = pth.read(path)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size + 10_000_000
    finally:
        tracemalloc.stop()
    assert len(arrays) == 100
    assert len({array.ctypes.data for array in arrays.values()}) == 1


# ---------------------------------------------------------------------- archives


def patched(content, changes):
    """Return `content` with the last occurrence of each key of `changes` replaced by its value."""
    for old, new in changes.items():
        assert content.count(old), old
        content = new.join(content.rsplit(old, 1))
    return content


GOOD = archive(dict_of({"six": tensor()}))
TABLE = GOOD.index(b"PK\1\2")
LAST = GOOD.rindex(b"PK\1\2")

padded = zipfile.ZipInfo("archive/padded")
padded.extra = b"FB\2\0ZZ"
PADDED = archive(dict_of({"six": tensor()}), extra=[(padded, b"")])
PADDED_LAST = PADDED.rindex(b"PK\1\2")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (archive(dict_of({"a": tensor()}), {"0": bytes(23)}), "storage '0' must have 24 bytes, got 23"),
        (archive(dict_of({"a": tensor()}), {"0": bytes(25)}), "storage '0' must have 24 bytes, got 25"),
        (archive(dict_of({"a": tensor()}), {}), "storage '0' must have 24 bytes, but is missing"),
        (archive(dict_of({"a": tensor(of=storage("../data.pkl"))})), "storage '../data.pkl' must have"),
        (archive(b"}.}"), "data.pkl has 2 extra bytes after the pickle"),
        (archive(b"}", {"0": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED), "'archive/data.pkl' .* is compressed"),
        (archive(b"}", {"0": bytes(10**6)}, compression=zipfile.ZIP_LZMA), "'archive/data.pkl' .* is compressed"),
        (GOOD[: LAST + 10] + b"\x08" + GOOD[LAST + 11 :], "'archive/data/0' .* is compressed"),
        (GOOD[: LAST + 20] + b"\x17" + GOOD[LAST + 21 :], "'archive/data/0' .* is compressed"),
        (patched(GOOD, {pthfiles.SIX.tobytes(): bytes(24)}), "storage '0' is damaged: wrong checksum"),
        (patched(GOOD, {b"\x80\x02}": b"\x80\x03}"}), "data.pkl is damaged: wrong checksum"),
        (GOOD[:-1], "truncated"),
        (GOOD + b"\n", "truncated .*, or has extra bytes"),
        (b"PK\3\4" + GOOD, "not at the recorded offset"),
        (GOOD[:TABLE] + b"\0" + GOOD[TABLE:], "not at the recorded offset"),
        (GOOD[:TABLE] + b"\0" + GOOD[TABLE + 1 :], "table of contents of its zip archive is damaged"),
        (GOOD[: LAST + 8] + b"\1" + GOOD[LAST + 9 :], "is encrypted"),
        (GOOD[: LAST + 24] + b"\xff\xff\xff\xff" + GOOD[LAST + 28 :], "no 64-bit sizes"),
        (GOOD[: LAST + 34] + b"\1" + GOOD[LAST + 35 :], "is encrypted or split"),
        (PADDED[: PADDED_LAST + 24] + b"\xff\xff\xff\xff" + PADDED[PADDED_LAST + 28 :], "no 64-bit sizes"),
        (GOOD[: LAST + 42] + bytes(4) + GOOD[LAST + 46 :], "'archive/data/0' .* contradicts"),
        (GOOD[: LAST + 42] + b"\xfe\xff\xff\xff" + GOOD[LAST + 46 :], "has 30 bytes; 0 are left"),
        (GOOD[: LAST + 20] + b"\x40\0\0\0\x40\0\0\0" + GOOD[LAST + 28 :], "contradicts the table"),
        (patched(GOOD, {b"archive/data/0": b"archive/data/1"}), "'archive/data/1' .* contradicts"),
        (patched(GOOD, {b"archive/data/0": b"archive/data/\xff"}), "is not UTF-8"),
        (GOOD[:-14] + struct.pack("<HH", 1, 1) + GOOD[-10:], "has more entries than the declared 1"),
        (GOOD[:-14] + struct.pack("<HH", 3, 3) + GOOD[-10:], "has 46 bytes; 0 are left"),
        (GOOD[:-18] + b"\1" + GOOD[-17:], "one of several parts"),
        (GOOD[:-16] + b"\1" + GOOD[-15:], "one of several parts"),
        (GOOD[:-14] + b"\1" + GOOD[-13:], "one of several parts"),
    ],
    ids=in_words,
)
def test_damaged_archives(refuse, content, match):
    refuse(content, match)


@pytest.mark.parametrize("extra", [b"\1\0\0\0", b"\1\0\x08\0\0\0\0\0", b"\1\0\x10\0" + bytes(8), b"\1"])
def test_truncated_64_bit_sizes(refuse, extra):
    entry = zipfile.ZipInfo("archive/data/1")
    entry.extra = extra
    content = archive(dict_of({"six": tensor()}), extra=[(entry, b"")])
    last = content.rindex(b"PK\1\2")
    refuse(content[: last + 24] + b"\xff\xff\xff\xff" + content[last + 28 :], "no 64-bit sizes")


def test_two_entries_with_the_same_name(refuse):
    two = archive(dict_of({"six": tensor()}), extra=[("archive/data/1", bytes(24))])
    refuse(two.replace(b"archive/data/1", b"archive/data/0"), "has two entries named 'archive/data/0'")


def test_entries_that_share_their_bytes(refuse):
    """The header of the second entry lies in the data of the first one, and both end at the same byte."""
    inner = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 24, 24, 14, 0) + b"archive/data/1" + bytes(24)
    content = archive(dict_of({"six": tensor()}), {"0": inner}, [("archive/data/1", bytes(24))])
    table = content.rindex(b"PK\1\2")
    content = (
        content[: table + 16]
        + bytes(4)
        + content[table + 20 : table + 42]
        + struct.pack("<I", content.index(inner))
        + content[table + 46 :]
    )
    refuse(content, "overlap")


def test_wrong_64_bit_end_record(refuse):
    whole = (FOLDER / "kinds.pth").read_bytes()
    record = whole.rindex(b"PK\6\6")
    for at in (24, 40, 48):  # the count, the length and the start of the table of contents
        refuse(whole[: record + at] + bytes([whole[record + at] ^ 1]) + whole[record + at + 1 :], "contradict|parts")
    refuse(whole[:record] + b"PK\6\5" + whole[record + 4 :], "contradict")
    locator = whole.rindex(b"PK\6\7")
    refuse(whole[: locator + 8] + b"\xff" * 8 + whole[locator + 16 :], "64-bit end record .* is not at")


# ---------------------------------------------------------------------- streams


@pytest.mark.parametrize(
    ("storages", "match"),
    [
        ({"0": (5, bytes(20))}, "storage '0' must have 6 numbers, got 5"),
        ({"0": (-6, bytes(24))}, "must have 6 numbers, got -6"),
        ({"0": (2**62, bytes(24))}, "must have 6 numbers"),
        ({"0": (6, bytes(23))}, "it is truncated at byte .*: 24 bytes expected, 23 left"),
        ({"0": (6, bytes(25))}, "1 extra bytes after the last storage"),
        ({}, "its list of storages"),
        ({"1": (6, bytes(24))}, "its list of storages"),
        ({"0": (6, bytes(24)), "1": (6, bytes(24))}, "its list of storages"),
    ],
)
def test_storages_of_a_stream(refuse, storages, match):
    refuse(stream(dict_of({"six": tensor()}), storages), match)


@pytest.mark.parametrize("keys", [None, 7, {"0": 1}, ("0",), "0", [0], [["0"]], ["0", "0"], [None]])
def test_invalid_list_of_storages(refuse, keys):
    content = stream(dict_of({"six": tensor()}))
    refuse(content.replace(pickle.dumps(["0"], 2), pickle.dumps(keys, 2)), "its list of storages")


def test_key_that_is_listed_twice(refuse):
    content = stream(dict_of({"a": tensor(), "b": tensor(of=storage("1"))}), {"0": (6, bytes(24)), "1": (6, bytes(24))})
    refuse(content.replace(pickle.dumps(["0", "1"], 2), pickle.dumps(["0", "0"], 2)), "its list of storages")


def test_bools_that_are_neither_0_nor_1(refuse):
    content = dict_of({"flags": tensor(numbers(2), numbers(1), of=storage(count=2, kind="BoolStorage"))})
    refuse(stream(content, {"0": (2, b"\1\2")}), "bools that are neither 0 nor 1")


@pytest.mark.parametrize("length", [-1, -40, -90])
def test_file_that_shrinks_while_it_is_read(monkeypatch, refuse, length):
    """Another process may truncate the file after its size was read."""
    whole = stream(dict_of({"six": tensor()}))
    found = types.SimpleNamespace(st_size=len(whole), st_mode=stat.S_IFREG)
    monkeypatch.setattr(pth.os, "fstat", lambda descriptor: found)
    refuse(whole[:length], "shrank while it was being read")


# ---------------------------------------------------------------------- memory


@pytest.mark.parametrize("count", [2**31, 2**40, 2**60])
def test_large_storage_in_a_small_file(refuse, count):
    content = dict_of({"a": tensor(numbers(count), numbers(1), of=storage(count=count))})
    refuse(archive(content, {"0": bytes(24)}), "got 24")
    refuse(stream(content, {"0": (count, bytes(24))}), "it is truncated")


GROWTH = """
import resource, sys
import rcnn.zoo.pth
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    result = f"read {len(rcnn.zoo.pth.read(sys.argv[1]))}"
except rcnn.CheckpointError as error:
    result = f"refused: {error}"
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit, result)
"""


def large_bfloat16(count):
    content = dict_of({"a": tensor(numbers(count), numbers(1), of=storage(count=count, kind="BFloat16Storage"))})
    return archive(content, {"0": bytes(2 * count)})


@pytest.mark.parametrize(
    ("make", "result"),
    [
        (lambda: stream(b"]\x94" * 600_000, {}), "refused: .* more memory"),
        (lambda: stream(text("\U0001f600" + "a" * (2**16 - 8)) * 300, {}), "refused: .* more memory"),
        (lambda: archive(b"}", extra=[(f"archive/{i:01000}", b"") for i in range(10_000)]), "refused: .* more memory"),
        (lambda: large_bfloat16(2**23), "read 1"),
        (lambda: large_bfloat16(2**26), "refused: .* its storages would take 268,435,456 bytes"),
    ],
    ids=["lists", "texts", "entries", "bfloat16", "too much bfloat16"],
)
def test_process_grows_by_at_most_the_file_size_and_100_mb(tmp_path, make, result):
    path = tmp_path / "large.pth"
    path.write_bytes(make())
    run = subprocess.run([sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True)
    growth, printed = run.stdout.split(" ", 1)
    assert re.match(result, printed)
    assert int(growth) < path.stat().st_size + MARGIN


# ---------------------------------------------------------------------- random damage

FILES = ("kinds.pth", "kinds_legacy.pth", "kinds_protocol4.pth", "training.pth")


@pytest.mark.parametrize("file", FILES)
def test_damaged_file_is_read_or_refused(tmp_path, file):
    """The result is a dict of arrays that can be copied, or a CheckpointError."""
    rng = np.random.default_rng(FILES.index(file))
    whole, others = (FOLDER / file).read_bytes(), [(FOLDER / other).read_bytes() for other in FILES]
    path = tmp_path / "damaged.pth"
    outcomes = {"read": 0, "refused": 0}
    tracemalloc.start()
    try:
        for case in range(600):
            path.write_bytes(pthfiles.damage(whole, others[case % len(others)], rng))
            outcomes[outcome(path)] += 1
        assert tracemalloc.get_traced_memory()[1] < MARGIN
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > 20, outcomes


@pytest.mark.parametrize("wrap", [archive, stream])
def test_damaged_pickle_is_read_or_refused(tmp_path, wrap):
    """As above, but in an undamaged file, so that wrong checksums and sizes do not hide the damage."""
    rng = np.random.default_rng(7)
    one, two = dict_of({"a": tensor(), "b": tensor(of=storage("1"))}), dict_of({"model": dict_of({"c": tensor()})})
    storages = {key: pthfiles.SIX.tobytes() if wrap is archive else (6, pthfiles.SIX.tobytes()) for key in "01"}
    path = tmp_path / "damaged.pth"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1000):
        path.write_bytes(wrap(pthfiles.damage(one, two, rng), storages))
        outcomes[outcome(path)] += 1
    assert min(outcomes.values()) > 20, outcomes


def outcome(path):
    """Return "read" or "refused"."""
    try:
        arrays = pth.read(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return "refused"
    for key, array in arrays.items():
        assert type(key) is str
        assert type(array) is np.ndarray
        array.copy()
    return "read"
