"""A model, its numerics, its losses and its training as data: nothing here imports torch or OpenCV."""
