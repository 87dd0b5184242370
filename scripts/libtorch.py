"""Unpacks the CPU part of libtorch from Python wheels into one folder.

Usage: libtorch.py WHEEL_DIR TARGET_DIR VERSION

The wheel of torch is a zip that already holds the libraries and headers the Rust bindings need. libtorch_cpu.so
names two CUDA support libraries as dependencies even on a machine without a GPU; they come from their own wheels.
Nothing is executed from the wheels and no Python package is installed.
"""

import os
import shutil
import sys
import zipfile

LIBRARIES = {
    "torch-": ["libtorch_cpu.so", "libc10.so", "libgomp.so.1"],
    "nvidia_cuda_runtime-": ["libcudart.so.13"],
    "nvidia_cuda_cupti-": ["libcupti.so.13"],
}


def wheel(folder: str, prefix: str) -> str:
    found = [name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(".whl")]
    if len(found) != 1:
        sys.exit(f"{folder}: expected exactly one wheel named {prefix}*.whl, found {found}")
    return os.path.join(folder, found[0])


def extract(archive: zipfile.ZipFile, member: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def main() -> None:
    wheels, target, version = sys.argv[1:4]
    for prefix, libraries in LIBRARIES.items():
        with zipfile.ZipFile(wheel(wheels, prefix)) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/")]
            for library in libraries:
                matches = [name for name in members if name.endswith("/" + library)]
                if not matches:
                    sys.exit(f"{archive.filename}: no {library} inside")
                extract(archive, matches[0], os.path.join(target, "lib", library))
            for name in members:
                if name.startswith("torch/include/"):
                    extract(archive, name, os.path.join(target, name[len("torch/") :]))
                elif prefix == "torch-" and "dist-info/" in name and "license" in name.lower():
                    extract(archive, name, os.path.join(target, "licenses", os.path.basename(name)))
    # A linker script: the bindings ask for -ltorch, the CPU build is all in torch_cpu.
    with open(os.path.join(target, "lib", "libtorch.so"), "w", encoding="ascii") as script:
        script.write("INPUT(-ltorch_cpu)\n")
    # Written last: its presence says that the folder is complete.
    with open(os.path.join(target, "build-version"), "w", encoding="ascii") as stamp:
        stamp.write(version + "\n")


if __name__ == "__main__":
    main()
