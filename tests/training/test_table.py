"""The table of a run, as written and as a spreadsheet leaves it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import metrics
from evaluation.error_analysis import csv_text
from training.table import COLUMNS, read_rows

NAMES = (*COLUMNS, *metrics.columns())
numbers = st.floats(0, 1e6).map(repr)
tables = st.dictionaries(st.integers(1, 10**6), st.tuples(*[numbers] * (len(NAMES) - 1)), min_size=1, max_size=5)


def rows_of(table):
    return [dict(zip(NAMES, (str(step), *cells))) for step, cells in sorted(table.items())]


@given(
    tables,
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_table_saved_by_a_spreadsheet_is_read_right(tmp_path_factory, table, separator, end, encoding, decimal_comma):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    text = csv_text(rows_of(table), NAMES)
    if separator != ",":
        text = text.replace(",", separator)
        text = text.replace(".", ",") if decimal_comma else text
    path.write_bytes(text.replace("\n", end).encode(encoding))
    assert read_rows(path) == rows_of(table)


@given(tables, st.data())
@settings(max_examples=60, deadline=None)
def test_rows_with_missing_cells_are_left_out_and_the_others_kept(tmp_path_factory, table, data):
    path = tmp_path_factory.getbasetemp() / "cut.csv"
    rows = rows_of(table)
    cut = data.draw(st.sampled_from(rows))
    lines = csv_text(rows, NAMES).splitlines()
    at = lines.index(",".join(cut.values()))
    lines[at] = ",".join(lines[at].split(",")[: data.draw(st.integers(0, 4))])
    path.write_text("\n".join(lines))
    assert read_rows(path) == [row for row in rows if row is not cut]


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: ("step,lr\n" + text).encode())))
@settings(max_examples=100, deadline=None)
def test_whatever_is_in_the_file_rows_are_whole(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "noise.csv"
    path.write_bytes(content)
    for row in read_rows(path):
        assert int(row["step"]) > 0
        assert all(math.isfinite(float(row[name])) for name in ("train_loss", "train_acc", "val_loss", "val_acc"))


def test_columns_of_ones_own_are_left_out_and_absent_ones_empty(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("note,step,train_loss,train_acc,val_loss,val_acc\nmine,3,1,2,3,4\n,x,1,2,3,4\n")
    (row,) = read_rows(tmp_path / "t.csv")
    assert (row["step"], row["val_acc"], row["lr"]) == ("3", "4", "")
    assert csv_text([row], NAMES)
    assert capsys.readouterr().err == f"WARNING: {tmp_path}/t.csv: damaged; rows left out of it: 1, rows kept: 1\n"


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "0", "2.5", "1e400", "x"])
def test_a_step_that_is_no_number_of_updates_is_left_out(tmp_path, number):
    (tmp_path / "t.csv").write_text(f"step,train_loss,train_acc,val_loss,val_acc\n{number},1,2,3,4\n")
    assert read_rows(tmp_path / "t.csv") == []


def test_no_file_is_no_table(tmp_path):
    assert read_rows(tmp_path / "absent.csv") == []
