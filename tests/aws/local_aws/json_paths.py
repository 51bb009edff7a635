"""Evaluates JSONPath as Step Functions does: a definite path has one value, an indefinite path has a list."""

import functools
import re
import sys
from typing import Any

from jsonpath_ng.ext import parse
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

# Wildcards, slices, unions, filters and recursive descents, outside of quoted names.
INDEFINITE = re.compile(r"\.\.|\.\*|\[\*\]|\[\?|\[[^\]'\"]*[:,]")
QUOTED = re.compile(r"\['[^']*'\]|\[\"[^\"]*\"\]")


def install() -> None:
    """Replaces moto's evaluation, which unpacks some one-element lists, wraps some single values, and fails for some
    empty lists."""
    for module in [module for name, module in sys.modules.items() if name.startswith("moto.stepfunctions.")]:
        if hasattr(module, "extract_json"):
            module.extract_json = extract_json


def extract_json(path: str, data: Any) -> Any:
    found = [match.value for match in parsed(path).find(data)]
    if INDEFINITE.search(QUOTED.sub(".quoted", path)):
        return found
    if not found:
        raise NoSuchJsonPathError(json_path=path, data=data)
    return found[0]


@functools.lru_cache(maxsize=1024)
def parsed(path: str):
    return parse(path)
