"""What the sandbox's image is made from, and how an image of another version is known."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).with_name("image")
LABEL = "threadloom.recipe"
"""On an image, and on those made from it: the fingerprint of its recipe."""


def fingerprint(recipe: Path) -> str:
    """Of all that goes into the image; another version of this program may need another image."""
    digest = hashlib.sha256()
    for path in sorted(recipe.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(recipe)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def recipe_of(image: Mapping[str, Any]) -> str | None:
    """The fingerprint that an image has, as the engine describes it."""
    labels: Mapping[str, str] = image["Config"]["Labels"] or {}
    return labels.get(LABEL)
