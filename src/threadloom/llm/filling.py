"""A JSON value for a schema, taken from what a person wrote: the embedded model's only way to write JSON."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from threadloom.llm.words import key_phrase, stem, topic_stems

Schema = Mapping[str, Any]

DEEPEST = 12
PLAIN_KINDS = ("string", "integer", "number")
ALTERNATIVES = ("anyOf", "oneOf", "allOf")
NULL = {"type": "null"}
NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w]|[.:-]\d)")
QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)|`([^`]+)`|«([^»]+)»")
NEGATION = re.compile(
    r"\b(not|no|without|never|disable|don['\u2019]t)\b[\w\s]{0,20}$", re.IGNORECASE
)
NAMES = r"([A-ZÀ-Þ][\w'\u2019.-]*(?:(?:,\s*|\s+(?:de|la|of|the)\s+|\s+)[A-ZÀ-Þ][\w'\u2019.-]*)*)"
PLAIN = r"([\w'\u2019-]+)"
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
FORMATS = {
    "date": (r"\b\d{4}-\d{2}-\d{2}\b", "1970-01-01"),
    "date-time": (r"\b\d{4}-\d{2}-\d{2}T[\d:.]+(?:Z|[+-]\d\d:\d\d)", "1970-01-01T00:00:00Z"),
    "time": (r"\b\d{2}:\d{2}:\d{2}(?:Z|[+-]\d\d:\d\d)", "00:00:00Z"),
    "email": (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "user@example.com"),
    "uri": (r"https?://[^\s\"'<>]+[^\s\"'<>.,!?]", "https://example.com"),
    "uuid": (
        r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
        "0" * 8 + "-0000" * 3 + "-" + "0" * 12,
    ),
}
# Which little words lead to which kind of property.
PREPOSITIONS = (
    (("origin", "from", "source", "departure", "sender"), ("from",)),
    (("destination", "to", "recipient", "arrival", "target"), ("to",)),
    (("city", "location", "place", "country", "town", "region", "address", "state", "area"), ("in", "at", "near", "for", "of", "to", "from")),
    (("name", "person", "customer", "contact", "guest"), ("for", "named", "called", "with", "to", "by")),
    (("company", "symbol", "ticker", "stock", "product", "item"), ("of", "for")),
)  # fmt: skip


@dataclass
class Message:
    """What a person wrote; a value that was taken is not taken again."""

    text: str
    known: set[str] = field(default_factory=set[str])
    taken: set[int] = field(default_factory=set[int])

    def take(self, pattern: str | re.Pattern[str], flags: int = 0) -> str | None:
        """The first match that nobody has: its first group that took part, or all of it."""
        for found in re.finditer(pattern, self.text, flags):
            value = next((group for group in found.groups() if group), found[0])
            place = self.text.index(value, found.start())
            if place not in self.taken:
                self.taken.add(place)
                return value
        return None

    def mentions(self, words: str) -> bool:
        pattern = rf"(?<!\w){re.escape(words)}(?!\w)"
        return re.search(pattern, self.text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Property:
    """A place to fill. `root` resolves references; without `required` only a clear match fills it."""

    name: str
    schema: Schema
    root: Schema
    required: bool = True
    depth: int = 0

    @property
    def spoken(self) -> str:
        return self.name.replace("_", " ")

    @property
    def words(self) -> set[str]:
        return {word.lower() for word in re.findall(r"[A-Za-z][a-z]*", self.name)}

    def child(self, name: str, schema: object, *, required: bool = True) -> "Property":
        resolved = resolve(schema, self.root)
        return Property(name, resolved, self.root, required, self.depth + 1)


class Nothing:
    """No value was found."""


NOTHING = Nothing()


def fill(schema: Schema, text: str, *, about: str = "") -> Any:
    """A value of `schema`; `about` is what the function says of itself, which is no argument."""
    message = Message(text, known=topic_stems(about))
    value = fill_property(Property("", resolve(schema, schema), schema), message)
    return {} if value is NOTHING else value


def as_schema(value: object) -> Schema:
    """Schemas are callers' JSON: what is no object says nothing."""
    return cast(Schema, value) if isinstance(value, Mapping) else {}  # keys of JSON are strings


def resolve(schema: object, root: Schema) -> Schema:
    """The schema without references, alternatives replaced by the first that is not null."""
    found = as_schema(schema)
    for _ in range(DEEPEST):
        if "$ref" in found:
            found = as_schema(look_up(str(found["$ref"]), root))
            continue
        parts: list[Any] = found.get("anyOf") or found.get("oneOf") or found.get("allOf") or []
        if not parts:
            return found
        chosen = as_schema(next((part for part in parts if part != NULL), NULL))
        found = {k: v for k, v in found.items() if k not in ALTERNATIVES} | dict(chosen)
    return {}


def look_up(reference: str, root: Schema) -> object:
    """`#/$defs/Name` within the document."""
    place: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        place = place.get(step, {}) if step else place
    return place


def fill_property(place: Property, message: Message) -> Any:
    schema = place.schema
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return fill_enum(place, message)
    kind = kind_of(schema)
    if kind == "null":
        return None
    if place.depth > DEEPEST:
        return fallback(schema, kind) if place.required else NOTHING
    if kind not in FILLERS:
        kind = "string"
    value = FILLERS[kind](place, message)
    if value is NOTHING and place.required:
        return fallback(schema, kind)
    return value


def kind_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds: list[str] = kind  # pyright: ignore[reportUnknownVariableType]
        kind = next((one for one in kinds if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def nullable(schema: object) -> bool:
    found = as_schema(schema)
    kind = found.get("type")
    return (isinstance(kind, list) and "null" in kind) or NULL in found.get("anyOf", ())


def fallback(schema: Schema, kind: str) -> Any:
    if "default" in schema:
        return schema["default"]
    if kind in ("integer", "number"):
        return within(0, schema)
    empty: dict[str, Any] = {"boolean": False, "array": [], "object": {}}
    return empty.get(kind, "")


def fill_enum(place: Property, message: Message) -> Any:
    members: list[Any] = place.schema["enum"]
    spoken = [
        m for m in members if message.mentions(str(m).replace("_", " ")) or message.mentions(str(m))
    ]
    if spoken:
        return max(spoken, key=lambda member: len(str(member)))
    if not place.required:
        return NOTHING
    return place.schema.get("default", members[0])


def fill_object(place: Property, message: Message) -> Any:
    properties: Mapping[str, Any] = place.schema.get("properties") or {}
    required: list[str] = place.schema.get("required") or []
    filled: dict[str, Any] = {}
    # What must be there chooses first.
    for name in sorted(properties, key=lambda name: name not in required):
        needs = name in required and not nullable(properties[name])
        value = fill_property(place.child(name, properties[name], required=needs), message)
        if value is not NOTHING:
            filled[name] = value
        elif name in required:
            filled[name] = None
    ordered = [name for name in [*properties, *required] if name in filled or name in required]
    if not filled and not place.required:
        return NOTHING
    return {name: filled.get(name, "") for name in ordered}


def fill_array(place: Property, message: Message) -> Any:
    items = place.child(place.name, place.schema.get("items") or {}, required=False)
    most = place.schema.get("maxItems", 20)
    values: list[Any] = []
    if items.schema.get("enum"):
        values = [m for m in items.schema["enum"] if message.mentions(str(m))]
    elif (place.required or is_named(place, message)) and kind_of(items.schema) in PLAIN_KINDS:
        while len(values) < most and (value := fill_property(items, message)) is not NOTHING:
            values.append(value)
    needed = place.child(place.name, place.schema.get("items") or {})
    least = place.schema.get("minItems", 1 if place.required and needed.schema else 0)
    while len(values) < least:
        values.append(fill_property(needed, message))
    return values[:most] if values or place.required else NOTHING


def is_named(place: Property, message: Message) -> bool:
    return bool(topic_stems(place.name) & topic_stems(message.text))


def fill_boolean(place: Property, message: Message) -> Any:
    words = [word for word in place.words if word not in ("is", "has", "with", "include", "use")]
    for word in words:
        found = re.search(rf"\b{re.escape(stem(word))}", message.text, re.IGNORECASE)
        if found:
            return NEGATION.search(message.text[: found.start()]) is None
    return NOTHING


def fill_number(place: Property, message: Message) -> Any:
    number = named_value(place, message, r"(-?\d+(?:\.\d+)?)")
    # A bare number means an optional property only where a list of numbers is collected.
    if number is None and (place.required or not place.name or place.depth > 1):
        number = message.take(NUMBER) or number_word(message)
    if number is None:
        return NOTHING
    value = float(number)
    return within(
        int(value) if kind_of(place.schema) == "integer" or value.is_integer() else value,
        place.schema,
    )


def number_word(message: Message) -> str | None:
    word = message.take(rf"\b({'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
    return None if word is None else str([*NUMBER_WORDS].index(word.lower()))


def within(number: float, schema: Schema) -> float:
    """The nearest number that the schema allows."""
    if "minimum" in schema:
        number = max(number, schema["minimum"])
    if "exclusiveMinimum" in schema and number <= schema["exclusiveMinimum"]:
        number = schema["exclusiveMinimum"] + 1
    if "maximum" in schema:
        number = min(number, schema["maximum"])
    if "exclusiveMaximum" in schema and number >= schema["exclusiveMaximum"]:
        number = schema["exclusiveMaximum"] - 1
    return number


def fill_string(place: Property, message: Message) -> Any:
    value = found_string(place, message)
    if value is None and place.required:
        value = key_phrase(message.text, message.known)
    if value is None:
        return NOTHING
    least, most = place.schema.get("minLength", 0), place.schema.get("maxLength")
    return value[:most].ljust(least, ".")


def found_string(place: Property, message: Message) -> str | None:
    if pattern := place.schema.get("pattern"):
        return fitting(str(pattern), message)
    if (format_ := place.schema.get("format")) in FORMATS:
        expression, otherwise = FORMATS[str(format_)]
        return message.take(expression) or (otherwise if place.required else None)
    value = named_value(place, message, r"\"([^\"]+)\"|" + PLAIN)
    if value is None and "date" in place.words:
        value = message.take(FORMATS["date"][0])
    if value is None and "email" in place.words:
        value = message.take(FORMATS["email"][0])
    return value or message.take(QUOTED) or after_preposition(place, message)


def fitting(pattern: str, message: Message) -> str | None:
    words = re.findall(r"\S+", message.text)
    stripped = [word.strip(".,;:!?\"'()") for word in words]
    return next((word for word in (*stripped, *words) if re.search(pattern, word)), None)


def named_value(place: Property, message: Message, value: str) -> str | None:
    """`city: Paris`, `city = "Paris"`; a number may also follow its name directly."""
    if not place.name:
        return None
    joint = "[:=]|\\bis\\b" if PLAIN in value else "[:=]|\\bis\\b|\\bof\\b|\\bto\\b|"
    return message.take(
        rf"\b{re.escape(place.spoken)}\"?\s*(?:{joint})\s*(?:{value})", re.IGNORECASE
    )


def after_preposition(place: Property, message: Message) -> str | None:
    """`in Paris` for a city, `from Rome to Oslo` for an origin and a destination."""
    described = place.words | set(
        re.findall(r"[a-z]+", str(place.schema.get("description", "")).lower())
    )
    for known in (place.words, described):
        for words, prepositions in PREPOSITIONS:
            if known.intersection(words):
                return follow(prepositions, message)
    return None


def follow(prepositions: tuple[str, ...], message: Message) -> str | None:
    lead = rf"\b(?:{'|'.join(prepositions)})\s+(?:the\s+)?"
    names = message.take(f"(?i:{lead}){NAMES}")
    if names is not None:
        return names.rstrip(".,'\u2019-")
    return message.take(lead + r"(?!the\b|a\b|an\b|me\b|my\b|today\b|now\b)" + PLAIN, re.IGNORECASE)


FILLERS = {
    "object": fill_object,
    "array": fill_array,
    "boolean": fill_boolean,
    "integer": fill_number,
    "number": fill_number,
    "string": fill_string,
}
