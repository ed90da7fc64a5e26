"""Archives that are hostile, damaged or hold wrong lists: refused by name, with nothing left behind."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import time
import zlib
from pathlib import Path

import pytest

from datasets.official import tree as tree_module
from tests.datasets import official
from tests.datasets.official import content, prepare, refused
from tests.fuzzing import peak_memory
from utils.errors import DataError


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


DANGERS = {
    "absolute": (entry("/evil.jpg"), "leads out"),
    "parent": (entry("CUB_200_2011/../../evil.jpg"), "leads out"),
    "parent_folder": (entry("..", tarfile.DIRTYPE), "leads out"),
    "symlink": (entry("CUB_200_2011/images/x", tarfile.SYMTYPE, "../../../evil"), "is a symbolic link out"),
    "absolute_symlink": (entry("CUB_200_2011/images", tarfile.SYMTYPE, "/etc"), "is a symbolic link out"),
    "hardlink": (entry("CUB_200_2011/x.jpg", tarfile.LNKTYPE, "../evil.jpg"), "is a hard link out"),
    "absolute_hardlink": (entry("CUB_200_2011/x.jpg", tarfile.LNKTYPE, "/etc/hostname"), "is a hard link out"),
    "character_device": (entry("CUB_200_2011/null", tarfile.CHRTYPE), "is a device"),
    "block_device": (entry("CUB_200_2011/disk", tarfile.BLKTYPE), "is a device"),
    "pipe": (entry("CUB_200_2011/pipe", tarfile.FIFOTYPE), "is a device"),
}


def insert(path: Path, member: tarfile.TarInfo, data: bytes = b"") -> None:
    """Put a member behind the first half of an archive."""
    with tarfile.open(path) as tar:
        old = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]
    member.size = len(data)
    old.insert(len(old) // 2, (member, data))
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for info, content in old:
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("form", ["tar", "tgz"])
@pytest.mark.parametrize("danger", DANGERS)
def test_member_that_leads_out_is_refused(danger, form, tmp_path):
    miniature = official.cub()
    (archive,) = miniature.write(tmp_path / "deep" / "in", form)
    member, reason = DANGERS[danger]
    insert(archive, member)
    before = content(tmp_path)
    with pytest.raises(DataError) as failure:
        prepare(miniature, [archive], tmp_path / "deep" / "out")
    assert f"refused, its member {member.name} {reason}" in str(failure.value)
    assert content(tmp_path) == before
    assert sorted(os.listdir(tmp_path / "deep")) == ["in"]
    assert not Path("/evil.jpg").exists()


def test_links_that_stay_inside_are_passed_over(tmp_path):
    miniature = official.cub()
    (archive,) = miniature.write(tmp_path / "in", "tar")
    insert(archive, entry("CUB_200_2011/images/link", tarfile.SYMTYPE, "../README"))
    insert(archive, entry("CUB_200_2011/more.jpg", tarfile.LNKTYPE, "CUB_200_2011/images.txt"))
    prepare(miniature, [archive], tmp_path / "out")
    assert content(tmp_path / "out") == miniature.expected


def test_listed_image_that_is_a_link_is_missing(tmp_path):
    miniature = official.cub()
    name = "CUB_200_2011/images/002.Laysan_Albatross/Laysan_Albatross_0001_1.jpg"
    del miniature.archives["CUB_200_2011"][name]
    (archive,) = miniature.write(tmp_path / "in", "tar")
    insert(archive, entry(name, tarfile.SYMTYPE, "Laysan_Albatross_0000_0.jpg"))
    with pytest.raises(DataError, match="1 listed images are missing: images/002.Laysan"):
        prepare(miniature, [archive], tmp_path / "out")


@pytest.mark.parametrize("name", ["cub", "indoor"])  # lists behind the images, and before
def test_image_that_is_there_twice_is_refused(name, tmp_path):
    miniature = official.ALL[name]()
    archive = miniature.write(tmp_path / "in", "tar")[0]
    image = [key for key in next(iter(miniature.archives.values())) if key.endswith(".jpg")][0]
    insert(archive, entry(f"./{image}"), b"another")
    with pytest.raises(DataError, match="there are two images"):
        prepare(miniature, sorted((tmp_path / "in").iterdir()), tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


def test_list_that_is_there_twice(tmp_path):
    miniature = official.cub()
    (archive,) = miniature.write(tmp_path / "in", "tar")
    same = miniature.archives["CUB_200_2011"]["CUB_200_2011/classes.txt"]
    insert(archive, entry("copy/classes.txt"), same)
    prepare(miniature, [archive], tmp_path / "same")
    assert content(tmp_path / "same") == miniature.expected
    insert(archive, entry("other/classes.txt"), same + b"\n")
    with pytest.raises(DataError, match="its classes.txt differs from another one in --archive"):
        prepare(miniature, [archive], tmp_path / "other")


def test_names_that_differ_by_case_only(tmp_path, monkeypatch):
    miniature = official.indoor()  # airport_inside/b.jpg and B.jpg, in different splits
    miniature.loose["TrainImages.txt"] += b"\nmall/POOL_gif.jpg\n"
    miniature.archives["indoorCVPR_09"]["Images/mall/POOL_gif.jpg"] = b"upper"
    paths = miniature.write(tmp_path / "in", "tar")
    prepare(miniature, paths, tmp_path / "out")
    assert content(tmp_path / "out") == {**miniature.expected, "train/002.mall/POOL_gif.jpg": b"upper"}
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name == "PREPARED.JSON" or exists(path))  # case is ignored
    with pytest.raises(DataError, match="POOL_gif.jpg and .*pool_gif.jpg are one name"):
        prepare(miniature, paths, tmp_path / "out2")


def edited(name: str, member: str, change) -> official.Miniature:
    """Return a miniature with one member or loose file changed, or removed when the change gives None."""
    miniature = official.ALL[name]()
    for files in (miniature.loose, *miniature.archives.values()):
        for key in [key for key in files if key.endswith(member)]:
            files[key] = change(files[key])
            if files[key] is None:
                del files[key]
    return miniature


def swap(old: str, new: str):
    return lambda data: data.replace(old.encode(), new.encode())


def without_field(name: str):
    rows = [{"fname": "00001.jpg", "class": 1.0}]
    return lambda _: official.mat(annotations=official.records([{k: v for k, v in rows[0].items() if k != name}]))


def car_rows(number: object, name: object = "00001.jpg"):
    rows = [{"fname": name, "class": number}, {"fname": "00002.jpg", "class": 2.0}]
    return lambda _: official.mat(annotations=official.records(rows))


def remove(_):
    return None


CUB_FIRST = "002.Laysan_Albatross/Black_Footed_Albatross_0000_0"
WRONG = {
    "cub_no_list": (("cub", "train_test_split.txt", remove), "no train_test_split.txt of CUB-200-2011"),
    "cub_absent_image": (("cub", "Albatross_0002_2.jpg", remove), "2 listed images are missing"),
    "cub_label_0": (("cub", "image_class_labels.txt", swap("1 1", "1 0")), "is of class 0; accepted are 1 to 2"),
    "cub_label_3": (("cub", "image_class_labels.txt", swap("6 2", "6 3")), "is of class 3; accepted are 1 to 2"),
    "cub_label_text": (("cub", "image_class_labels.txt", swap("6 2", "6 two")), "'two' is not a whole number"),
    "cub_no_label": (("cub", "image_class_labels.txt", swap("6 2", "7 2")), "None is not a whole number"),
    "cub_split": (("cub", "train_test_split.txt", swap("2 0", "2 2")), "says 2; accepted are 1, train, and 0, test"),
    "cub_id_twice": (("cub", "images.txt", swap("\n2 ", "\n1 ")), "images.txt line 2: 1 is listed twice"),
    "cub_line": (("cub", "images.txt", swap("3 001", "3_001")), "images.txt line 3: '3_001"),
    "cub_classes": (("cub", "classes.txt", swap("2 002", "3 002")), "not numbered 1 to 2"),
    "cub_outside": (("cub", "images.txt", swap("1 001.Black_footed_Albatross/", "1 ../../in/")), "images are missing"),
    "cub_same_name": (
        ("cub", "images.txt", swap("3 001.Black_footed_Albatross/Black_Footed_Albatross_0002_2", f"3 {CUB_FIRST}")),
        "would both be train/001.Black_footed_Albatross/Black_Footed_Albatross_0000_0.jpg",
    ),
    "cars_no_labels": (("cars", "withlabels.mat", remove), "cars_test_annos.mat has no labels"),
    "cars_bad_mat": (("cars", "cars_meta.mat", lambda data: data[:150]), "cars_meta.mat: not a MATLAB file"),
    "cars_text_mat": (("cars", "cars_meta.mat", lambda data: b"<html>404</html>"), "cars_meta.mat: not a MATLAB file"),
    "cars_empty_mat": (("cars", "train_annos.mat", lambda data: b""), "cars_train_annos.mat: not a MATLAB file"),
    "cars_no_names": (("cars", "cars_meta.mat", lambda _: official.mat(names=1)), "holds no variable class_names"),
    "cars_no_class": (("cars", "train_annos.mat", without_field("class")), "annotations has no field class"),
    "cars_no_struct": (("cars", "train_annos.mat", lambda _: official.mat(annotations=1)), "has no field fname"),
    "cars_label_0": (("cars", "train_annos.mat", car_rows(0.0)), "is of class 0; accepted are 1 to 3"),
    "cars_label_197": (("cars", "train_annos.mat", car_rows(197.0)), "is of class 197; accepted are 1 to 3"),
    "cars_label_text": (("cars", "train_annos.mat", car_rows("one")), "'one' is not a whole number"),
    "cars_label_nan": (("cars", "train_annos.mat", car_rows(float("inf"))), "inf is not a whole number"),
    "cars_twice": (("cars", "train_annos.mat", car_rows(1.0, "00002.jpg")), "cars_train/00002.jpg is listed twice"),
    "cars_long_name": (
        ("cars", "cars_meta.mat", lambda _: official.mat(class_names=official.cells(["a" * 300, "b", "c"]))),
        "is not a valid name",
    ),  # noqa: E501
    "cars_one_image_less": (("cars", "00003.jpg", remove), "2 listed images are missing: cars_train/00003"),
    "aircraft_variant": (("aircraft", "variants.txt", swap("F-16A/B", "F-16")), "of the variant 'F-16A/B', which"),
    "aircraft_line": (("aircraft", "variant_test.txt", swap("0000006 7", "0000006_7")), "variant_test.txt line 2: "),
    "aircraft_zero": (("aircraft", "variants.txt", swap("707-320", "707\0-320")), "of the variant '707-320', which"),
    "indoor_no_list": (
        ("indoor", "TestImages.txt", remove),
        "no TestImages.txt of MIT-Indoor-67; the lists are not in",
    ),
    "indoor_absent": (("indoor", "TestImages.txt", swap("mall/b", "mall/c")), "images are missing: mall/c.jpg"),
    "indoor_no_class": (
        ("indoor", "TestImages.txt", swap("mall/b", "mall_b")),
        "'mall_b.jpg'; expected is CLASS/IMAGE",
    ),
    "indoor_outside": (("indoor", "TestImages.txt", swap("mall/b", "../b")), "images are missing: ../b.jpg"),
    "indoor_both": (("indoor", "TestImages.txt", swap("mall/b", "mall/shopping mall")), "is listed twice"),
    "indoor_zero": (
        ("indoor", "TestImages.txt", swap("mall/b", "ma\0ll/b")),
        "is not a valid name of a file or folder",
    ),
    "food_no_list": (("food_txt", "meta/test.txt", remove), "no meta/test.txt or meta/train.json, meta/test.json of"),
    "food_json": (("food_json", "meta/test.json", lambda data: data[:-3]), "meta/test.json: not a list of images by"),
    "food_json_list": (("food_json", "meta/test.json", lambda data: b"[1]"), "meta/test.json: not a list of images by"),
    "food_json_number": (("food_json", "meta/test.json", lambda data: b'{"a": [1]}'), "a name is not text"),
    "food_json_nothing": (("food_json", "meta/test.json", lambda data: b'{"a": null}'), "not a list of images by"),
    "food_ending": (("food_txt", "meta/test.txt", swap("/7", "/7.jpg")), "images/churros/7.jpg.jpg"),
}


@pytest.mark.parametrize("form", ["tar", "folder"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_list_is_refused(case, form, tmp_path):
    arguments, text = WRONG[case]
    assert text in refused(edited(*arguments), tmp_path, form)


def test_list_of_no_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tree_module, "LONGEST_LIST", 60)
    assert "images.txt is longer than 60 bytes" in refused(official.cub(), tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_archive_that_is_cut_short(form, share, tmp_path):
    miniature = official.cub()
    (path,) = miniature.write(tmp_path / "in", form)
    data = path.read_bytes()
    used = len(data) if form == "tgz" else len(data.rstrip(b"\0"))
    path.write_bytes(data[: int(share * used)])
    with pytest.raises(DataError, match="damaged or truncated|is not a tar archive|images are missing|no images.txt"):
        prepare(miniature, [path], tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


def test_damage_in_a_zipped_image_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.archives._BLOCK", 512)  # the sum is then not read along with the last member
    miniature = official.cub()
    (path,) = miniature.write(tmp_path / "in", "tgz")
    data = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    at = data.index(miniature.expected["test/001.Black_footed_Albatross/Black_Footed_Albatross_0001_1.jpg"][200:300])
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged or truncated: CRC check failed"):
        prepare(miniature, [path], tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("data", [b"", b"PK\3\4 a zip file", b"\x1f\x8b\x08\x00junk", b"<html>404</html>" * 99])
def test_file_that_is_no_tar(data, tmp_path):
    path = tmp_path / "CUB_200_2011.tgz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"CUB_200_2011\.tgz is (not a tar archive|damaged)"):
        prepare(official.cub(), [path], tmp_path / "out")
    assert os.listdir(tmp_path) == [path.name]


def test_folder_that_needs_no_preparing(tmp_path):
    for name in ("train/1/000001.jpg", "test/1/000002.jpg"):  # as TLLib packs Cars
        official.write_folder(tmp_path / "in", {name: official.picture(0)})
    with pytest.raises(DataError, match="no cars_meta.mat.*; a folder with train/ and test/ needs no preparation"):
        prepare(official.cars(), [tmp_path / "in"], tmp_path / "out")


def header(name: str, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\00000") -> bytes:
    """Return a tar header with the raw field `size`."""
    block = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8
    block = (block + kind + bytes(100) + magic).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def octal(number: int) -> bytes:
    return b"%011o\0" % number


def binary(number: int) -> bytes:
    return b"\x80" + number.to_bytes(11, "big")


def negative(number: int) -> bytes:
    return (256**12 - number).to_bytes(12, "big")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    data = b"".join(records)
    return header("pax", octal(len(data)), kind) + padded(data)


END, FIRST = bytes(1024), header("C/a.bin", octal(3)) + padded(b"abc")
LONG = 1 << 22
HOSTILE = {
    "huge": FIRST + header("C/o", binary(2**62)) + END,
    "huge_first": header("C/o", binary(2**62)) + END,
    "beyond_64_bits": FIRST + header("C/o", binary(2**80)) + END,
    "longer_than_the_file": FIRST + header("C/o", octal(8**11 - 1)) + END,
    "negative": FIRST + header("C/o", negative(1024)) + END,
    "negative_pax_size": FIRST + pax(b"14 size=-99999\n") + header("C/o", octal(0)) + END,
    "huge_pax_size": FIRST + pax(b"28 size=4611686018427387904\n") + header("C/o", octal(0)) + END,
    "pax_size_text": FIRST + pax(b"11 size=zz\n") + header("C/o", octal(0)) + END,
    "sparse_realsize": pax(b"26 GNU.sparse.realsize=zz\n") + header("C/o", octal(0)) + END,
    "sparse_map": pax(b"25 GNU.sparse.map=1,2,z,\n") + header("C/o", octal(0)) + END,
    "sparse_size": pax(b"22 GNU.sparse.size=99\n", b"24 GNU.sparse.offset=zz\n") + header("C/o", octal(0)) + END,
    "sparse_1_0": pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + header("C/o", octal(LONG)) + b"9" * LONG,
    "sparse_old": FIRST + header("C/o", octal(0), b"S") + END,
    "sparse_old_endless": FIRST + header("C/o", octal(0), b"S") + b"\1" * LONG,
    "long_name": FIRST + header("././@LongLink", octal(LONG), b"L") + b"a" * LONG + header("C/o", octal(0)) + END,
    "huge_name": FIRST + header("././@LongLink", binary(2**60), b"L") + END,
    "huge_pax": FIRST + header("pax", binary(2**60), b"x") + END,
    "long_pax": FIRST + pax(b"9" * LONG) + header("C/o", octal(0)) + END,
    "nested_headers": (header("././@LongLink", octal(2), b"L") + padded(b"a\0")) * 3000 + header("C/o", octal(0)) + END,
    "pax_of_length_0": FIRST + pax(b"0 path=x\n") + header("C/o", octal(0)) + END,
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_refused_in_bounded_time_and_memory(case, zipped, tmp_path):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(HOSTILE[case]) if zipped else HOSTILE[case])
    before, began = peak_memory(), time.process_time()
    with pytest.raises(DataError, match="a.tar"):
        prepare(official.cub(), [path], tmp_path / "out")
    assert time.process_time() - began < 10
    assert peak_memory() - before < 100 << 10
    assert os.listdir(tmp_path) == ["in"]


def test_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.archives._LEAST_CONTENT", 1 << 20)
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(FIRST + header("C/zeros", octal(1 << 25)) + bytes(1 << 25) + END))
    with pytest.raises(DataError, match="a.tar is damaged or truncated: C/zeros has 33,554,432 bytes"):
        prepare(official.cub(), [path], tmp_path / "out")
    path.write_bytes(gzip.compress(FIRST + bytes(1 << 25)))  # behind the end
    with pytest.raises(DataError, match="a.tar: refused, unpacked it has more than 1,048,576 bytes"):
        prepare(official.cub(), [path], tmp_path / "out")


def test_bomb_in_a_matlab_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.official.cars.LARGEST_VARIABLE", 1 << 16)
    packed = zlib.compress(bytes(1 << 20))
    bomb = struct.pack("<II", 15, len(packed)) + packed
    miniature = edited("cars", "cars_meta.mat", lambda data: data[:128] + bomb)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("scipy unpacked it"))
    message = refused(miniature, tmp_path)
    assert "cars_meta.mat: not a MATLAB file that scipy can read: a variable of more than 65,536 bytes" in message


def test_compression_in_compression_is_no_archive(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(gzip.compress(FIRST + END)))
    with pytest.raises(DataError, match="a.tar is not a tar archive"):
        prepare(official.cub(), [path], tmp_path / "out")


@pytest.mark.parametrize("whole", [0, 1])
@pytest.mark.parametrize("error", [ValueError, OverflowError, KeyError, AttributeError, RecursionError, TypeError])
def test_whatever_tarfile_raises_is_damage(error, whole, tmp_path, monkeypatch):
    """At the first member, which is read when the archive is opened, or at a later one."""
    path = tmp_path / "a.tar"
    path.write_bytes(FIRST + END)
    read, members = tarfile.TarFile.next, []

    def fail(tar):
        if len(members) == whole:
            raise error("x")
        members.append(read(tar))
        return members[-1]

    monkeypatch.setattr(tarfile.TarFile, "next", fail)
    with pytest.raises(DataError, match="a.tar is damaged or truncated"):
        prepare(official.cub(), [path], tmp_path / "out")


def test_a_fault_of_ours_keeps_its_trace(tmp_path, monkeypatch):
    (path,) = official.cub().write(tmp_path, "tar")
    monkeypatch.setattr(tree_module.Tree, "add_file", lambda *_: [][1])
    with pytest.raises(IndexError):
        prepare(official.cub(), [path], tmp_path / "out")
