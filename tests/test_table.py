"""Recipients lists: what is read comes out as it stood, and what cannot be trusted is named with its place."""

import csv
import io
import struct
import unicodedata
import zipfile
from contextlib import suppress
from datetime import date, datetime
from html import escape
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import Problem, TableError
from dispatcher.sources.cells import complaint
from dispatcher.sources.table import Row, Table, open_table

MISSIONS = "name,to\nCôte d'Ivoire,civ@mission.example\nTürkiye,tur@mission.example\nÉtats-Unis,usa@mission.example\n"


def put(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, **options: str | None) -> tuple[Table, list[Row]]:
    table, rows = open_table(path, path.name, **options)
    return table, list(rows)


def values(path: Path, **options: str | None) -> list[tuple[str, ...]]:
    return [tuple(row.values.values()) for row in read(path, **options)[1]]


def problems(path: Path, **options: str | None) -> list[Problem]:
    with pytest.raises(TableError) as caught:
        read(path, **options)
    assert all(p.where.file == path.name and p.todo for p in caught.value.problems), "each says where and what to do"
    return list(caught.value.problems)


def problem(path: Path, **options: str | None) -> Problem:
    (only,) = problems(path, **options)
    return only


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_head_and_rows(tmp_path: Path) -> None:
    path = put(tmp_path, "iso3, Name ,to\nNAM,Namibia,a@x.example\n")
    table, rows = read(path)
    assert table.columns == ("iso3", "Name", "to")
    assert (table.file, table.encoding, table.guessed, table.dialect) == ("list.csv", "utf-8", False, "comma")
    assert len(table.digest) == 64
    assert rows == [Row(2, {"iso3": "NAM", "Name": "Namibia", "to": "a@x.example"})]


@pytest.mark.parametrize("text", ["NA", "NO", "004", "true", "null", "1e5", "-12", "+41 22 730 10 10", "-", "M’Chas"])
def test_everything_is_text(tmp_path: Path, text: str) -> None:
    """Namibia's NA, Norway's NO, m49's leading zeros, phone numbers and both apostrophes stay as written."""
    assert values(put(tmp_path, f"a,b\n{text},x\n")) == [(text, "x")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("mark", "dialect"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")])
def test_dialects_and_line_ends(tmp_path: Path, mark: str, dialect: str, end: str) -> None:
    path = put(tmp_path, end.join((f"a{mark}b", f'1{mark}"x{mark}y"', f"2{mark}", "")))
    assert values(path) == [("1", f"x{mark}y"), ("2", "")]
    assert read(path)[0].dialect == dialect


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_numbers_after_quoted_newlines(tmp_path: Path, end: str) -> None:
    """A row's line is the physical one where it begins; a line end inside a cell becomes LF."""
    text = end.join(("a,b", '"x', "", 'y",1', "", ",", "z,2", ""))
    rows = read(put(tmp_path, text))[1]
    assert [(r.line, r.values["a"]) for r in rows] == [(2, "x\n\ny"), (7, "z")]


def test_blanks_around_cells_go_and_inner_ones_stay(tmp_path: Path) -> None:
    path = put(tmp_path, 'a, b\n Saint-Vincent-et-les  Grenadines , "x, y"\n\u00a0é\u2009,z\n')
    assert values(path) == [("Saint-Vincent-et-les  Grenadines", "x, y"), ("é", "z")]


def test_composed_form(tmp_path: Path) -> None:
    """Cells and column names are NFC, so that what looks equal is equal."""
    path = put(tmp_path, unicodedata.normalize("NFD", "Qualité,b\nTürkiye,Côte d'Ivoire\n"))
    table, rows = read(path)
    assert table.columns == ("Qualité", "b")
    assert rows[0].values == {"Qualité": "Türkiye", "b": "Côte d'Ivoire"}


def test_line_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    assert problem(put(tmp_path, "a,b\nx\u2028y,1\n")).where.line == 2


def test_a_nameless_empty_column_at_the_end_is_no_column(tmp_path: Path) -> None:
    assert values(put(tmp_path, "a,b,\n1,2,\n3,4\n")) == [("1", "2"), ("3", "4")]


def test_header_only_has_no_rows(tmp_path: Path) -> None:
    table, rows = read(put(tmp_path, "a,b"))
    assert (table.columns, rows) == (("a", "b"), [])


# -- dialect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dialect", "columns"),
    [
        ('a,note\n1,"x; y; z\n; long; cell | and | more"\n2,"p; q"\n', "comma", 2),
        ("a;b;c\n1,5;2,5;3,5\n1,5;2,5;3,5\n", "semicolon", 3),
        ("name\temail\nKorea, Republic of\ta@x.example\nIran, Islamic Republic of\tb@x.example\n", "tab", 2),
        ("email\na@x.example, b@x.example\nc@x.example\n", "comma", 1),
        ("email\n", "comma", 1),
    ],
)
def test_dialect_is_found_by_counting(tmp_path: Path, text: str, dialect: str, columns: int) -> None:
    table, rows = read(put(tmp_path, text))
    assert (table.dialect, len(table.columns)) == (dialect, columns)
    assert all(len(row.values) == columns for row in rows)


def test_delimiters_that_fit_equally_well_are_asked_about(tmp_path: Path) -> None:
    path = put(tmp_path, "a,b;c\n1,2;3\n")
    assert "comma or by semicolon" in problem(path).what
    assert values(path, delimiter="semicolon") == values(path, delimiter=";") == [("1,2", "3")]


def test_header_with_fewer_names_than_every_row_has_cells(tmp_path: Path) -> None:
    """Not taken for a single column that happens to hold commas."""
    found = problems(put(tmp_path, "email\na@x.example,Ann\nb@x.example,Bob\n"))
    assert [p.what for p in found] == ["2 cells where the header has 1"] * 2


def test_unknown_delimiter(tmp_path: Path) -> None:
    assert "':'" in problem(put(tmp_path, "a:b\n"), delimiter=":").what


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "shown"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
    ],
)
def test_unicode_is_known_not_guessed(tmp_path: Path, codec: str, shown: str) -> None:
    """With or without a mark, and the mark is no part of the first column's name."""
    table, rows = read(put(tmp_path, MISSIONS.encode(codec)))
    assert (table.encoding, table.guessed, table.columns) == (shown, False, ("name", "to"))
    assert [r.values["name"] for r in rows] == ["Côte d'Ivoire", "Türkiye", "États-Unis"]
    assert table.samples == ("Côte d'Ivoire", "Türkiye", "États-Unis")


@pytest.mark.parametrize(
    ("codec", "guess"), [("cp1252", "cp1252"), ("latin-1", "cp1252"), ("mac-roman", "mac-roman"), ("cp850", "cp850")]
)
@pytest.mark.parametrize(
    "names",
    [
        ["Côte d'Ivoire", "Türkiye", "États-Unis"],
        ["Türkiye"],
        ["CÔTE D'IVOIRE"],
        ["República Islámica del Irán", "España", "Perú", "Santo Tomé y Príncipe"],
        ["Émirats arabes unis", "Îles Marshall", "Guinée équatoriale", "Bahreïn", "Équateur", "Haïti"],
    ],
)
def test_legacy_encodings_are_guessed_and_marked(tmp_path: Path, names: list[str], codec: str, guess: str) -> None:
    text = "".join(f"{name},x\n" for name in names)
    table, rows = read(put(tmp_path, f"name,b\n{text}".encode(codec)))
    assert [r.values["name"] for r in rows] == names
    assert (table.encoding, table.guessed) == (guess, True)
    assert table.samples == tuple(n for n in names if not n.isascii())[:5]


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("cp1251", ["Россия", "Китайская Народная Республика", "Франция"]),
        ("cp1250", ["Włochy", "Szwajcaria i Łotwa, żółć", "Hiszpania – ćma", "Białoruś", "Węgry"]),
    ],
)
def test_other_scripts_are_not_forced_into_western_code_pages(tmp_path: Path, codec: str, names: list[str]) -> None:
    table, rows = read(put(tmp_path, ("name|b\n" + "".join(f"{n}|x\n" for n in names)).encode(codec)))
    assert ([r.values["name"] for r in rows], table.guessed) == (names, True)


def test_a_western_guess_found_implausible_is_not_taken_from_elsewhere(tmp_path: Path) -> None:
    """So few Polish words look like cp1252 to statistics; the rules of writing know better."""
    text = "name,b\nWłochy,x\nSzwajcaria i Łotwa, żółć\nHiszpania – ćma\nBiałoruś,y\nWęgry\n"
    path = put(tmp_path, text.encode("cp1250"))
    assert open_table(path, "list.csv", delimiter="comma")[0].encoding == "cp1250"


def test_a_guess_rests_on_cells_however_late_they_come(tmp_path: Path) -> None:
    text = "name,b\n" + "Chad,x\n" * 300_000 + "Côte d'Ivoire,x\n"
    assert open_table(put(tmp_path, text.encode("cp1252")), "list.csv")[0].samples == ("Côte d'Ivoire",)


def test_no_more_than_five_samples(tmp_path: Path) -> None:
    assert len(read(put(tmp_path, "a,b\n" + "é,è\n" * 9))[0].samples) == 5


def test_told_encoding_is_no_guess(tmp_path: Path) -> None:
    table, rows = read(put(tmp_path, "name,b\nêtre,x\n".encode("mac-roman")), encoding="mac-roman")
    assert (table.encoding, table.guessed, rows[0].values["name"]) == ("mac-roman", False, "être")


@pytest.mark.parametrize(("end", "codec"), [("\n", "utf-8"), ("\r\n", "utf-8"), ("\r", "utf-8"), ("\n", "ascii")])
def test_wrong_told_encoding_is_named_with_its_line(tmp_path: Path, end: str, codec: str) -> None:
    text = end.join(["a,b"] + ["x,y"] * 200_000 + ["Türkiye,z", ""])
    found = problem(put(tmp_path, text.encode("cp1252")), encoding=codec)
    assert (found.where.line, codec in found.what) == (200_002, True)


@pytest.mark.parametrize(
    ("octets", "encoding", "what"),
    [
        (b"a,b\n", "klingon", "no character encoding"),
        (b"a,b\n", "rot13", "no character encoding"),
        (b"\xef\xbb\xbfa,b\n", "cp1252", "mark of UTF-8"),
        (b"\xff\xfea\0,\0", "utf-8", "mark of UTF-16"),
        ("a,b\nx".encode("utf-16") + b"y", None, "not utf-16"),
        (b"a,b\n\x81\x8d\x8f\x90\x9d,\xff\xfe\n", "cp1252", "not cp1252"),
    ],
)
def test_encodings_that_cannot_be(tmp_path: Path, octets: bytes, encoding: str | None, what: str) -> None:
    assert what in problem(put(tmp_path, octets), encoding=encoding).what


def test_told_utf8_takes_the_mark_off(tmp_path: Path) -> None:
    assert read(put(tmp_path, b"\xef\xbb\xbfa,b\n"), encoding="utf-8")[0].columns == ("a", "b")


# -- what is refused in text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ("a,b\n1\n", 2, "b", "1 cell where the header has 2"),
        ("a,b\n1,2,3\n", 2, "", "3 cells where the header has 2"),
        ("a,b\n1,2,\n", 2, "", "3 cells where the header has 2"),
        ("a,b,\n1,2,3\n", 2, "column 3", "no name"),
        ("a,b, A\n", 1, "A", "columns 1 and 3 have the same name"),
        ("Straße,STRASSE\n", 1, "STRASSE", "the same name"),
        ("a,,b\n", 1, "column 2", "no name"),
        ("\n\na,,b\n", 3, "column 2", "no name"),
        ("a,b\nx\0y,1\n", 2, "a", "NUL"),
        ("a,b\n1,x\x01\n", 2, "b", "U+0001"),
        ("a,b\n1,x\x0b\n", 2, "b", "U+000B"),
        ("a,b\n1,x\x7f\n", 2, "b", "U+007F"),
        ("a,b\n1,x\u0085\n", 2, "b", "U+0085"),
        ("a,b\n1,x\u0092s\n", 2, "b", "try cp1252"),
        ("a,b\n1,x\u2029\n", 2, "b", "U+2029"),
        ("a,b\n1,\ufeffx\n", 2, "b", "U+FEFF"),
        ("a,b\n1,C\ufffdte\n", 2, "b", "lost character"),
        ("a,=b\n", 1, "column 2", "formula"),
        ("a,b\n1,#N/A\n", 2, "b", "#N/A"),
        ('a,b\n1,"never closed\n2,x\n', 2, "", "never closed"),
        ('a,b\n\n1,"x\n2,"y"\n', 4, "", "begins in line 3"),
        ('a,b\n1,"' + "x" * 40_000 + '"\n', 2, "b", "32 kB"),
        ('a,b\n1,"' + "é" * 17_000 + '"\n', 2, "b", "32 kB"),
        ('a,b\n1,"' + "x\n" * 100_000, 2, "", "never closed"),
        ("", None, "", "empty"),
        ("\n \n\t\n", None, "", "empty"),
        (",".join(f"c{i}" for i in range(1001)), 1, "", "1,001 columns"),
    ],
)
def test_named_errors(tmp_path: Path, text: str, line: int | None, column: str, what: str) -> None:
    found = problem(put(tmp_path, text))
    assert (found.where.line, found.where.column) == (line, column)
    assert what in f"{found.what} {found.todo}"


def test_a_thousand_columns_and_cells_of_32_kb_are_allowed(tmp_path: Path) -> None:
    names = ",".join(f"c{i}" for i in range(1000))
    assert len(read(put(tmp_path, names))[0].columns) == 1000
    assert values(put(tmp_path, f"a,b\n1,{'x' * 32768}\n")) == [("1", "x" * 32768)]


def test_octets_beyond_utf8_with_nuls_are_no_list(tmp_path: Path) -> None:
    assert problems(put(tmp_path, bytes(range(256)) * 40))


@pytest.mark.parametrize(
    "cell",
    [
        *("=1+1", " =x", '"=x', "'=x", "“=x", "@SUM(A1)", "@example", "+cmd|x", "-foo", "- see note", "＝x", "＠x"),
        *("﹢x", "\tx", "\u200b=x", "\n=x", "+", "=5", "+1+cmd", "-1)=x"),
    ],
)
def test_formula_looking(cell: str) -> None:
    found = complaint(cell)
    assert found
    assert "formula" in found[0]


@pytest.mark.parametrize(
    "cell",
    ["-12", "+5", "-1.5", "+41 (0)22 730-10-10", "-12 %", "-1e-07", "--", "－12", "a=b", "x@y.example", "1-2", "", "'"],
)
def test_not_formula_looking(cell: str) -> None:
    assert complaint(cell) is None


def test_good_rows_come_first_then_all_problems_together(tmp_path: Path) -> None:
    path = put(tmp_path, "a,b\n1,2\n3\n=x,\x01\n5,6\n")
    rows = open_table(path, "list.csv")[1]
    assert [next(rows).line, next(rows).line] == [2, 5]
    with pytest.raises(TableError) as caught:
        next(rows)
    assert [(p.where.line, p.where.column) for p in caught.value.problems] == [(3, "b"), (4, "a"), (4, "b")]


def test_no_more_than_a_hundred_problems(tmp_path: Path) -> None:
    path = put(tmp_path, "a,b\n" + "1\n" * 100 + "1,2\n3\n")
    assert len(problems(path)) == 100
    with pytest.raises(TableError):
        next(open_table(path, "list.csv")[1])


def test_header_problems_come_together_and_at_once(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        open_table(put(tmp_path, "a,,a,=x\n"), "list.csv")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("new", ["a,b\n1,2\n3,5\n", "a,b\n1,2\n", "a,b\n1,2\n3\n", "a,b\n1,\udcff\n"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, new: str) -> None:
    """Whatever else is wrong by then, this is what is said."""
    path = put(tmp_path, "a,b\n1,2\n3,4\n")
    rows = open_table(path, "list.csv")[1]
    path.write_bytes(new.encode("utf-8", "surrogateescape"))
    with pytest.raises(TableError, match="changed while it was read"):
        list(rows)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    put(tmp_path, "a,b\n", "missions.csv")
    assert "missions.csv" in problem(tmp_path / "mission.csv").todo
    assert "no such file" in problem(tmp_path / "nowhere" / "x.csv").what
    assert "folder" in problem(tmp_path).what


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"\n<HTML><table>", "web page"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "neither text nor"),
        (b"PK\x03\x04 nonsense", "damaged"),
    ],
)
def test_other_kinds_of_file(tmp_path: Path, octets: bytes, what: str) -> None:
    assert what in problem(put(tmp_path, octets)).what


@pytest.mark.parametrize("name", ["encoding", "delimiter"])
def test_options_that_cannot_apply_are_refused(tmp_path: Path, name: str) -> None:
    assert name in problem(book(tmp_path, [["a"]]), **{name: "comma"}).what
    assert "sheet" in problem(put(tmp_path, "a,b\n"), sheet="One").what


# -- spreadsheets -----------------------------------------------------------------------------------------------------


def book(folder: Path, rows: list[list[object]], name: str = "list.xlsx") -> Path:
    workbook = openpyxl.Workbook()
    assert workbook.active is not None
    for row in rows:
        workbook.active.append(row)
    workbook.save(folder / name)
    return folder / name


def test_xlsx_as_text(tmp_path: Path) -> None:
    """Numbers in their shortest form, dates in ISO form, and nothing that looks missing is taken for it."""
    cells: list[object] = ["NA", "004", 4, 4.5, 2.5e-7, True, date(2009, 10, 1), datetime(2009, 10, 1, 9, 30), None]  # noqa: DTZ001
    path = book(tmp_path, [[f"c{i}" for i in range(9)], cells], "list.csv")
    table, rows = read(path)
    assert (table.encoding, table.guessed, table.dialect) == ("", False, "xlsx")
    wanted = ["NA", "004", "4", "4.5", "2.5e-07", "true", "2009-10-01", "2009-10-01T09:30:00", ""]
    assert list(rows[0].values.values()) == wanted


def test_sheet_rows_keep_their_numbers(tmp_path: Path) -> None:
    """Also where the list does not begin in A1, and blank rows lie between."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    for place, value in {"C3": "a", "D3": "b", "C5": "x", "D5": "y", "D9": "z"}.items():
        sheet[place] = value
    workbook.save(tmp_path / "list.xlsx")
    rows = read(tmp_path / "list.xlsx")[1]
    assert [(r.line, r.values) for r in rows] == [(5, {"a": "x", "b": "y"}), (9, {"a": "", "b": "z"})]


def test_sheets_by_name(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    assert workbook.active is not None
    workbook.active.sheet_state = "hidden"
    workbook.create_sheet("Staff & Co").append(["b"])
    workbook.create_sheet("Other").append(["c"])
    workbook.save(path := tmp_path / "list.xlsx")
    assert read(path)[0].columns == ("b",), "the first visible one"
    assert read(path, sheet="Other")[0].columns == ("c",)
    found = problem(path, sheet="Nope")
    assert '"Staff & Co", "Other"' in found.todo


@pytest.mark.parametrize(
    ("row", "column", "what"),
    [(["x", "#N/A"], "b", "#N/A"), (["#DIV/0!", "y"], "a", "#DIV/0!"), (["@x"], "a", "formula")],
)
def test_what_is_refused_in_sheets(tmp_path: Path, row: list[object], column: str, what: str) -> None:
    found = problem(book(tmp_path, [["a", "b"], ["p", "q"], row]))
    assert (found.where.line, found.where.column) == (3, column)
    assert what in found.what


def test_an_error_a_formula_came_to_is_not_taken_for_an_empty_cell(tmp_path: Path) -> None:
    sheet = FAR_APART.replace(b"XFD1048576", b"A3").replace(b'<c r="A3"><v>1', b'<c r="A3" t="e"><f>NA()</f><v>#N/A')
    found = problem(rezipped(book(tmp_path, [["a"]]), "xl/worksheets/sheet1.xml", sheet.replace(b"1048576", b"3")))
    assert (found.where.line, found.where.column, "#N/A" in found.what) == (3, "1", True)


def test_a_stray_cell_beyond_the_header(tmp_path: Path) -> None:
    found = problem(book(tmp_path, [["a", "b"], ["x", "y", "z"]]))
    assert (found.where.line, found.where.column) == (2, "column 3")


def test_merged_cells_are_refused(tmp_path: Path) -> None:
    """The cells under the first would be empty, and their rows' letters wrong."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    for row in (["a", "b"], ["x", 1], [None, 2]):
        sheet.append(row)
    sheet.merge_cells("A2:A3")
    workbook.save(tmp_path / "list.xlsx")
    found = problem(tmp_path / "list.xlsx")
    assert (found.where.line, "merged" in found.what) == (2, True)


def zipped(path: Path, parts: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def rezipped(path: Path, part: str, content: bytes) -> Path:
    """The same archive with one part replaced or added."""
    with zipfile.ZipFile(path) as archive:
        parts: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    return zipped(path, {**parts, part: content})


FAR_APART = (
    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    b"</sheetData></worksheet>"
)


@pytest.mark.parametrize(
    ("part", "content", "what"),
    [
        ("xl/media/x.bin", bytes(5_000_000), "unpack"),
        ("xl/worksheets/sheet1.xml", b"<!DOCTYPE x [<!ENTITY a 'b'>]><worksheet/>", "declarations"),
        ("xl/worksheets/sheet1.xml", b"<worksheet", "cannot be read"),
        ("xl/workbook.xml", b"<workbook", "cannot be read"),
        (
            "xl/worksheets/sheet1.xml",
            FAR_APART,
            "1,048,576 rows and 16,384 columns",
        ),
    ],
)
def test_hostile_workbooks(tmp_path: Path, part: str, content: bytes, what: str) -> None:
    assert what in problem(rezipped(book(tmp_path, [["a"]]), part, content)).what


def test_a_sheet_too_large_unpacked(tmp_path: Path) -> None:
    """More than 200 MB, though no part has a ratio to be suspected."""
    path = book(tmp_path, [["a"]])
    noise = memoryview(bytes(range(256)) * 4096)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive, archive.open("xl/media/x", "w") as part:
        for _ in range(4):
            part.write(noise)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")  # the directory's entry of the last part: its size claims 250 MB
    struct.pack_into("<I", data, place + 24, 250_000_000)
    path.write_bytes(data)
    assert "unpack to 250" in problem(path).what


def test_password_protected(tmp_path: Path) -> None:
    octets = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1016) + "EncryptedPackage".encode("utf-16-le") + bytes(200)
    assert "password" in problem(put(tmp_path, octets, "list.xlsx")).what


def ods(path: Path, rows: str) -> Path:
    spaces = "".join(f' xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in ("office", "table", "text"))
    content = (
        f"<office:document-content{spaces}><office:body><office:spreadsheet>"
        f'<table:table table:name="L">{rows}</table:table></office:spreadsheet></office:body></office:document-content>'
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    return zipped(path, {"mimetype": kind, "content.xml": content, "META-INF/manifest.xml": manifest})


def ods_row(*cells: str, repeated: int = 1) -> str:
    texts = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{escape(c)}</text:p></table:table-cell>' for c in cells
    )
    end = '<table:table-cell table:number-columns-repeated="16000"/>'
    return f'<table:table-row table:number-rows-repeated="{repeated}">{texts}{end}</table:table-row>'


def test_ods(tmp_path: Path) -> None:
    number = (
        '<table:table-row><table:table-cell office:value-type="float" office:value="4"><text:p>4,00</text:p>'
        '</table:table-cell><table:table-cell office:value-type="date" office:date-value="2009-10-01"/>'
        "</table:table-row>"
    )
    rows = ods_row("a", "b") + ods_row(repeated=3) + ods_row("004", "NA") + number + ods_row(repeated=1_000_000)
    table, found = read(ods(tmp_path / "list.ods", rows))
    assert table.dialect == "ods"
    assert [(r.line, *r.values.values()) for r in found] == [(5, "004", "NA"), (6, "4", "2009-10-01")]


def test_ods_problems(tmp_path: Path) -> None:
    path = ods(tmp_path / "list.ods", ods_row("a", "b") + ods_row("x", "#N/A"))
    assert (problem(path).where.line, problem(path).where.column) == (2, "b")
    path = ods(tmp_path / "list.ods", ods_row("a", "b") + ods_row("x", *"y" * 11, repeated=1_000_000))
    assert "1,000,001 rows" in problem(path).what
    path = ods(tmp_path / "list.ods", ods_row("a", "b").replace("16000", "4000000000"))
    assert "4,000,000,002 columns" in problem(path).what


def xls(path: Path, cells: list[tuple[int, bytes]]) -> Path:
    """The smallest XLS there can be: one sheet in one stream of a compound file ([MS-XLS], [MS-CFB])."""

    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<HH", kind, len(body)) + body

    def begin(kind: int) -> bytes:
        return record(0x809, struct.pack("<HHHHII", 0x600, kind, 0, 1997, 0, 6))

    end = record(0x0A, b"")
    sheet = begin(0x10) + b"".join(record(*cell) for cell in cells) + end
    name = bytes((1, 0)) + b"L"
    start = len(begin(5)) + len(record(0x85, bytes(6) + name)) + len(end)
    stream = (begin(5) + record(0x85, struct.pack("<IH", start, 0) + name) + end + sheet).ljust(4096, b"\0")

    def entry(title: str, kind: int, child: int, first: int, size: int) -> bytes:
        text = title.encode("utf-16-le")
        links = struct.pack("<HBBiii", len(text) + 2, kind, 1, -1, -1, child)
        return text.ljust(64, b"\0") + links + bytes(36) + struct.pack("<iQ", first, size)

    directory = entry("Root Entry", 5, 1, -2, 0) + entry("Workbook", 2, -1, 2, 4096) + bytes(256)
    fat = struct.pack("<10i", -3, -2, *range(3, 10), -2).ljust(512, b"\xff")
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    head += struct.pack("<IIIIIiIiI", 0, 1, 1, 0, 4096, -2, 0, -2, 0) + struct.pack("<i", 0).ljust(436, b"\xff")
    path.write_bytes(head + fat + directory + stream)
    return path


def label(row: int, column: int, text: str) -> tuple[int, bytes]:
    return 0x204, struct.pack("<HHHHB", row, column, 0, len(text), 0) + text.encode("latin-1")


def test_xls(tmp_path: Path) -> None:
    cells = [label(0, 0, "a"), label(0, 1, "b"), label(1, 0, "004"), (0x203, struct.pack("<HHHd", 1, 1, 0, 4.0))]
    table, rows = read(xls(tmp_path / "list.xls", cells))
    assert (table.dialect, [(r.line, *r.values.values()) for r in rows]) == ("xls", [(2, "004", "4")])


@pytest.mark.parametrize(
    "error",
    [
        (0x205, struct.pack("<HHHBB", 1, 1, 0, 0x2A, 1)),
        (0x006, struct.pack("<HHHBBBBBBHHIH", 1, 1, 0, 2, 0, 0x2A, 0, 0, 0, 0xFFFF, 0, 0, 0)),
    ],
    ids=["value", "formula"],
)
def test_xls_errors_are_not_taken_for_empty_cells(tmp_path: Path, error: tuple[int, bytes]) -> None:
    found = problem(xls(tmp_path / "list.xls", [label(0, 0, "a"), label(0, 1, "b"), label(1, 0, "x"), error]))
    assert (found.where.line, found.where.column, "#N/A" in found.what) == (2, "b", True)


# -- round trip -------------------------------------------------------------------------------------------------------

ODD = "=+-@＝＋－＠﹢﹣﹦﹫#\t"
LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"], exclude_characters=ODD + "\ufeff\ufffd")
CELLS = st.text(st.one_of(LETTERS, st.sampled_from(" ,;|\"'\n")), max_size=12)
CODECS = ["utf-8", "utf-8-sig", "utf-16"]


@settings(max_examples=150)
@given(
    rows=st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=8)),
    mark=st.sampled_from(",;\t|"),
    codec=st.sampled_from(CODECS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], mark: str, codec: str, end: str, quoting: int
) -> None:
    """Whatever table the standard library writes reads back: NFC, blanks around cells and blank records gone."""
    names = [f"c{i}" for i in range(len(rows[0]))]
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if end == "\r" else quoting  # Python 3.11 leaves a cell with LF bare when lines end in CR
    csv.writer(text, delimiter=mark, lineterminator=end, quoting=quoting).writerows([names, *rows])  # type: ignore[arg-type]
    path = put(tmp_path_factory.getbasetemp(), text.getvalue().encode(codec), "round.csv")
    wanted = [tuple(unicodedata.normalize("NFC", c).strip() for c in row) for row in rows]
    found = values(path, delimiter=mark if len(names) == 1 else None)
    assert found == [row for row in wanted if any(row)]


@settings(max_examples=100)
@given(octets=st.binary(max_size=300))
def test_any_octets_are_a_table_or_a_named_error(tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
    path = put(tmp_path_factory.getbasetemp(), octets, "any.csv")
    with suppress(TableError):
        read(path)
