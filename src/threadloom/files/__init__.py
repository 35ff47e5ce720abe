"""Files and uploads: their rows, and the blobs that hold their bytes."""
