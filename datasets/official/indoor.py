"""MIT-Indoor-67: 67 kinds of rooms (Quattoni and Torralba 2009). Its two lists are not in its archive."""

from __future__ import annotations

import re

from datasets.official.base import Counts, DataSet, File, Layout, Listing, by_folder, lines


def read(lists: dict[str, bytes]) -> Listing:
    """Take the class of each image from its folder.

    Raises:
        DataError: a line is not CLASS/IMAGE, or an image is listed twice.
    """
    train, test = (lines(lists, name) for name in ("TrainImages.txt", "TestImages.txt"))
    listing = by_folder(train, test, "{}", "TrainImages.txt and TestImages.txt")
    others = sum(bool(re.search(r"_(gif|png|bmp)\.jpg$", name)) for name in train + test)
    listing.notes += (f"{others} names end in _gif.jpg, _png.jpg or _bmp.jpg: their content may not be JPEG",)
    return listing


INDOOR = DataSet(
    title="MIT-Indoor-67",
    releases=(
        (
            File("indoorCVPR_09.tar", "groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar", dead=True),
            File(
                "TrainImages.txt",
                "web.mit.edu/torralba/www/TrainImages.txt",
                size=172080,
                md5="fd987513d0f623c424252770fac3f354",
                sha256="7ec85f88735739d8159061e4bcf6a9765aab8606ab444605b3f8e0641be0260e",
            ),
            File(
                "TestImages.txt",
                "web.mit.edu/torralba/www/TestImages.txt",
                size=43475,
                md5="f00bef137f39d51e4894303a7bf4c2d4",
                sha256="906c529a5a0918feec371de5b07a465ddb1f15ebaebc90a33cc321c371133bf1",
            ),
        ),
    ),
    counts=Counts(67, 5360, 1340, (77, 83), (17, 23)),
    layouts=(Layout(("TrainImages.txt", "TestImages.txt"), "[^/]+/[^/]+[.]jpg", read),),
    mistake="the lists are not in the tar: give all three files",
)
