"""How good is this pretrained Earth-observation backbone, really?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ssl4eo-bench")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+checkout"
