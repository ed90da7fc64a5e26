"""The documents: links lead somewhere, flags of commands exist, the loop on the front page is the one that runs."""

import re
import shlex

import pytest

import export
import predict
import reproduce
import test
from tests import picture_of_methods
from tests.scripts import ROOT
from training.parsing import parse
from utils.errors import UsageError, WeightsError

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "regularizers" / "README.md"])
PARSERS = {f"{each.__name__}.py": each.parser().parse_args for each in (export, predict, reproduce, test)}
PARSERS["finetune.py"] = parse
FRONT_PAGE_LINES, LINE = 150, 140  # of a table's row the length is not limited


def content(page):
    return page.read_text(encoding="utf-8")


def without_code(text):
    """Return `text` without its blocks of code, fenced or indented."""
    return re.sub(r"^(```.*?^```$|    .*?$)", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """Return the anchors of the headings of a page, as the public forges make them."""
    headings = re.findall(r"^#+ (.*)$", without_code(content(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page):
    """Yield the commands of a page that call a script, each as words."""
    text = re.sub(r"\\\n\s*", " ", content(page))
    for line in re.findall(r"^(?:    )?(?:\$ )?(python (?:\w+\.py|-m [\w.]+) .*)$", text, re.MULTILINE):
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if (
            not {"--help", "lwf"} & {*words}
            and "..." not in words
            and not any("*" in word or "$" in word for word in words)
        ):
            yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(content(page)))
    for link in links:
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}: there are {sorted(anchors(target))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_are_short_and_blocks_of_code_end(page):
    text = content(page)
    lines = [line for line in without_code(text).split("\n") if "|" not in line and "](" not in line]
    assert [line for line in lines if len(line) > LINE] == []
    assert len(re.findall("^```", text, re.MULTILINE)) % 2 == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_flags_of_commands_exist(page):
    for script, *words in (words[1:] for words in commands(page)):
        read = PARSERS.get(script)
        try:
            read and read(words)
        except WeightsError:
            pass  # a file that the page made before
        except UsageError as error:
            raise AssertionError(f"{page.name}: {script} {shlex.join(words)}: {error}") from None


def test_the_loop_on_the_front_page_is_the_one_that_runs():
    (shown,) = re.findall(r"^```python\n(.*?)^```$", content(ROOT / "README.md"), re.DOTALL | re.MULTILINE)
    code = (ROOT / "finetune.py").read_text(encoding="utf-8")
    dedented = [line.strip() for line in code.split("\n")]
    for line in filter(None, (line.strip() for line in shown.split("\n"))):
        assert line in dedented, line


def test_the_picture_is_of_the_table_on_the_front_page():
    drawn = picture_of_methods.PICTURE.read_text(encoding="utf-8")
    assert drawn == picture_of_methods.draw(), "python -m tests.picture_of_methods draws it again"


def test_the_front_page_is_short():
    assert len(content(ROOT / "README.md").split("\n")) < FRONT_PAGE_LINES
