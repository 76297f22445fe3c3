"""NumPy files and sound: what they give, and hostile ones."""

from __future__ import annotations

import io
import struct
import tracemalloc
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.errors import AnalyzerError, UsageError
from analyzer.inputs import read_array, read_wav


def npy_header(descr: str, shape: str, body: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AnalyzerError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return caught.value.code


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=hnp.arrays(
        st.sampled_from(["f4", ">f8", "f2", "i8", "u1", "?", "U3"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0),
    ),
    fortran=st.booleans(),
)
def test_npy_and_npz_give_back_what_was_saved(tmp_path: Path, array, fortran):
    array = np.asfortranarray(array) if fortran else array
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", anything=array)
    for name in ("a.npy", "a.npz"):
        got = read_array(tmp_path / name)
        assert got.values.dtype == array.dtype and got.values.shape == array.shape and got.values.flags.writeable
        np.testing.assert_array_equal(got.values, array)


def test_npz_choice(tmp_path: Path):
    path = tmp_path / "many.npz"
    np.savez(path, attribution=np.ones(2), raw=np.zeros(3), input=np.full(4, 7.0))
    assert read_array(path).values.tolist() == [7.0] * 4 and "'input'" in read_array(path).notes[0]
    assert read_array(path, key="raw").values.shape == (3,)
    assert read_array(path, prefer=("attribution",)).values.shape == (2,)
    assert code_of(read_array, path, key="nothing") == "data.npz_key"
    assert code_of(read_array, path, prefer=()) == "data.npz_key"
    with zipfile.ZipFile(tmp_path / "none.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert code_of(read_array, tmp_path / "none.npz") == "data.array_unreadable"


class Bait:
    """Unpickling this would leave a trace."""

    def __reduce__(self) -> Any:
        return (exec, ("import pathlib; pathlib.Path('pwned').touch()",))


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "o.npy", np.array([Bait()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", input=np.array([Bait()], dtype=object))
    assert code_of(read_array, tmp_path / "o.npy") == "data.pickle_refused"
    assert code_of(read_array, tmp_path / "o.npz") == "data.pickle_refused"
    (tmp_path / "nested.npy").write_bytes(npy_header("[('a', '|O'), ('b', '<f4')]", "(1,)"))
    assert code_of(read_array, tmp_path / "nested.npy") == "data.pickle_refused"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (npy_header("'<f4'", "(1000000, 1000000)"), "limit.memory"),
        (npy_header("'<f8'", "(9223372036854775807, 9223372036854775807)"), "limit.memory"),
        (npy_header("'<f4'", "(-1, 4)", b"\0" * 16), "data.array_unreadable"),
        (npy_header("'<f4'", "(100,)", b"\0" * 16), "data.array_unreadable"),
        (npy_header("'<f4'", "__import__('os')", b"\0" * 16), "data.array_unreadable"),
        (npy_header("'<f4'", "(" * 300 + ")" * 300), "data.array_unreadable"),
        (npy_header("'<M8[s]'", "(1,)", b"\0" * 8), "data.bad_dtype"),
        (npy_header("[('a', '<f4')]", "(1,)", b"\0" * 4), "data.bad_dtype"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 100, "data.array_unreadable"),
        (b"\x93NUMPY", "data.array_unreadable"),
        (b"", "data.array_unreadable"),
        (b"PK\x03\x04 no directory", "data.array_unreadable"),
        (b"\x80\x04\x95 pickle", "data.array_unreadable"),
    ],
)
def test_hostile_npy(tmp_path: Path, content: bytes, code: str):
    path = tmp_path / "hostile.npy"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert code_of(read_array, path) == code
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_zip_bombs_are_seen_in_the_directory(tmp_path: Path):
    np.savez_compressed(tmp_path / "bomb.npz", input=np.zeros(200_000_000, np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 300_000
    tracemalloc.start()
    try:
        assert code_of(read_array, tmp_path / "bomb.npz") == "limit.memory"
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    np.savez_compressed(tmp_path / "sparse.npz", input=np.zeros(1_000_000, np.uint8))
    assert read_array(tmp_path / "sparse.npz").values.sum() == 0
    assert code_of(read_array, tmp_path / "sparse.npz", limit=900_000) == "limit.memory"


def test_an_archive_whose_header_lies_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("input.npy", npy_header("'<f4'", "(100000000,)", b"\0" * 64))
    assert code_of(read_array, tmp_path / "lie.npz") == "data.array_unreadable"
    np.savez(tmp_path / "cut.npz", input=np.arange(1000))
    complete = (tmp_path / "cut.npz").read_bytes()
    for flipped in (300, 2000, 5000):
        damaged = bytearray(complete)
        damaged[flipped] ^= 0xFF
        (tmp_path / "cut.npz").write_bytes(damaged)
        assert code_of(read_array, tmp_path / "cut.npz") == "data.array_unreadable"


# --- sound


def sound(path: Path, raw: bytes, width: int, channels: int = 1, rate: int = 8000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(raw)
    return path


@pytest.mark.parametrize(
    ("width", "raw"),
    [
        (1, bytes([0, 128, 255, 64])),
        (2, struct.pack("<4h", -32768, 0, 32767, -16384)),
        (3, b"\0\0\x80" + b"\0\0\0" + b"\xff\xff\x7f" + b"\0\0\xc0"),
        (4, struct.pack("<4i", -(2**31), 0, 2**31 - 1, -(2**30))),
    ],
)
def test_pcm_widths(tmp_path: Path, width: int, raw: bytes):
    got = read_wav(sound(tmp_path / "s.wav", raw, width, rate=44100))
    top = 1 - 2.0 ** (1 - 8 * width)
    np.testing.assert_allclose(got.values, [-1, 0, top, -0.5], rtol=0, atol=1e-7)
    assert got.values.dtype == np.float32 and got.sample_rate == 44100 and np.abs(got.values).max() <= 1


def test_stereo_and_the_extensible_header(tmp_path: Path):
    raw = struct.pack("<6h", 1, -1, 2, -2, 3, -3)
    path = sound(tmp_path / "s.wav", raw, 2, channels=2)
    expected = (np.array([[1, 2, 3], [-1, -2, -3]]) / 32768).astype(np.float32)
    assert np.array_equal(read_wav(path).values, expected)
    pcm = b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 2, 8000, 32000, 4, 16, 22, 16, 3) + pcm
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(raw)) + raw
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert np.array_equal(read_wav(path).values, expected)


def test_sounds_that_are_none(tmp_path: Path):
    path = sound(tmp_path / "s.wav", b"\0\0" * 100, 2)
    complete = path.read_bytes()
    floats = bytearray(complete)
    floats[20] = 3
    huge = bytearray(complete)
    huge[40:44] = b"\xf0\xff\xff\xff"
    for content in (b"", b"RIFF", complete[:30], complete[:44], bytes(floats), b"text" * 20):
        path.write_bytes(content)
        assert code_of(read_wav, path) == "data.sound_unreadable"
    path.write_bytes(huge)  # claims 4 GiB: gives what is there, without asking for the memory
    assert read_wav(path).values.shape == (100,)
    assert code_of(read_wav, path, limit=100) == "limit.memory"
    assert code_of(read_wav, tmp_path) == "data.not_regular"


def test_missing_file_is_a_usage_error(tmp_path: Path):
    for reader in (read_array, read_wav):
        with pytest.raises(UsageError):
            reader(tmp_path / "absent")


def test_a_buffer_written_by_numpy_version_2_header(tmp_path: Path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(5), version=(2, 0))
    (tmp_path / "v2.npy").write_bytes(buffer.getvalue())
    assert read_array(tmp_path / "v2.npy").values.tolist() == [0, 1, 2, 3, 4]
