"""How good is this pretrained Earth-observation backbone, really?"""

__version__ = "0.1.0"
