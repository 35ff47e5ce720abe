"""Building the sandbox's image: what is said, what is refused, and how an old image is known."""

from collections.abc import Generator
from pathlib import Path

import pytest

from threadloom.config import CodeInterpreter
from threadloom.errors import StartError
from threadloom.sandbox.building import build, connected, lines, look
from threadloom.sandbox.engine import Engine
from threadloom.sandbox.recipe import RECIPE, fingerprint
from threadloom.sandbox.session import SandboxUnavailable

BASE = CodeInterpreter().image


@pytest.fixture
def settings(tmp_path: Path) -> Generator[CodeInterpreter]:
    """An image of the test's own."""
    settings = CodeInterpreter(image=f"threadloom-test-{tmp_path.parent.name}".lower())
    yield settings
    if look(settings).image:
        with connected(settings) as engine:
            engine.remove_image(settings.image)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Takes a second to build."""
    (tmp_path / "Dockerfile").write_text("ARG BASE=none\nFROM ${BASE}\nCOPY a.txt /a.txt\n")
    (tmp_path / "a.txt").write_text("a")
    return tmp_path


@pytest.mark.docker
def test_an_image_is_built_on_any_base_and_known_by_its_recipe(
    settings: CodeInterpreter, recipe: Path
) -> None:
    assert look(settings, recipe).image is None
    said = list(build(settings, base=BASE, recipe=recipe))
    assert said[0].endswith("ARG BASE=none")
    assert said[-1].startswith("Successfully tagged")
    assert look(settings, recipe).current
    (recipe / "a.txt").write_text("b")
    assert not look(settings, recipe).current


@pytest.mark.docker
def test_an_image_of_another_version_is_not_used(settings: CodeInterpreter, recipe: Path) -> None:
    list(build(settings, base=BASE, recipe=recipe))
    engine = Engine(settings)
    for use in (engine.check, engine.start):
        with pytest.raises(SandboxUnavailable) as refusal:
            use()
        sentence = f"The sandbox's image `{settings.image}` is of another version: run `threadloom sandbox build`."
        assert str(refusal.value) == sentence
    engine.close()


@pytest.mark.docker
def test_what_was_built_before_is_used_unless_told_otherwise(
    settings: CodeInterpreter, recipe: Path
) -> None:
    built = [list(build(settings, base=BASE, recipe=recipe)) for _ in range(2)]
    assert any("Using cache" in line for line in built[1])
    again = list(build(settings, base=BASE, recipe=recipe, cache=False))
    assert not any("Using cache" in line for line in again)


@pytest.mark.docker
def test_a_step_that_fails_is_named(settings: CodeInterpreter, recipe: Path) -> None:
    with (recipe / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("RUN echo no room; exit 7\n")
    said: list[str] = []
    with pytest.raises(StartError, match=r"^The sandbox's image could not be built: .*exit 7"):
        said.extend(build(settings, base=BASE, recipe=recipe))
    assert look(settings, recipe).image is None


def test_whole_lines_are_given() -> None:
    events = [{"stream": "Step 1"}, {"stream": " : FROM\n\n a"}, {"aux": ""}, {"stream": "b \nc"}]
    assert list(lines(events)) == ["Step 1 : FROM", " ab", "c"]


def test_an_error_ends_the_build() -> None:
    given = lines([{"stream": "a\n"}, {"error": "no such image"}])
    assert next(given) == "a"
    with pytest.raises(StartError, match="could not be built: no such image"):
        next(given)


def test_any_change_of_a_recipe_shows(recipe: Path) -> None:
    first = fingerprint(recipe)
    (recipe / "__pycache__").mkdir()
    (recipe / "__pycache__" / "a.pyc").write_bytes(b"")
    assert fingerprint(recipe) == first
    (recipe / "a.txt").rename(recipe / "b.txt")
    assert fingerprint(recipe) != first


def test_the_recipe_is_part_of_the_package() -> None:
    assert {"Dockerfile", "requirements.txt", "driver.py"} <= {p.name for p in RECIPE.iterdir()}
