"""How good is this pretrained Earth-observation backbone, really?"""

__version__ = "0.2.0"
