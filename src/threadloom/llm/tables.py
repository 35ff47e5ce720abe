"""The Python that the embedded model writes for a table: the same analysis of any table, as a person might have written it.

What it prints begins with `FINDINGS` and a few lines that the model repeats to the user. It leaves `df` behind, and goes on with the `df` that
an analysis before it left, whatever was done to it since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

FINDINGS = "In short:"

SEPARATED = r"""
def read(path):
    with path.open("rb") as file:
        head = file.read(100_000)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        encoding = "cp1252"
        text = head.decode(encoding, "replace")
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
    decimal = "," if separator == ";" and re.search(r"\d,\d", text) else "."
    options = dict(sep=separator, decimal=decimal, encoding=encoding, encoding_errors="replace")
    try:
        return pd.read_csv(path, **options)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except pd.errors.ParserError:
        odd = []
        table = pd.read_csv(path, engine="python", on_bad_lines=odd.append, **options)
        table.attrs["note"] = f"Lines with too many fields, left out: {len(odd)}."
        return table
"""
WORKBOOK = r"""
def read(path):
    sheets = pd.read_excel(path, sheet_name=None)
    name = next((name for name, sheet in sheets.items() if len(sheet)), next(iter(sheets)))
    if len(sheets) > 1:
        sheets[name].attrs["note"] = f"This is sheet {name!r}; the workbook has {len(sheets)}."
    return sheets[name]
"""
JSON = r"""
def read(path):
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        records = [value for value in lists if value and isinstance(value[0], dict)]
        if lists and not records:
            return pd.DataFrame(content)
        content = records[0] if records else [content]
    content = content if isinstance(content, list) else [content]
    return pd.json_normalize([one if isinstance(one, dict) else {"value": one} for one in content])
"""
READERS = {
    ".csv": ("import codecs\n", SEPARATED),
    ".tsv": ("import codecs\n", SEPARATED),
    ".xlsx": ("", WORKBOOK),
    ".json": ("import json\n", JSON),
}
EXTENSIONS = tuple(READERS)

HEAD = """\
{needed}import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

path = Path({path})
asked = {asked}.split()

"""
COLUMNS = r"""

def is_asked(name):
    words = re.findall(r"[^\W_]+", name.lower())
    return bool(words) and (set(words) <= set(asked) or not name.isascii() and name.lower() in " ".join(asked))


def first(names, otherwise=()):
    return next(filter(is_asked, names), next(iter(otherwise), None))


def is_number(column):
    kind = pd.api.types
    return kind.is_numeric_dtype(column) and not kind.is_bool_dtype(column) and bool(column.notna().any())


def as_dates(column):
    if pd.api.types.is_datetime64_any_dtype(column):
        return column
    texts = column.dropna().astype(str)
    name = column.name.lower()
    if pd.api.types.is_numeric_dtype(column):
        years = name == "year" and texts.str.fullmatch(r"[12]\d{3}(?:\.0)?").all() and len(texts)
        return pd.to_datetime(texts.str[:4], format="%Y").reindex(column.index) if years else None
    if texts.empty or texts.str.contains(r"\d" if "date" in name else r"(?:19|20)\d\d").mean() < 0.9:
        return None
    day_first = bool(texts.str.match(r"(?:1[3-9]|2\d|3[01])[./-]|\d\d?\.\d").any())
    options = dict(format="mixed", dayfirst=day_first, errors="coerce", utc=True)
    if pd.to_datetime(texts.head(500), **options).notna().mean() < 0.9:
        return None
    return pd.to_datetime(column, **options).dt.tz_localize(None)


def short(value):
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.4g}"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return " ".join(str(value).removesuffix(" 00:00:00").split())[:40]
"""
DRAWING = r"""

def select(dates, numbers, texts):
    number, date, text = first(numbers, numbers), first(dates, dates), first(texts)
    if number is None:
        distinct = {name: df[name].dropna().astype(str).nunique() for name in texts or dates}
        name = text or min(distinct, key=lambda name: (distinct[name] == 1, distinct[name]))
        return df[name].dropna().astype(str).value_counts(), f"number of rows by {short(name)}"
    values = df[number].replace([np.inf, -np.inf], np.nan)
    means = r"price|rate|ratio|percent|%|temp|score|\bage\b|average|mean"
    how = "mean" if re.search(means, number.lower()) or {"mean", "average"} & set(asked) else "sum"
    if text:
        grouped = values.groupby(df[text].dropna().astype(str))
        return grouped.agg(how).dropna().sort_values(ascending=False), f"{how} of {short(number)} by {short(text)}"
    if date and not {"histogram", "distribution"} & set(asked):
        each = f"{how} of " if dates[date].duplicated().any() else ""
        return values.groupby(dates[date].rename(date)).agg(how).dropna(), f"{each}{short(number)} by {short(date)}"
    return values.dropna(), f"distribution of {short(number)}"


def draw(series, what):
    plt.rcParams["text.parse_math"] = False
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.set(title=what[0].upper() + what[1:], xlabel=short(series.index.name), ylabel=short(series.name))
    if what.startswith("distribution"):
        axes.hist(series, bins=30)
        axes.set(xlabel=short(series.name), ylabel="number of rows")
        print(f"- {short(series.name)}: mean {short(series.mean())}, median {short(series.median())}, "
              f"from {short(series.min())} to {short(series.max())}.")
    elif pd.api.types.is_datetime64_any_dtype(series.index):
        axes.plot(series, marker="o" if len(series) <= 60 else None)
        axes.tick_params(axis="x", rotation=30)
        at = lambda date: f"{short(series[date])} ({short(date)})"
        print(f"- {what}: first {at(series.index[0])}, last {at(series.index[-1])}, "
              f"lowest {at(series.idxmin())}, highest {at(series.idxmax())}.")
        if len(series) > 2:
            days = (series.index - series.index[0]) / pd.Timedelta(days=1)
            line = np.polyval(np.polyfit(days, series.astype(float), 1), days)
            axes.plot(series.index, line, linestyle="--")
            print(f"- A straight line through it goes from {short(line[0])} to {short(line[-1])}.")
    else:
        bars = series.head(20)
        axes.bar(range(len(bars)), bars)
        axes.set_xticks(range(len(bars)), [short(label) for label in bars.index], rotation=45, ha="right")
        print(f"- {what}: most {short(series.iloc[0])} ({short(series.index[0])}), "
              f"least {short(series.iloc[-1])} ({short(series.index[-1])}), {len(series):,} in all.")
    print(f"- The chart shows the {what}.")
    plt.show()
"""
ANALYSIS = r"""

def analyse():
    dates = {name: found for name in df.columns if (found := as_dates(df[name])) is not None}
    numbers = [name for name in df.columns if name not in dates and is_number(df[name])]
    numbers.sort(key=lambda name: bool(re.search(r"(?:^|[\W_])(?:id|index|nr|no)$|^unnamed", name.lower())))
    texts = [name for name in df.columns if name not in [*dates, *numbers] and df[name].notna().any()]
    kinds = {**dict.fromkeys(dates, "date"), **dict.fromkeys(numbers, "number"), **dict.fromkeys(texts, "text")}
    columns = [f"{short(name)} ({kinds.get(name, 'empty')})" for name in df.columns]
    columns = columns[:30] + [f"{len(columns) - 30} more"] * (len(columns) > 30)
    print("In short:")
    print(f"- Rows in {path.name}: {len(df):,}. Columns: {', '.join(columns) or 'none'}.")
    if empty := int(df.isna().sum().sum()):
        print(f"- Empty cells: {empty:,}.")
    if "note" in df.attrs:
        print(f"- {df.attrs['note']}")
    series, what = select(dates, numbers, texts) if kinds else (df, "")
    if series.empty:
        print("- There is nothing to draw.")
        return df
    draw(series, what)
    if numbers and (what.startswith("distribution") or not any(map(is_asked, df.columns))):
        return df[numbers].describe().rename_axis("statistic").reset_index()
    return series.rename(what).reset_index()

"""
LOADING = r"""

if globals().get("source") != (path, path.stat().st_mtime_ns) or not isinstance(globals().get("df"), pd.DataFrame):
    df = read(path)
    df.columns = [str(name) for name in df.columns]
    source = (path, path.stat().st_mtime_ns)
"""
LOADING_ONCE = r"""

if "df" not in globals():
    df = read(path)
    df.columns = [str(name) for name in df.columns]
"""
ANALYSING = r"""
summary = analyse()
"""
SAVING = r"""
for extension in {extensions}:
    target = path.with_name("_".join(re.findall(r"[\w-]+", path.stem)) + "{suffix}" + extension)
    {content}.to_csv(target, index=False) if extension == ".csv" else {content}.to_excel(target, index=False)
    print(f"Saved {{target}}")
"""
SHOWING = r"""
print("\nFirst rows:", df.head().to_string(max_cols=12, max_colwidth=40), sep="\n")
print("\nTypes:", df.dtypes.head(30).to_string(), sep="\n")
print("\nSummary:", summary.head(30).to_string(max_cols=12, max_colwidth=40), sep="\n")
"""


@dataclass(frozen=True)
class Analysis:
    """What to do with the table at `path`, which ends with one of `EXTENSIONS`.

    `words` are those of the question, for the names of columns in it. `reuse` takes any `df` that is there, `save` are the extensions of
    files to make, of the whole table if `convert`.
    """

    path: str
    words: Sequence[str]
    reuse: bool = False
    save: Sequence[str] = ()
    convert: bool = False

    def program(self) -> str:
        needed, reader = READERS[PurePosixPath(self.path).suffix.lower()]
        parts = [
            HEAD.format(needed=needed, path=repr(self.path), asked=repr(" ".join(self.words))),
            *(reader, COLUMNS, DRAWING, ANALYSIS),
            *(LOADING_ONCE if self.reuse else LOADING, ANALYSING, self._saving(), SHOWING),
        ]
        return "".join(parts).strip() + "\n"

    def _saving(self) -> str:
        suffix, content = ("_converted", "df") if self.convert else ("_summary", "summary")
        given = {"extensions": repr(tuple(self.save)), "suffix": suffix, "content": content}
        return SAVING.format(**given) if self.save else ""
