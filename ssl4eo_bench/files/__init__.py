"""Files on disk: downloads, archives, hashes, locks, and writing them whole or not at all. No torch."""
