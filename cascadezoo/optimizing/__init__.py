"""A network prepared for inference on one device, in one precision; ``Detector.optimize`` is the way in.

``precision.py`` says what can be computed where; ``weights.py`` makes the network's copy, in lean form (``lean.py``)
and, on a CPU, the layers of ``cpu.py``, where ``memory.py`` keeps what is freed, on a GPU those of
``cudnn.py``; ``graphs.py`` decides which batches are recorded and keeps them, ``cuda.py`` records them as CUDA graphs;
``inference_only.py`` holds what the result refuses, and ``difference.py`` measures what a narrower precision changes.
"""
