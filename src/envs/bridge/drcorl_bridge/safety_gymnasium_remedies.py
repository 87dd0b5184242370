"""What safety-gymnasium 1.0.0 needs to be imported on Python 3.11 and to reset in milliseconds.

Neither changes a number: observations, rewards and costs of whole episodes are the same bytes with and without.
"""

import contextlib
import copy
import dataclasses
import sys
import types

#: A texture MuJoCo computes itself. The original sky is six PNG files of 2 to 5 MB,
#: decoded at every reset of a navigation task.
PLAIN_SKY = {
    "@type": "skybox",
    "@builtin": "gradient",
    "@rgb1": "0.3 0.5 0.7",
    "@rgb2": "0 0 0",
    "@width": "16",
    "@height": "96",
}


def apply():
    """Imports safety_gymnasium, after which its environments are registered."""
    with tolerant_dataclasses():
        import safety_gymnasium.builder
        import safety_gymnasium.tasks  # noqa: F401
        import safety_gymnasium.world
    use_plain_sky(safety_gymnasium.world)


@contextlib.contextmanager
def tolerant_dataclasses():
    """Lets array defaults of dataclasses pass, which Python refuses from 3.11 on: each becomes a factory of copies."""
    original = dataclasses.dataclass
    if sys.version_info < (3, 11):
        yield
        return

    def dataclass(cls=None, **options):
        if cls is None:
            return lambda decorated: dataclass(decorated, **options)
        for name in cls.__dict__.get("__annotations__", {}):
            default = cls.__dict__.get(name)
            if type(default).__name__ == "ndarray":
                setattr(cls, name, dataclasses.field(default_factory=default.copy))
        return original(cls, **options)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


def use_plain_sky(world):
    """
    Parses the table of assets once instead of at every reset, and replaces its sky.

    :param world: the module `safety_gymnasium.world`,
        which reads the table by `yaml.load(file, Loader=yaml.FullLoader)`.
    """
    original = world.yaml
    tables = {}

    def load(file, Loader):  # noqa: N803, yaml's own spelling
        if file.name not in tables:
            table = original.load(file, Loader=Loader)
            table["textures"]["skybox"] = PLAIN_SKY
            tables[file.name] = table
        # The world is built out of parts of the table.
        return copy.deepcopy(tables[file.name])

    world.yaml = types.SimpleNamespace(load=load, FullLoader=original.FullLoader)
