"""Unpacks the CPU part of libtorch from Python wheels into one folder.

Usage: libtorch.py WHEEL_DIR TARGET_DIR VERSION WHEELS

WHEELS is JSON: [{"requirement": "torch==2.13.0", "libraries": [...], "linkOnly": [...]}, ...]. The wheel of torch is a
zip that already holds the libraries and headers the Rust bindings need; the licences of everything inside, its third
parties included, are kept under licenses/ by the name of the wheel. Nothing is executed from the wheels and no Python
package is installed.
"""

import json
import os
import re
import shutil
import sys
import zipfile

LICENCE = re.compile(r"\.dist-info/(?:licenses/)?(.*(?:licen[cs]e|notice|copying)[^/]*)$", re.IGNORECASE)


def wheel(folder: str, name: str) -> str:
    found = [file for file in os.listdir(folder) if file.startswith(name + "-") and file.endswith(".whl")]
    if len(found) != 1:
        sys.exit(f"{folder}: expected exactly one wheel named {name}-*.whl, found {found}")
    return os.path.join(folder, found[0])


def extract(archive: zipfile.ZipFile, member: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def unpack(archive: zipfile.ZipFile, name: str, libraries: list, target: str) -> None:
    members = [member for member in archive.namelist() if not member.endswith("/")]
    for library in libraries:
        matches = [member for member in members if member.endswith("/" + library)]
        if not matches:
            sys.exit(f"{archive.filename}: no {library} inside")
        extract(archive, matches[0], os.path.join(target, "lib", library))
    licences = 0
    for member in members:
        licence = LICENCE.search(member)
        if licence:
            extract(archive, member, os.path.join(target, "licenses", name, licence.group(1)))
            licences += 1
        elif member.startswith("torch/include/"):
            extract(archive, member, os.path.join(target, member[len("torch/") :]))
    if licences == 0:
        sys.exit(f"{archive.filename}: no licence inside; what has none cannot be passed on")


def main() -> None:
    folder, target, version = sys.argv[1:4]
    for entry in json.loads(sys.argv[4]):
        name = re.split(r"[=<>!~]", entry["requirement"])[0].replace("-", "_")
        with zipfile.ZipFile(wheel(folder, name)) as archive:
            unpack(archive, name, entry["libraries"] + entry.get("linkOnly", []), target)
    if os.path.exists(os.path.join(target, "lib", "libtorch_cpu.so")):
        # A linker script: the bindings ask for -ltorch, the CPU build is all in torch_cpu.
        with open(os.path.join(target, "lib", "libtorch.so"), "w", encoding="ascii") as script:
            script.write("INPUT(-ltorch_cpu)\n")
    # Written last: its presence says that the folder is complete.
    with open(os.path.join(target, "build-version"), "w", encoding="ascii") as stamp:
        stamp.write(version + "\n")


if __name__ == "__main__":
    main()
