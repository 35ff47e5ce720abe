"""Uploads: large files, sent in parts."""

from typing import Literal

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]
