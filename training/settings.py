"""The options of a run as a file: what `--config` reads, and what every run leaves behind to be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utils import yamlfile
from utils.commandline import shortened
from utils.errors import UsageError
from utils.project import typed

if TYPE_CHECKING:
    from training.options import Options

# of the call or decided by then, not of what a run is; `run` and `embedded` follow from the others
_LEFT_OUT = ("resume", "overwrite", "dry_run", "check_data", "epochs", "time", "preset", "elastic")
_LEFT_OUT += ("run", "embedded", "method")
HEAD = f"# {typed('finetune.py')} --config THIS_FILE --name ANOTHER repeats the run\n"
_TRUE, _FALSE = ("", "true", "yes", "on"), ("false", "no", "off")


def read(path: str, switches: dict[str, bool]) -> dict[str, str | None]:
    """Return the options in a YAML file, name to text, as the command line would have them.

    A dash in a name is taken for an underscore. A switch that is on has an empty text, one that is off None.

    Args:
        path: the file.
        switches: the options that need no value, and whether they accept one.

    Raises:
        UsageError: naming the file; it is not YAML, has an option twice, or a value that is not a single one.
    """
    content = yamlfile.read(path, "settings file", "the NAME_METHOD.yaml of a run")
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected is a line for each option, as in `lr: 0.01`")
    yamlfile.refuse_repeated(path)
    texts = {}
    for key, text in content.items():
        name = shortened(str(key)).replace("-", "_")
        if not isinstance(text, str):
            raise UsageError(f"{path}: {name}: expected is a single value")
        if name in texts:
            raise UsageError(f"{path}: {name} is there twice")
        texts[name] = text
    return _switched(path, texts, switches)


def _switched(path: str, texts: dict[str, str], switches: dict[str, bool]) -> dict[str, str | None]:
    for name in [name for name in texts if name in switches]:
        text = texts[name].lower()
        if text in _TRUE or text in _FALSE:
            texts[name] = "" if text in _TRUE else None
        elif not switches[name]:
            raise UsageError(f"{path}: {name}: {shortened(texts[name])!r}: accepted are true and false")
    return texts


def text(options: Options) -> str:
    """Return a file that repeats a run: every option and hyper-parameter that it was made with.

    Of a run of the embedded task its folders are left out, for without any it is that task again.
    """
    import yaml  # not for a usage error or the help

    held_out = options.val_split is not None or options.fold is not None
    folders = ("train_dir", "eval_dir") if options.embedded else ("eval_dir",) if held_out else ()
    own = {name: value for name, value in options.to_dict().items() if name not in (*_LEFT_OUT, *folders)}
    if options.schedule == "cosine":
        del own["lr_drop"]  # which is not used then, and refused
    given = {name: value for name, value in own.items() if value is not None and value is not False}
    method = {name: value for name, value in options.method.items() if value is not None}
    return HEAD + yaml.safe_dump({**given, **method}, sort_keys=False, allow_unicode=True, width=2**16)
