"""Rows of arrays in files are read alone where they lie unpacked, and are what they were in every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.errors import InputError, UsageError
from analyzer.inputs.stored import stored_arrays

ARRAYS: dict[str, Any] = {
    "pixels": np.random.default_rng(0).random((5, 3, 4), np.float32),
    "columns": np.asfortranarray(np.arange(20.0).reshape(5, 4)),
    "words": np.array(["a", "bb", "c", "d", "e"]),
    "truth": np.array([True, False, True, True, False]),
    "one": np.array(3),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_what_they_were(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    stored = stored_arrays(tmp_path / "a.npz")
    assert {name: own.shape for name, own in stored.items()} == {name: a.shape for name, a in ARRAYS.items()}
    assert [own.start is None for own in stored.values()] == [save is not np.savez or n == "columns" for n in ARRAYS]
    for name, own in stored.items():
        np.testing.assert_array_equal(own.whole, ARRAYS[name])
        for at in range(len(ARRAYS[name]) if ARRAYS[name].ndim else 0):
            np.testing.assert_array_equal(own.row(at), ARRAYS[name][at])
            np.testing.assert_array_equal(own.entry(at, 0), ARRAYS[name][at : at + 1])
    np.testing.assert_array_equal(stored["pixels"].entry(2, 1), ARRAYS["pixels"][:, 2:3])


def test_an_array_larger_than_memory(tmp_path: Path) -> None:
    """The file is sparse: 30 GB are claimed, a few kB are there."""
    path, row, count = tmp_path / "big.npy", np.arange(192, dtype=np.float32).reshape(3, 8, 8), 40_000_000
    with path.open("wb") as handle:
        head = {"descr": "<f4", "fortran_order": False, "shape": (count, 3, 8, 8)}
        np.lib.format.write_array_header_1_0(handle, head)
        handle.seek(handle.tell() + (count - 1) * row.nbytes)
        handle.write(row.tobytes())
    stored = stored_arrays(path)[""]
    np.testing.assert_array_equal(stored.row(count - 1), row)
    assert not stored.row(7).any()


def test_what_is_damaged_or_unsafe_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 8)))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    np.save(tmp_path / "o.npy", np.array([{}]))
    np.savez(tmp_path / "o.npz", a=np.array([{}]))
    (tmp_path / "z.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "t.npz").write_bytes(b"PK no archive")
    codes = {}
    for name in ("a.npy", "o.npy", "o.npz", "z.npz", "t.npz"):
        with pytest.raises(InputError) as caught:
            stored_arrays(tmp_path / name)
        codes[name] = caught.value.code
    assert codes == {
        "a.npy": "data.array_unreadable", "o.npy": "data.pickle_refused", "o.npz": "data.pickle_refused",
        "z.npz": "data.array_unreadable", "t.npz": "data.array_unreadable",
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"data\.missing"):
        stored_arrays(tmp_path / "gone.npz")
