"""The own reader and writer of safetensors files, compared with the safetensors package."""

import contextlib
import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcnn.zoo import checkpoint, safetensors_format

DTYPES = [np.dtype(dtype) for dtype in safetensors_format.DTYPES.values()]
ARRAYS = st.dictionaries(
    st.text(max_size=6).filter(lambda name: name != safetensors_format.METADATA),
    st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))),
    max_size=5,
)
METADATA = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=1)


def file_of(header, data=b"", length=None):
    """Return the content of a file with this header, as an object or as bytes."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@given(ARRAYS, METADATA)
@settings(max_examples=30, deadline=None)
def test_files_are_those_of_the_package(tmp_path_factory, arrays, metadata):
    content = safetensors_format.save(arrays, metadata)
    assert content == safetensors.numpy.save(arrays, metadata or None)
    path = tmp_path_factory.mktemp("files") / "some.safetensors"
    path.write_bytes(content)
    read, found = safetensors_format.read(path)
    assert found == metadata and read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].tobytes() == array.tobytes() and read[name].shape == array.shape
        assert read[name].dtype == array.dtype and read[name].flags.writeable and read[name].flags.aligned


def test_any_layout_and_byte_order_can_be_written():
    arrays = {"turned": np.arange(6.0).reshape(2, 3).T, "big": np.arange(3, dtype=">i4")}
    plain = {"turned": np.ascontiguousarray(arrays["turned"]), "big": np.arange(3, dtype=np.int32)}
    assert safetensors_format.save(arrays, {}) == safetensors_format.save(plain, {})


def test_dtype_outside_the_format_is_refused():
    with pytest.raises(ValueError, match="name must have one of the dtypes .*, got <U1"):
        safetensors_format.save({"name": np.array("a")}, {})


INVALID = {
    "no file": b"",
    "half a length": b"\x01\x00\x00",
    "longer than the file": file_of({}, length=100),
    "longest length": file_of({}, length=2**64 - 1),
    "no JSON": file_of(b"{]"),
    "deep JSON": file_of(b"[" * 100_000),
    "no text": file_of(b"\xff\xfe{}"),
    "no object": file_of([1]),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}}),
    "metadata that is a list": file_of({"__metadata__": ["a"]}),
    "entry that is a list": file_of({"a": [1]}),
    "entry without a shape": file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "shape of text": file_of({"a": entry(shape=("1",))}, bytes(4)),
    "negative shape": file_of({"a": entry(shape=(-1, -1))}, bytes(4)),
    "shape of fractions": file_of({"a": entry(shape=(1.0,))}, bytes(4)),
    "shape of booleans": file_of({"a": entry(shape=(True,))}, bytes(4)),
    "shape that is too large": file_of({"a": entry(shape=(2**62, 4))}, bytes(4)),
    "enormous shape": file_of({"a": entry(shape=(10**30,))}, bytes(4)),
    "one offset": file_of({"a": entry(offsets=(4,))}, bytes(4)),
    "offsets in reverse": file_of({"a": entry(offsets=(4, 0))}, bytes(4)),
    "offsets beyond the end": file_of({"a": entry(offsets=(4, 8))}, bytes(4)),
    "hole": file_of({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
    "overlap": file_of({"a": entry(), "b": entry(offsets=(0, 4))}, bytes(4)),
    "too little data": file_of({"a": entry()}, bytes(3)),
    "too much data": file_of({"a": entry()}, bytes(5)),
    "unknown dtype of the wrong kind": file_of({"a": entry(dtype=[1])}, bytes(4)),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_file_is_refused_as_by_the_package(tmp_path, name):
    path = tmp_path / "some.safetensors"
    path.write_bytes(INVALID[name])
    with pytest.raises(ValueError):
        safetensors_format.read(path)
    with pytest.raises(safetensors.SafetensorError), safetensors.safe_open(path, framework="numpy") as file:
        file.keys()


@pytest.mark.parametrize("position", range(0, 120, 7))
def test_flipped_bytes_give_a_value_error_or_an_array(tmp_path, position):
    content = bytearray(safetensors_format.save({"a": np.arange(4.0), "b": np.arange(3)}, {"k": "v"}))
    path = tmp_path / "some.safetensors"
    for bit in range(8):
        content[position] ^= 1 << bit
        path.write_bytes(content)
        with contextlib.suppress(ValueError, safetensors_format.UnknownDtypeError):
            safetensors_format.read(path)
        content[position] ^= 1 << bit


@pytest.mark.parametrize("without_package", [False, True])
def test_a_long_dtype_gives_a_short_message(tmp_path, monkeypatch, without_package):
    header = json.dumps({"w": {"dtype": "F" * 100_000, "shape": [0], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    if without_package:
        monkeypatch.setattr(checkpoint, "safetensors", None)
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.load(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 1000
