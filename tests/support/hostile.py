"""Files made to break what reads them, generated in seconds: bombs, loops, lies about their kind."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pypdf

from tests.support.documents import handbook_pdf, report_docx, talk_pptx

Generator = Callable[[Path], None]

MEGABYTE = 1024 * 1024
DOCX = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
LAUGHS = (
    "<!DOCTYPE x [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    + "]>"
)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 40


def archive(parts: Mapping[str, bytes | int]) -> Generator:
    """A ZIP; a number is that many megabytes of spaces."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name, content in parts.items():
                with file.open(name, "w", force_zip64=True) as part:
                    if isinstance(content, bytes):
                        part.write(content)
                    else:
                        for _ in range(content):
                            part.write(b" " * MEGABYTE)

    return make


def word(body: str, before: str = "") -> Generator:
    xml = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{DOCX}"><w:body>{body}</w:body></w:document>'
    return archive({"word/document.xml": xml.encode()})


def content(data: bytes) -> Generator:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def pdf(*objects: bytes, root: int = 1) -> Generator:
    """A PDF of these objects, numbered from 1, with a table of where they are."""

    def make(path: Path) -> None:
        out = io.BytesIO(b"%PDF-1.7\n")
        out.seek(0, io.SEEK_END)
        places: list[int] = []
        for number, body in enumerate(objects, 1):
            places.append(out.tell())
            out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        table = out.tell()
        out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
        out.writelines(b"%010d 00000 n \n" % place for place in places)
        out.write(b"trailer<</Size %d/Root %d 0 R>>\n" % (len(objects) + 1, root))
        out.write(b"startxref\n%d\n%%%%EOF" % table)
        path.write_bytes(out.getvalue())

    return make


def stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (extra, len(data), data)


CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
FONT = b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"


def one_page(contents: bytes, extra: bytes = b"") -> tuple[bytes, ...]:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 500 500]%s/Contents 4 0 R%s>>" % (FONT, extra)
    return CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page, contents


def flate_bomb(layers: int, megabytes: int) -> Generator:
    """A page's content, packed `layers` times."""

    def make(path: Path) -> None:
        data = packed_spaces(megabytes)
        for _ in range(layers - 1):
            data = zlib.compress(data, 9)
        pdf(*one_page(stream(data, b"/Filter[%s]" % (b"/FlateDecode" * layers))))(path)

    return make


def packed_spaces(megabytes: int) -> bytes:
    """As `zlib.compress` would pack them, but in a tenth of its time: one megabyte is packed, and told again and again."""
    spaces = b" " * MEGABYTE
    packer = zlib.compressobj(9)
    first = packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 1
    for _ in range(megabytes):
        checksum = zlib.adler32(spaces, checksum)
    return first + again * (megabytes - 1) + b"\x03\x00" + checksum.to_bytes(4, "big")


def million_pages(path: Path) -> None:
    """One page, listed a million times."""
    kids = b"3 0 R " * 1_000_000
    tree = b"<</Type/Pages/Count 1000000/Kids[%s]>>" % kids
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"
    pdf(CATALOG, tree, page)(path)


def truncated_pdf(path: Path) -> None:
    handbook_pdf(path)
    path.write_bytes(path.read_bytes()[:-1500])


def encrypted_pdf(path: Path) -> None:
    handbook_pdf(path)
    writer = pypdf.PdfWriter(clone_from=path)
    writer.encrypt("secret")
    writer.write(path)


def scanned_pdf(path: Path) -> None:
    image = stream(
        bytes(300),
        b"/Type/XObject/Subtype/Image/Width 10/Height 10/BitsPerComponent 8/ColorSpace/DeviceRGB",
    )
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<</XObject<</I 5 0 R>>>>/Contents 4 0 R>>"
    pdf(CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page, stream(b"/I Do"), image)(path)


def bomb_in(make: Callable[[Path], None], part: str, megabytes: int) -> Generator:
    """A good Office document, one part of which unpacks to so much."""

    def make_bomb(path: Path) -> None:
        make(path)
        with zipfile.ZipFile(path) as file:
            parts: dict[str, bytes | int] = {n: file.read(n) for n in file.namelist()}
        archive(parts | {part: megabytes})(path)

    return make_bomb


def lying_docx(path: Path) -> None:
    """A part that tells a size of a hundred bytes and holds ninety megabytes."""
    archive({"word/document.xml": 90})(path)
    data = path.read_bytes()
    true = (90 * MEGABYTE).to_bytes(4, "little")
    path.write_bytes(data.replace(true, (100).to_bytes(4, "little")))


def nested_zips(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(40 * MEGABYTE))
    for _ in range(5):
        outer = io.BytesIO()
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as file:
            for number in range(10):
                file.writestr(f"{number}.zip", inner.getvalue())
        inner = outer
    path.write_bytes(inner.getvalue())


def many_entries(path: Path) -> None:
    archive({f"part{number}.xml": b"" for number in range(120_000)})(path)


def huge_table(path: Path) -> None:
    row = "<w:tr>" + "<w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc>" * 20 + "</w:tr>"
    word(f"<w:tbl>{row * 20_000}</w:tbl>")(path)


def one_line_json(path: Path) -> None:
    """200 MB in a single line."""
    line = b'{"key": [1, 2, 3], "text": "' + b"word " * 200_000 + b'"},'
    with path.open("wb") as file:
        file.write(b"[")
        file.writelines(line for _ in range(200))
        file.write(b"{}]")


def long_one_line_json(path: Path) -> None:
    """As long as a file may be."""
    path.write_bytes(b"[" + b'{"a":1,"b":[true,null]},' * 600_000 + b"0]")


def workbook(sheet: str, strings: str = "") -> Generator:
    """A workbook of one sheet, written by hand."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>'
        f'<Override PartName="/xl/sheet1.xml" ContentType="{kinds}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/officeDocument"'
        ' Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="One" sheetId="1" r:id="r1"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/worksheet"'
        ' Target="sheet1.xml"/></Relationships>',
        "xl/sheet1.xml": f'{strings}<worksheet xmlns="{main}">{sheet}</worksheet>',
    }
    return archive({name: text.encode() for name, text in parts.items()})


SPARSE = (
    '<dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
    '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData>'
)


def linked_docx(path: Path) -> None:
    """Its document is a link out of the archive."""
    entry = zipfile.ZipInfo("word/document.xml")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(entry, "/etc/passwd")


def many_slides(path: Path) -> None:
    talk_pptx(path, [("Bees", "They dance.", "")])
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    relations = parts["ppt/_rels/presentation.xml.rels"]
    [known] = re.findall(rb'<Relationship [^>]*Target="slides/slide1.xml"[^>]*>', relations)
    [first] = re.findall(rb"<p:sldId [^>]*>", parts["ppt/presentation.xml"])
    [number] = re.findall(rb'Id="(rId\d+)"', known)
    more = [b"x%d" % n for n in range(4_999)]
    for name in more:
        parts[f"ppt/slides/{name.decode()}.xml"] = parts["ppt/slides/slide1.xml"]
    parts["ppt/_rels/presentation.xml.rels"] = relations.replace(
        known,
        known + b"".join(known.replace(b"slide1", n).replace(number, n) for n in more),
    )
    parts["ppt/presentation.xml"] = parts["ppt/presentation.xml"].replace(
        first, first + b"".join(first.replace(number, n) for n in more)
    )
    archive(parts)(path)


# A script that runs when the document is opened, and a program attached to it.
ARMED = (
    (
        b"<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.launchURL('http://127.0.0.1:9/'))>>"
        b"/Names<</EmbeddedFiles<</Names[(run.exe)<</Type/Filespec/F(run.exe)/EF<</F 5 0 R>>>>]>>>>>>"
    ),
    *one_page(stream(b"BT /F 12 Tf 9 9 Td (They dance.) Tj ET"))[1:],
    stream(b"MZ" + bytes(1000), b"/Type/EmbeddedFile"),
)


@dataclass(frozen=True)
class Hostile:
    """A file, and what is said of it: nothing when it can be read after all."""

    filename: str
    make: Generator
    says: str | None


BOMB = "unpacks to far more than its size"
DAMAGED = "it is damaged"
ENTITIES = "declares entities"
EMPTY = "because it is empty"
NO_PDF = r"it is no PDF \(it looks like: Portable Network Graphics file\)"
NO_TEXT = "it is not a text file"
LIMIT = "damaged or needs too much memory|needs too much memory|within [0-9.]+ seconds"

HOSTILE: dict[str, Hostile] = {
    "bomb.docx": Hostile("a.docx", archive({"word/document.xml": 300}), BOMB),
    "bomb in styles": Hostile("a.docx", bomb_in(report_docx, "word/styles.xml", 300), BOMB),
    "bomb.pptx": Hostile("a.pptx", archive({"ppt/presentation.xml": 300}), BOMB),
    "bomb.xlsx": Hostile("a.xlsx", bomb_in(workbook(SPARSE), "xl/sharedStrings.xml", 300), BOMB),
    "lying.docx": Hostile("a.docx", lying_docx, DAMAGED),
    "nested zips": Hostile("a.docx", nested_zips, DAMAGED),
    "many entries": Hostile("a.docx", many_entries, BOMB),
    "laughs.docx": Hostile(
        "a.docx", word("<w:p><w:r><w:t>&a9;</w:t></w:r></w:p>", LAUGHS), ENTITIES
    ),
    "laughs.xlsx": Hostile("a.xlsx", workbook("<sheetData/>", LAUGHS), ENTITIES),
    "laughs.html": Hostile("a.html", content(f"{LAUGHS}<p>&a9; bees</p>".encode()), None),
    "deep.docx": Hostile("a.docx", word("<w:sdt>" * 100_000 + "</w:sdt>" * 100_000), DAMAGED),
    "huge table": Hostile("a.docx", huge_table, None),
    "linked.docx": Hostile("a.docx", linked_docx, DAMAGED),
    "encrypted.docx": Hostile(
        "a.docx",
        content(OLE + bytes(3000) + "EncryptedPackage".encode("utf-16-le") + bytes(3000)),
        "password",
    ),
    "old.docx": Hostile(
        "a.docx", content(OLE + bytes(3000)), "it is an old Office file under a new name"
    ),
    "old.doc": Hostile("a.doc", content(OLE + bytes(3000)), "Save it as .docx"),
    "zip as docx": Hostile("a.docx", archive({"bees.txt": b"They dance."}), DAMAGED),
    "text as docx": Hostile("a.docx", content(b"They dance."), "it is no Word document"),
    "many slides": Hostile("a.pptx", many_slides, None),
    "sparse.xlsx": Hostile("a.xlsx", workbook(SPARSE), None),
    "flate bomb": Hostile("a.pdf", flate_bomb(1, 3_000), LIMIT + "|it has no text"),
    "layered flate bomb": Hostile("a.pdf", flate_bomb(3, 3_000), LIMIT + "|it has no text"),
    "million pages": Hostile("a.pdf", million_pages, "more than 20,000 pages"),
    "loop of pages": Hostile(
        "a.pdf",
        pdf(
            CATALOG,
            b"<</Type/Pages/Count 3/Kids[2 0 R 3 0 R]>>",
            b"<</Type/Pages/Count 2/Kids[2 0 R]>>",
        ),
        DAMAGED + "|no text",
    ),
    "loop of outline": Hostile(
        "a.pdf",
        pdf(
            b"<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>",
            *one_page(stream(b"BT /F 12 Tf 9 9 Td (They dance.) Tj ET"))[1:],
            b"<</First 6 0 R/Last 6 0 R>>",
            b"<</Title(Bees)/Next 6 0 R/First 6 0 R/Dest[3 0 R/Fit]>>",
        ),
        None,
    ),
    "form that holds itself": Hostile(
        "a.pdf",
        pdf(
            CATALOG,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>/Contents 4 0 R>>",
            stream(b"/X Do"),
            stream(
                b"/X Do /X Do",
                b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>",
            ),
        ),
        f"{LIMIT}|it has no text",
    ),
    "truncated.pdf": Hostile("a.pdf", truncated_pdf, DAMAGED),
    "encrypted.pdf": Hostile("a.pdf", encrypted_pdf, "Remove the password"),
    "scanned.pdf": Hostile("a.pdf", scanned_pdf, "it may be a scan. Run OCR"),
    "armed.pdf": Hostile("a.pdf", pdf(*ARMED), None),
    "picture as pdf": Hostile("a.pdf", content(PNG), NO_PDF),
    "noise as pdf": Hostile("a.pdf", content(b"%PDF-1.7\n" + bytes(range(256)) * 900), DAMAGED),
    "pdf as text": Hostile("a.txt", handbook_pdf, NO_TEXT),
    "picture as text": Hostile("a.md", content(PNG), NO_TEXT),
    "polyglot.js": Hostile(
        "a.js", content(b"GIF89a/*" + bytes(range(32, 127)) + b"*/=1;alert(1)"), None
    ),
    "huge json": Hostile("a.json", one_line_json, "more than 50 million characters"),
    "long json": Hostile("a.json", long_one_line_json, "more than [0-9,]+ tokens"),
    "deep json": Hostile("a.json", content(b"[" * 500_000 + b"]" * 500_000), None),
    "deep html": Hostile("a.html", content(b"<div>" * 1_000_000 + b"bees"), "nested too deeply"),
    "unclosed html": Hostile("a.html", content(b"<p>bees<!--" + b"<a href='" * 500_000), None),
    "empty": Hostile("a.txt", content(b""), EMPTY),
    "empty pdf": Hostile("a.pdf", content(b""), EMPTY),
    "white space": Hostile("a.txt", content(b" \n\t\r\n" * 200_000), EMPTY),
    "zero width": Hostile("a.txt", content("\u200b\ufeff\u200d".encode() * 9_000), EMPTY),
    "empty lines": Hostile("a.txt", content(b"\n" * 1_000_000 + b"bees"), None),
    "spaces": Hostile("a.txt", content(b" " * 20_000_000 + b"bees"), None),
    "zeros": Hostile("a.txt", content(bytes(100_000)), NO_TEXT),
    "some zeros": Hostile(
        "a.txt", content(b"They dance, and dance, and dance again.\0\n" * 500), None
    ),
    "wrong utf-8": Hostile("a.txt", content(b"They \xc3\x28 dance \xf0\x28\x8c\xbc. " * 500), None),
    "surrogates": Hostile(
        "a.txt", content(b"They dance \xed\xa0\x80 and \xed\xbf\xbf sing. " * 500), None
    ),
    "half a character": Hostile("a.txt", content("bees dance".encode("utf-16") + b"\xd8"), None),
    "unmarked utf-16": Hostile("a.txt", content("They dance. ".encode("utf-16-le") * 500), None),
    "one word": Hostile("a.txt", content(b"b" * 5_000_000), None),
    "right to left": Hostile(
        "a.txt", content("\u202eabc\u05d0\u05d1\u200f \u200b\u202c. ".encode() * 9_000), None
    ),
    "only marks": Hostile("a.txt", content("\u0301".encode() * 300_000), None),
    "commas": Hostile("a.csv", content(b"," * 3_000_000 + b"\na,b\n"), None),
    "open quote": Hostile("a.csv", content(b'a,b\n"' + b"x,y\n" * 400_000), None),
}
