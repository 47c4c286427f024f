"""Pure tensor functions; nothing here knows a model, a file or a publisher."""
