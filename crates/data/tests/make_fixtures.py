"""Writes tests/fixtures/*.hdf5 with h5py, the writer that DSRL used: `python make_fixtures.py` (needs h5py,
hdf5plugin and numpy).

The files hold 24 transitions of 4 episodes; tests/fixtures.rs states the formulas of their values again.
"""

from pathlib import Path

import h5py
import hdf5plugin
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


def as_float16(key, values):
    return values.astype(np.float16) if values.dtype == float else values


def unwritten(name, **options):
    """`costs` has a shape and no data; `fill` of `options` says which rows are written all the same."""
    fill = options.pop("fill", [])
    with h5py.File(FOLDER / f"{name}.hdf5", "w") as file:
        for key, values in columns().items():
            if key != "costs":
                file.create_dataset(key, data=as_float32(key, values))
                continue
            dataset = file.create_dataset(key, shape=values.shape, dtype=np.float32, **options)
            for rows in fill:
                dataset[rows] = values[rows]


def elsewhere():
    """Links to another file, and a dataset put together from one."""
    with h5py.File(FOLDER / "external.hdf5", "w") as file:
        for key in columns():
            file[key] = h5py.ExternalLink("contiguous.hdf5", f"/{key}")
    with h5py.File(FOLDER / "virtual.hdf5", "w", libver="latest") as file:
        for key, values in columns().items():
            values = as_float32(key, values)
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[:] = h5py.VirtualSource("contiguous.hdf5", key, values.shape)
            file.create_virtual_dataset(key, layout)


def bfloat16():
    """HDF5 knows a float by the places of its fields: this one has the size of a float16, and other fields."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    with h5py.File(FOLDER / "bfloat16.hdf5", "w") as file:
        for key, values in columns().items():
            if key != "rewards":
                file[key] = as_float32(key, values)
                continue
            space = h5py.h5s.create_simple(values.shape)
            dataset = h5py.h5d.create(file.id, b"rewards", kind, space)
            bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, bits, mtype=kind)


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
    write("zstd", as_float32, **hdf5plugin.Zstd())
    write("blosc", as_float32, **hdf5plugin.Blosc())
    write("float16", as_float16)
    unwritten("unwritten")
    unwritten("unwritten_chunked", chunks=(8,))
    unwritten("missing_chunk", chunks=(8,), fill=[slice(0, 8), slice(16, 24)])
    elsewhere()
    bfloat16()
