"""Lists of images and labels: every form that is read, every damage that is named with its line."""

import os

import numpy as np
import pytest

import finetune
import test as scoring
from checkpoints import pdparams
from datasets.cache import StreamedImages
from datasets.folder import scan
from datasets.lists import read_list
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from tests.pictures import write_folder
from tests.scripts import tiny
from training.identity import digests
from utils.errors import DataError, UsageError

NAMES = [f"{name}/{number:03d}.png" for name in ("cat", "dog", "emu") for number in range(2)]


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "pets", count=2)


def table(names=NAMES, delimiter=",", end="\n", header="path,label") -> bytes:
    lines = [header, *(f"{name},{name.split('/')[0]}" for name in names)]
    return "".join(line.replace(",", delimiter) + end for line in lines).encode()


def pairs(names=NAMES) -> bytes:
    return "".join(f"{name} {name.split('/')[0]}\n" for name in names).encode()


FORMS = {
    "commas": ("a.csv", table()),
    "tabs": ("a.tsv", table(delimiter="\t")),
    "semicolons": ("a.csv", table(delimiter=";")),
    "another ending": ("a.txt", table()),
    "CRLF and a mark": ("a.csv", b"\xef\xbb\xbf" + table(end="\r\n")),
    "CR": ("a.csv", table(end="\r")),
    "no final newline": ("a.csv", table().rstrip()),
    "blank lines": ("a.csv", b"\n \n" + table().replace(b"\n", b"\n\n,\n")),
    "quotes": ("a.csv", b"".join(b'"%s","%s"\n' % tuple(line.split(b",")) for line in table().splitlines())),
    "more columns": ("a.csv", b"".join(b'"x, ""y""",%s,7\n' % line for line in table().splitlines())),
    "another order": ("a.csv", table(NAMES[::-1])),
    "backslashes": ("a.csv", table().replace(b"/", b"\\")),
    "detours": ("a.csv", table().replace(b"cat/0", b"./dog/../cat//0")),
    "pairs": ("a.txt", pairs()),
    "pairs, CRLF, a mark": ("a.list", b"\xef\xbb\xbf" + pairs().replace(b"\n", b"\r\n\r\n").replace(b" ", b"  \t")),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_list_of_a_folder_is_the_folder(form, root):
    name, content = FORMS[form]
    (root / name).write_bytes(content)
    listed, folder = read_list(root / name), scan(root)
    assert (listed.class_names, listed.paths) == (folder.class_names, folder.paths)
    assert listed.labels.dtype == np.int64
    assert listed.labels.tolist() == folder.labels.tolist()
    assert listed.root == root


DAMAGED = {
    "empty": ("a.csv", b"", "line 1: no column path; there are"),
    "a mark only": ("a.txt", b"\xef\xbb\xbf", "no image in it"),
    "a header only": ("a.csv", b"path,label\n\n", "no image in it"),
    "no header": ("a.csv", table()[11:], "line 1: no column path; there are cat/000.png, cat; see --path_column"),
    "a missing column": ("a.csv", table(header="path,class"), "line 1: no column label; there are path, class"),
    "a column twice": ("a.csv", table(header="label,path,label"), "line 1: there are two columns label"),
    "more fields": ("a.csv", table() + b"a,b.png,cat\n", "line 8: 3 fields, the header has 2"),
    "fewer fields": ("a.csv", table() + b"\r\ncat/000.png\r\n", "line 9: 1 fields, the header has 2"),
    "an open quote": ("a.csv", table() + b'"cat/000.png,cat\n', "line 8: unexpected end of data"),
    "a line in quotes": ("a.csv", table() + b'"cat\n/000.png",cat\nx,cat\n', "line 8: there is no file"),
    "no path": ("a.csv", table() + b" ,cat\n", "line 8: the path is empty"),
    "no label": ("a.csv", table() + b"cat/000.png, \n", "line 8: the label is ''"),
    "a label of two lines": ("a.csv", table() + b'cat/000.png,"a\nb"\n', "line 8: the label is 'a.nb'"),
    "an unknown file": ("a.csv", b"\n" + table() + b"cat/9.png,cat\n", "line 9: there is no file .*pets/cat/9.png"),
    "a folder": ("a.csv", table() + b"cat,cat\n", "line 8: there is no file .*pets/cat"),
    "out of the root": (
        "a.csv",
        table() + b"cat/../../x,cat\n",
        "line 8: cat/../../x leads out of .*; see --data_root",
    ),
    "another root": ("a.csv", table() + b"/etc/passwd,cat\n", "line 8: /etc/passwd leads out of"),
    "out by backslashes": ("a.csv", table() + b"..\\..\\x,cat\n", "line 8: ..[\\/]..[\\/]x leads out of"),
    "two labels": (
        "a.csv",
        table() + b"./cat/000.png,dog\n",
        "line 8: cat/000.png is in line 2 already as cat, now as dog",
    ),
    "twice": ("a.csv", table() + b"cat/001.png,cat\n", "line 8: cat/001.png is in line 3 already$"),
    "not UTF-8": ("a.csv", table() + b"c\xe4t,cat\n", "line 8: accepted is text in UTF-8"),
    "UTF-16": ("a.csv", table().decode().encode("utf-16"), "line 1: accepted is text in UTF-8"),
    "zeros": ("a.csv", table() + b"\0\0\0", "line 8: accepted is text in UTF-8"),
    "an image": ("a.txt", b"\x89PNG\r\n\x1a\n", "line 1: accepted is text in UTF-8"),
    "a path alone": (
        "a.txt",
        pairs() + b"cat/000.png\n",
        "line 7: 'cat/000.png': expected is a path, a blank and a label",
    ),
    "pairs that end otherwise": ("a.csv", pairs(), "line 1: no column path; there are cat/000.png cat;"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_named_with_its_line(damage, root):
    name, content, message = DAMAGED[damage]
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=f"^--train_list .*/{name}[:,] ?{message}"):
        read_list(root / name, "--train_list")


def test_what_is_no_file_is_named(root):
    with pytest.raises(DataError, match="absent.csv: no such file"):
        read_list(root / "absent.csv")
    with pytest.raises(DataError, match="pets: not a file"):
        read_list(root)
    (root / "a.csv").write_bytes(table())
    with pytest.raises(DataError, match="relative to /nowhere, which is not a folder; see --data_root"):
        read_list(root / "a.csv", root="/nowhere")


def test_columns_and_root_may_be_named(root, tmp_path):
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "a.txt"
    path.write_bytes(table(header="file,breed"))
    listed = read_list(path, root=root, path_column="file", label_column="breed")
    assert listed.paths == NAMES
    with pytest.raises(DataError, match="line 1: no column id; there are file, breed"):
        read_list(path, root=root, path_column="id", label_column="breed")
    path.write_bytes(pairs())
    with pytest.raises(DataError, match="line 1: no column file"):
        read_list(path, root=root, path_column="file")
    with pytest.raises(DataError, match="the column label is that of the labels too"):
        read_list(path, root=root, path_column="label")


def test_classes_are_sorted_and_numbers_by_their_value(root):
    for labels, expected in ((("b", "a", "10"), ["10", "a", "b"]), (("10", "9", "011"), ["9", "10", "011"])):
        (root / "a.csv").write_text(
            "path,label\n" + "".join(f"{name}/000.png,{label}\n" for name, label in zip(("cat", "dog", "emu"), labels))
        )
        assert read_list(root / "a.csv").class_names == expected


def test_given_classes_keep_their_order_and_no_other_is_accepted(root):
    (root / "a.csv").write_bytes(table(NAMES[:4]))
    listed = read_list(root / "a.csv", class_names=["emu", "dog", "cat"])
    assert listed.class_names == ["emu", "dog", "cat"]
    assert [listed.paths[i].split("/")[0] for i in range(4)] == ["dog", "dog", "cat", "cat"]
    assert listed.labels.tolist() == [1, 1, 2, 2]
    with pytest.raises(DataError, match="a.csv, line 2: unknown class cat; accepted are dog, emu"):
        read_list(root / "a.csv", class_names=["dog", "emu"])


def test_the_key_of_an_image_has_its_class_only_in_a_list(root):
    (root / "a.csv").write_bytes(table())
    listed = read_list(root / "a.csv").select([3, 0])
    assert [listed.key(0), listed.key(1)] == ["dog/001.png\0dog", "cat/000.png\0cat"]
    assert scan(root).key(3) == "dog/001.png"
    assert (listed.origin, listed.kind) == (root / "a.csv", "list")


RUN = tiny("--regularizer", "l2", "--pretrained", "none", "--max_iters", "2", "--eval_frequency", "1")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Two folders of images, and a list of each; the one for training is above the folder."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 3), ("test", 2)):
        folder = write_folder(tmp_path / "pets" / split, count=count, seed=count)
        names = [os.path.relpath(path, folder) for path in sorted(folder.rglob("*.png"))]
        (tmp_path / "pets" / f"{split}.csv").write_bytes(table(names))
    return tmp_path


def test_a_run_on_lists_is_the_run_on_their_folders(work, capsys):
    lists = ["--train_list", "pets/train.csv", "--data_root", "pets/train", "--eval_dir", "pets/test"]
    folders = finetune.main([*RUN, "--train_dir", "pets/train", "--eval_dir", "pets/test", "--name", "a"])
    listed = finetune.main([*RUN, *lists])
    a, b = (pdparams.load(work / "output" / f"{name}_l2_Last.pdparams") for name in ("a", "pets"))
    assert (listed.last, listed.samples_sha256) == (folders.last, folders.samples_sha256)
    assert a["classes"] == b["classes"]
    assert all(np.array_equal(a["model"][name], value) for name, value in b["model"].items())
    for name in ("a", "pets"):
        assert (work / "output" / f"{name}_l2_samples.txt").read_text().startswith("cat/000.png\ncat/001.png\n")
    flags = ["--ckpts", "output/pets_l2_Last.pdparams", "--gpu", "-1"]
    (of_list,) = scoring.main([*flags, "--test_list", "pets/test.csv", "--data_root", "pets/test"])
    (of_folder,) = scoring.main([*flags, "--test_dir", "pets/test"])
    assert of_list.pop("test_list") == "pets/test.csv"
    assert of_folder.pop("test_dir") == "pets/test"
    assert of_list == of_folder
    header, *rows = (work / "pets" / "train.csv").read_text().splitlines()
    (work / "pets" / "again.tsv").write_text("\n".join([header, *rows[::-1]]).replace(",", "\t"))
    for name in ("train.csv", "again.tsv"):
        assert finetune.main([*RUN, "--train_list", f"pets/{name}", *lists[2:], "--resume"]) is None
        assert "the run is finished" in capsys.readouterr().out
    path = work / "pets" / "train.csv"
    path.write_text(path.read_text().replace("dog/001.png,dog", "dog/001.png,cat"))
    with pytest.raises(UsageError, match="the list of training files|the train images in pets/train.csv are not those"):
        finetune.main([*RUN, *lists, "--resume"])


def test_refusals_name_the_flag_and_the_list(work):
    (work / "pets" / "one.csv").write_bytes(table(["cat/000.png"]))
    (work / "pets" / "other.csv").write_bytes(table(["cat/000.png"]).replace(b"g,cat", b"g,cow"))
    dirs, lists = ["--train_dir", "pets/train"], ["--train_list", "pets/train.csv", "--data_root", "pets/train"]
    cases = {
        (*dirs, *lists): "--train_dir and --train_list: give one of them",
        (*lists, "--val_split", "0.5", "--eval_list", "x"): "--val_split and --eval_list: give one of them",
        (*lists,): "--train_list: what is scored\\?",
        (*dirs, "--data_root", "pets"): "--data_root is of lists; accepted with --train_list or --eval_list",
        ("--train_list", "pets/one.csv", "--data_root", "pets/train", "--val_split", "0.5"): (
            "--train_list pets/one.csv: a single class, cat; accepted are two or more$"
        ),
        (
            *lists,
            "--eval_list",
            "pets/other.csv",
        ): "--eval_list pets/other.csv, line 2: unknown class cow; accepted are",
    }
    for flags, message in cases.items():
        with pytest.raises((UsageError, DataError), match=message):
            finetune.main([*RUN, *flags, "--dry_run"])
    for flags, message in {
        ("--test_list", "a", "--test_dir", "b"): "--test_dir and --test_list: give one of them",
        ("--test_dir", "b", "--label_column", "c"): "--label_column needs --test_list",
    }.items():
        with pytest.raises(UsageError, match=message):
            scoring.main(["--ckpts", "x", *flags])


def test_other_labels_of_the_same_files_are_other_images(root):
    """A cache or a saved run of one list must not be taken for that of the other."""
    kept = []
    for name, content in (
        ("a.csv", table()),
        ("b.csv", table().replace(b",dog", b",dot")),
        ("c.csv", table(NAMES[::-1])),
    ):
        (root / name).write_bytes(content)
        images = Dataset.of(StreamedImages(read_list(root / name), Preprocess()), ["cat", "dog", "dot", "emu"])
        assert images.paths == NAMES
        kept.append((images.store.fingerprint(range(len(NAMES))), digests(images, images)["train"]))
    first, relabelled, reordered = kept
    assert first[0] != relabelled[0]
    assert first[1] != relabelled[1]
    assert first == reordered
