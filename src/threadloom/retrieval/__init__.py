"""Documents in, passages out: parsing, embedding, indexes, ranking, ingestion."""

import os

# onnxruntime tells its maker how it is used unless it finds this when it is loaded, which happens below this package
# (tests/test_no_outbound.py).
os.putenv("ORT_DISABLE_TELEMETRY", "1")
