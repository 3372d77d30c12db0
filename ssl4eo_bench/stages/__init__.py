"""The stages of a run that differ between labels of whole images and labels of pixels; `run.py` joins either."""
