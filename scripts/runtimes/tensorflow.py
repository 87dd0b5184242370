"""Unpacks TensorFlow's C libraries and headers from its Python wheel.

Usage: tensorflow.py WHEEL_DIR TARGET_DIR

Nothing is executed from the wheel and no Python package is installed.
"""

import os
import shutil
import sys
import zipfile

LIBRARIES = {
    # The names tfjs-node links by, and the files that hold them: libtensorflow_cc has the C API.
    "libtensorflow.so": "libtensorflow_cc.so.2",
    "libtensorflow_framework.so": "libtensorflow_framework.so.2",
}
HEADERS = ("tensorflow/c/", "tensorflow/core/platform/ctstring", "tsl/c/", "tsl/platform/ctstring")


def extract(archive: zipfile.ZipFile, member: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def main() -> None:
    wheels, target = sys.argv[1:3]
    found = [name for name in os.listdir(wheels) if name.endswith(".whl")]
    if len(found) != 1:
        sys.exit(f"{wheels}: expected exactly one wheel, found {found}")
    with zipfile.ZipFile(os.path.join(wheels, found[0])) as archive:
        members = archive.namelist()
        for name, library in LIBRARIES.items():
            if f"tensorflow/{library}" not in members:
                sys.exit(f"{found[0]}: no {library} inside")
            extract(archive, f"tensorflow/{library}", os.path.join(target, "lib", library))
            os.symlink(library, os.path.join(target, "lib", name))
        for member in members:
            path = member.removeprefix("tensorflow/include/")
            if path != member and path.startswith(HEADERS) and path.endswith(".h"):
                extract(archive, member, os.path.join(target, "include", path))


if __name__ == "__main__":
    main()
