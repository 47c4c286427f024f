"""Detection on more images than one process can take: what the inputs are, finished parts, the engine, the results."""
