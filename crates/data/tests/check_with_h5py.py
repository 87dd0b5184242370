"""Checks the files of our writer with libhdf5: needs h5py and numpy.

    export DRCORL_H5PY_OUT=$(mktemp -d)
    cargo test --release -p drcorl-data --test write -- --ignored
    python crates/data/tests/check_with_h5py.py $DRCORL_H5PY_OUT
"""

import sys
from pathlib import Path

import h5py
import numpy as np

if __name__ == "__main__":
    files = sorted(Path(sys.argv[1]).glob("*.hdf5"))
    assert len(files) == 4, files
    for path in files:
        rows, dim = map(int, path.stem.split("x"))
        with h5py.File(path) as file:
            assert file.attrs["drcorl"].decode() == '{"é": 1}'
            assert sorted(file) == [
                "actions", "costs", "next_observations", "observations", "rewards", "terminals", "timeouts",
            ]  # fmt: skip
            for key, width, scale in [("observations", dim, 1), ("next_observations", dim, 2), ("actions", 2, 0.5)]:
                values = file[key]
                assert (values.dtype, values.shape, values.compression) == (np.float32, (rows, width), "gzip")
                angle = np.arange(rows * width, dtype=np.float32) * np.float32(0.37)
                expected = (np.sin(angle, dtype=np.float32) * np.float32(scale)).reshape(rows, width)
                assert np.allclose(values[:], expected, atol=2e-6 * scale), key
                # A random slice takes another way through the chunk index than the whole does.
                assert np.array_equal(values[rows // 2 : rows // 2 + 9], values[:][rows // 2 : rows // 2 + 9])
            row = np.arange(rows)
            assert np.array_equal(file["costs"][:], row % 3)
            for key, end in [("terminals", 6), ("timeouts", 13)]:
                assert file[key].dtype == bool and np.array_equal(file[key][:], row % 14 == end), key
        # Opening for writing makes libhdf5 check free space and the end of the file.
        with h5py.File(path, "a") as file:
            file["later"] = np.arange(3)
        print(f"{path.name}: ok")
