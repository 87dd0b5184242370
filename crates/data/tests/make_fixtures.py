"""Writes tests/fixtures/*.hdf5 with h5py, the writer that DSRL used: `python make_fixtures.py` (needs h5py and numpy).

The files hold 24 transitions of 4 episodes; tests/fixtures.rs states the formulas of their values again.
"""

from pathlib import Path

import h5py
import numpy as np

ROWS, OBS, ACT = 24, 3, 2
FOLDER = Path(__file__).parent / "fixtures"


def columns():
    row = np.arange(ROWS)
    observations = row[:, None] + np.arange(OBS)[None, :] / 4
    return {
        "observations": observations,
        "next_observations": observations + 1,
        "actions": np.stack([row / 32 - 0.5, 0.25 - row / 64], axis=1),
        "rewards": row / 8,
        "costs": (row % 3 == 0).astype(float),
        "terminals": row == 5,
        "timeouts": np.isin(row, [11, 17, 23]),
    }


def write(name, change=lambda key, values: values, libver="earliest", **options):
    """`options` go to three of the datasets: a chunked one takes 2.5 kB, and fixtures are to stay below 20 kB."""
    with h5py.File(FOLDER / f"{name}.hdf5", "w", libver=libver) as file:
        file.attrs["env"] = "Fixture-v0"
        for key, values in columns().items():
            chunked = key in ("observations", "costs", "terminals")
            file.create_dataset(key, data=change(key, values), **(options if chunked else {}))


def as_float32(key, values):
    return values.astype(np.float32)


def as_float64_with_bool_columns(key, values):
    """Flags stay bool (an HDF5 enumeration); all five scalar columns become [N, 1]."""
    return values if values.ndim == 2 else values[:, None]


def as_integers(key, values):
    """Flags as big-endian int64 and uint8, costs as int32, the rest as big-endian float32."""
    types = {"terminals": ">i8", "timeouts": "u1", "costs": "<i4"}
    return values.astype(types.get(key, ">f4"))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write("float32_gzip", as_float32, compression="gzip", compression_opts=6, shuffle=True, chunks=True)
    write("float64_bool_column", as_float64_with_bool_columns, compression="gzip", fletcher32=True)
    write("integers_latest", as_integers, libver="latest", chunks=True)
    write("contiguous", as_float32)
    write("lzf", as_float32, compression="lzf", chunks=True)
