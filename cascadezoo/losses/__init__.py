"""The losses of every publisher: ground truth as targets, matching, sampling, and what is minimised."""
