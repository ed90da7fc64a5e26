"""Labelled images from a list: a table with a header, or a path and a label in each line as PaddleClas has them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.folder import ImageFolder
from utils.commandline import shortened
from utils.errors import DataError, names
from utils.system import slashes

LARGEST = 1 << 28  # bytes, some millions of lines
TABLES = (".csv", ".tsv")  # endings of files that have a header
PATH, LABEL = "path", "label"  # the columns of a table

LARGEST_WEIGHT = 1e6

Row = tuple[int, list[str]]  # line; path, label and, where they are asked for, group and weight


def read_list(
    path: str | os.PathLike,
    flag: str = "",
    root: str | os.PathLike | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    class_names: list[str] | None = None,
    group_column: str | None = None,
    weight_column: str | None = None,
) -> ImageFolder:
    """Return the images that a list in UTF-8 names.

    A table has commas, tabs or semicolons and begins with the names of its columns. A list without them has a path,
    blanks and a label in each line. Blank lines are passed over; a path may be in a table once, for one class.

    Args:
        path: the list.
        flag: the option that named it, for messages.
        root: the folder that the paths are relative to, that of the list by default; none leads out of it.
        path_column: the column of the paths, `PATH` by default; where it is given, the list must be a table.
        label_column: likewise of the labels, `LABEL` by default.
        class_names: the labels that are accepted, in order of class; by default those of the list, sorted by name, or
            by value where all are whole numbers.
        group_column: likewise of the groups; by default there are none.
        weight_column: likewise of the weights of the images, numbers from 0; by default there are none.

    Raises:
        DataError: naming the list and, where there is one, the line.
    """
    path = Path(path)
    culprit = f"{flag} {path}".strip()
    root = path.parent if root is None else Path(root)
    if not root.is_dir():
        raise DataError(f"{culprit}: its paths are relative to {root}, which is not a folder; see --data_root")
    more = [column for column in (group_column, weight_column) if column is not None]
    rows = _rows(_text(path, culprit), path, culprit, path_column, label_column, more)
    places = _places(rows, culprit, root, class_names, more, weight_column)
    if not places:
        raise DataError(f"{culprit}: no image in it; expected is a line for each image")
    known = class_names or _ordered({label for label, *_ in places.values()})
    number = {name: i for i, name in enumerate(known)}
    paths = sorted(places, key=lambda inner: (number[places[inner][0]], inner))
    labels = np.asarray([number[places[inner][0]] for inner in paths], dtype="int64")
    groups = None if group_column is None else [places[inner][2][0] for inner in paths]
    weights = None if weight_column is None else np.array([places[inner][2][-1] for inner in paths], dtype="float32")
    return ImageFolder(root, list(known), paths, labels, file=path, groups=groups, weights=weights)


def _places(
    rows: Iterator[Row],
    culprit: str,
    root: Path,
    class_names: list[str] | None,
    more: list[str],
    weight_column: str | None,
) -> dict[str, tuple[str, int, list[str]]]:
    """Return label, line and the cells of the columns `more` by the path of each image below `root`."""
    accepted, places = None if class_names is None else {*class_names}, {}
    for line, (name, label, *cells) in rows:
        where = f"{culprit}, line {line}"
        if not label.isprintable() or not label:
            raise DataError(f"{where}: the label is {shortened(label)!r}; accepted are the names of classes")
        if "" in cells:
            raise DataError(f"{where}: the column {more[cells.index('')]} is empty")
        if weight_column is not None:
            _weight(cells[-1], where, weight_column)
        if accepted is not None and label not in accepted:
            raise DataError(f"{where}: unknown class {shortened(label)}; accepted are {names(class_names)}")
        inner = _inside(root, name, where)
        if inner in places:
            other, before, _ = places[inner]
            labels = "" if other == label else f" as {other}, now as {label}"
            raise DataError(f"{where}: {inner} is in line {before} already{labels}")
        places[inner] = label, line, cells
    return places


def _weight(cell: str, where: str, column: str) -> None:
    try:
        accepted = 0 <= float(cell) < LARGEST_WEIGHT
    except ValueError:
        accepted = False
    if not accepted:
        raise DataError(f"{where}: {column} is {shortened(cell)!r}; accepted is a number from 0 to {LARGEST_WEIGHT:g}")


def _text(path: Path, culprit: str) -> str:
    if not path.is_file():  # a device may have no end
        raise DataError(f"{culprit}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{culprit}: {error.strerror}") from None
    if len(data) > LARGEST:
        raise DataError(f"{culprit}: accepted are lists of up to {LARGEST:,} bytes")
    try:
        text = data.decode("utf-8-sig")  # Windows' editors begin it with a byte-order mark
        wrong = text.find("\0")
        line = text.count("\n", 0, wrong) + 1
    except UnicodeDecodeError as error:
        wrong, line = error.start, data.count(b"\n", 0, error.start) + 1
    if wrong >= 0:
        raise DataError(f"{culprit}, line {line}: accepted is text in UTF-8")
    return text


def _rows(
    text: str, path: Path, culprit: str, path_column: str | None, label_column: str | None, more: list[str]
) -> Iterator[Row]:
    """Return the rows of a list that are not blank, as a table where it is one."""
    lines = re.split("\r\n|\r|\n", text)
    first = next((line for line in lines if line.strip()), "")
    columns = path_column or PATH, label_column or LABEL
    if columns[0] == columns[1]:
        raise DataError(
            f"{culprit}: the column {PATH if path_column is None else path_column} is that of the labels too"
        )
    columns += tuple(more)
    headers = {delimiter: _cells(first, delimiter) for delimiter in ",\t;"}
    for delimiter, header in headers.items():
        if {*columns} <= {*header}:
            return _table(text, delimiter, columns, culprit)
    if path_column or label_column or more or path.suffix.lower() in TABLES:
        header = max(headers.values(), key=len)
        absent = next((column for column in columns if column not in header), columns[0])
        there = names(shortened(cell) for cell in header)
        hint = "" if absent in more else "; see --path_column, --label_column"
        raise DataError(f"{culprit}, line 1: no column {absent}; there are {there}{hint}")
    return _pairs(lines, culprit)


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _table(text: str, delimiter: str, columns: tuple[str, ...], culprit: str) -> Iterator[Row]:
    reader, header, line = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [], 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                pass
            elif not header:
                header = cells
                twice = [column for column in columns if header.count(column) > 1]
                if twice:
                    raise DataError(f"{culprit}, line {line}: there are two columns {twice[0]}")
            elif len(cells) != len(header):
                raise DataError(f"{culprit}, line {line}: {len(cells)} fields, the header has {len(header)}")
            else:
                yield line, [cells[header.index(column)] for column in columns]
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{culprit}, line {line}: {error}") from None


def _pairs(lines: list[str], culprit: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            cells = line.strip().rsplit(None, 1)
            if len(cells) != 2:
                expected = f"expected is a path, a blank and a label, or a table with the columns {PATH} and {LABEL}"
                raise DataError(f"{culprit}, line {number}: {shortened(line.strip())!r}: {expected}")
            yield number, cells


def _inside(root: Path, name: str, where: str) -> str:
    """Return the path of a file relative to `root`, with `/`; of a list made on Windows too."""
    if not name:
        raise DataError(f"{where}: the path is empty")
    try:
        inner = slashes(os.path.relpath(os.path.join(root, name), root))
    except ValueError:  # on another drive
        inner = ".."
    if inner.split("/")[0] == "..":
        raise DataError(f"{where}: {shortened(name)} leads out of {root}; see --data_root")
    if os.path.isfile(root / inner):
        return inner
    if "\\" in name:
        return _inside(root, name.replace("\\", "/"), where)
    raise DataError(f"{where}: there is no file {root / inner}")


def _ordered(labels: set[str]) -> list[str]:
    if all(label.isascii() and label.isdigit() and len(label) < 20 for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
