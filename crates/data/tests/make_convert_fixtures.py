"""Writes tests/fixtures/convert/*: the columns of make_fixtures.py in other formats (needs h5py, numpy and pyarrow)."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from make_fixtures import columns

FOLDER = Path(__file__).parent / "fixtures" / "convert"
ENDS = [6, 12, 18, 24]


def minari(path, cut=False):
    """Episodes as groups. Their order in the file is not that of their numbers once there are more than ten."""
    data = columns()
    with h5py.File(path, "w") as file:
        file.attrs["total_episodes"] = 4
        for number, (start, end) in enumerate(zip([0, *ENDS], ENDS)):
            group = file.create_group(f"episode_{number + 8}")
            states = np.concatenate([data["observations"][start:end], data["next_observations"][end - 1 : end]])
            group["observations"] = states
            group["actions"] = data["actions"][start:end]
            group["rewards"] = data["rewards"][start:end]
            group["terminations"] = data["terminals"][start:end]
            truncations = data["timeouts"][start:end].copy()
            if cut and number == 2:
                truncations[:] = False
            group["truncations"] = truncations
            # Minari keeps the info of the reset too.
            group["infos/cost"] = np.concatenate([[99.0], data["costs"][start:end]])


def dictionary(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("episode_0")
        group["observations/position"] = np.zeros((3, 2))
        group["actions"] = np.zeros((2, 1))


def goal(path):
    """Observations as a dictionary, rewards of shape [T, 1], and an episode whose infos have no cost."""
    data = columns()
    with h5py.File(path, "w") as file:
        for number, (start, end) in enumerate(zip([0, *ENDS], ENDS)):
            group = file.create_group(f"episode_{number}")
            states = np.concatenate([data["observations"][start:end], data["next_observations"][end - 1 : end]])
            group["observations/desired_goal"] = states[:, 2:]
            group["observations/observation"] = states[:, :2]
            group["actions"] = data["actions"][start:end]
            group["rewards"] = data["rewards"][start:end, None]
            group["terminations"] = data["terminals"][start:end]
            group["truncations"] = data["timeouts"][start:end]
            if number != 2:
                group["infos/cost"] = np.concatenate([[99.0], data["costs"][start:end]])[:, None]


def arrow(folder, join=True):
    """As Minari writes with data_format="arrow": a row more than steps, the last one filled up with zeros."""
    data = columns()
    for number, (start, end) in enumerate(zip([0, *ENDS], ENDS)):
        states = np.concatenate([data["observations"][start:end], data["next_observations"][end - 1 : end]])
        rows = lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
        pad = lambda key: np.concatenate([data[key][start:end], np.zeros_like(data[key][:1])])
        parts = [rows(states[:, :2]), rows(states[:, 2:])]
        observations = rows(states) if join else pa.StructArray.from_arrays(parts, ["observation", "desired_goal"])
        cost = np.concatenate([[99.0], data["costs"][start:end]])
        batch = {
            "observations": observations,
            "actions": rows(pad("actions")),
            "rewards": pad("rewards").astype("f8"),
            "terminations": pad("terminals"),
            "truncations": pad("timeouts"),
            "infos": pa.StructArray.from_arrays([pa.array(["text"] * len(cost)), pa.array(cost)], ["note", "cost"]),
        }
        place = folder / "data" / str(number)
        place.mkdir(parents=True, exist_ok=True)
        batch = pa.RecordBatch.from_pydict(batch)
        with pa.ipc.new_file(place / "part-0.arrow", batch.schema) as file:
            file.write_batch(batch.slice(0, 3))
            file.write_batch(batch.slice(3))
        (place / "metadata.json").write_text(json.dumps({"id": number, "total_steps": end - start}))
    space = json.dumps({"type": "Box", "dtype": "float32", "shape": [2], "low": [-1, -1], "high": [1, 1]})
    about = {"total_episodes": 4, "data_format": "arrow", "action_space": space}
    (folder / "data" / "metadata.json").write_text(json.dumps(about))


def d4rl(path):
    data = columns()
    with h5py.File(path, "w") as file:
        for key in ["observations", "actions", "rewards", "terminals", "timeouts"]:
            file[key] = data[key]
        file["infos/cost"] = data["costs"]


def npz():
    data = columns()
    kinds = {"rewards": "<f8", "costs": "<i8", "terminals": "?", "timeouts": "u1", "actions": ">f4"}
    arrays = {key: values.astype(kinds.get(key, "<f4")) for key, values in data.items()}
    np.savez_compressed(FOLDER / "all.npz", **arrays)
    np.savez(FOLDER / "fortran.npz", **{**arrays, "observations": np.asfortranarray(arrays["observations"])})
    halves = {key: values.astype("<f2") if values.dtype.kind == "f" else values for key, values in arrays.items()}
    np.savez(FOLDER / "half.npz", **halves)
    np.savez(FOLDER / "strings.npz", **{**arrays, "costs": arrays["costs"].astype(str)})
    np.savez(FOLDER / "images.npz", **{**arrays, "observations": np.zeros((24, 2, 2))})


def parquet():
    data = columns()
    lists = {key: list(values) if values.ndim == 2 else values for key, values in data.items()}
    pq.write_table(pa.table(lists), FOLDER / "lists.parquet", compression="snappy", row_group_size=10)
    spread = {"r": data["rewards"], "done": data["terminals"], "cut": data["timeouts"], "c": data["costs"].astype("i4")}
    for column in range(3):
        # Out of their order, and with a number of two digits.
        spread[f"s_{11 - column}"] = data["observations"][:, 2 - column].astype("f4")
        spread[f"t{column}"] = data["next_observations"][:, column]
    spread["left"], spread["right"] = data["actions"].T
    table = pa.table(spread)
    pq.write_table(table, FOLDER / "spread.parquet", compression="zstd", use_dictionary=False)
    pq.write_table(table, FOLDER / "gzip.parquet", compression="gzip", data_page_version="2.0")
    pq.write_table(table, FOLDER / "checksums.parquet", write_page_checksum=True, use_dictionary=False)
    # An episode per row: states are one more than actions, and no column ends anything.
    parts = list(zip([0, *ENDS], ENDS))
    states = [np.concatenate([data["observations"][a:b], data["next_observations"][b - 1 : b]]) for a, b in parts]
    nested = {"observations": [list(map(list, rows)) for rows in states]}
    nested["actions"] = [list(map(list, data["actions"][a:b])) for a, b in parts]
    nested["rewards"] = [list(data["rewards"][a:b]) for a, b in parts]
    nested["costs"] = [list(data["costs"][a:b]) for a, b in parts]
    pq.write_table(pa.table(nested), FOLDER / "nested.parquet")
    # Rows of four environments in turn, a minute apart, and one cost that nobody logged.
    turn = np.argsort(np.tile(np.arange(6), 4), kind="stable")
    start = np.datetime64("2026-01-31T12:00:00", "ms")
    log = {"observation": list(data["observations"][turn]), "action": list(data["actions"][turn])}
    log |= {"reward": data["rewards"][turn], "env": [f"env-{row // 6}" for row in turn]}
    log |= {"cost": [None if row == 8 else data["costs"][row] for row in turn]}
    log |= {"timestamp": start + (turn % 6) * np.timedelta64(60_000, "ms")}
    pq.write_table(pa.table(log), FOLDER / "log.parquet")
    null = lists | {"rewards": [None, *data["rewards"][1:]]}
    pq.write_table(pa.table(null), FOLDER / "null.parquet")
    ragged = lists | {"actions": [[0.0], *list(data["actions"])[1:]]}
    pq.write_table(pa.table(ragged), FOLDER / "ragged.parquet")
    pq.write_table(pa.table(lists | {"rewards": ["a"] * 24}), FOLDER / "text.parquet")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    minari(FOLDER / "minari.hdf5")
    minari(FOLDER / "minari_cut.hdf5", cut=True)
    dictionary(FOLDER / "dictionary.hdf5")
    goal(FOLDER / "goal.hdf5")
    d4rl(FOLDER / "d4rl.hdf5")
    arrow(FOLDER / "arrow")
    arrow(FOLDER / "arrow_goal", join=False)
    npz()
    parquet()
