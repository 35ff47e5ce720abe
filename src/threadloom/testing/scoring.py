"""What the scripted server answers to who wants texts embedded or reranked."""

from base64 import b64encode
from typing import Any

from threadloom.testing.embedder import hashed
from threadloom.testing.reranker import overlap

Request = dict[str, Any]


def embeddings(request: Request) -> Request:
    """The last text's vector first: its `index` says whose a vector is, not its place."""
    vectors = [3 * hashed(text, request.get("dimensions", 64)) for text in request["input"]]
    as_text = request.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": b64encode(vector.tobytes()).decode() if as_text else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data[::-1], "model": request["model"]}


def rankings(request: Request) -> Request:
    """The best `top_n`, the worst first: its `index` says whose a score is, not its place."""
    scores = [overlap(request["query"], text) for text in request["documents"]]
    results = [
        {"index": index, "relevance_score": score}
        for index, score in sorted(enumerate(scores), key=lambda scored: scored[1])
    ]
    return {"model": request.get("model"), "results": results[-request["top_n"] :]}
