"""SMILE and ten other ways to fine-tune a pretrained network, on PaddlePaddle: what is for use from Python.

    from smile_finetuning import Classifier, Options, finetune

`finetune`, `test`, `predict`, `export` and `reproduce` are the scripts, each with `main(argv)`. Nothing is loaded
before it is asked for. docs/python.md has examples.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from utils import project

__version__ = project.VERSION

_OBJECTS = {"Classifier": "evaluation.classifier", "Options": "training.options", "Failure": "utils.errors"}

__all__ = ["Classifier", "Failure", "Options", "__version__", "export", "finetune", "predict", "reproduce", "test"]


def __getattr__(name: str) -> ModuleType | type:
    if name in project.SCRIPTS:
        return importlib.import_module(project.PREFIX + name)
    if name in _OBJECTS:
        return getattr(importlib.import_module(project.PREFIX + _OBJECTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
