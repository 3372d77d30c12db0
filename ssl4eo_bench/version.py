"""The version of the package. It stands alone, so that what needs it does not import the Python API."""

__version__ = "0.2.0"
