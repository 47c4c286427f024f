"""What a network learns from: targets, matching, sampling and the losses of every publisher."""
