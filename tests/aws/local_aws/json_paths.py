"""JSONPath as Step Functions reads it: a definite path has the value of its one match, an indefinite one has a list."""

import functools
import re
import sys
from typing import Any

from jsonpath_ng.ext import parse
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

# Wildcards, slices, unions, filters and descents, outside of quoted names.
INDEFINITE = re.compile(r"\.\.|\.\*|\[\*\]|\[\?|\[[^\]'\"]*[:,]")
QUOTED = re.compile(r"\['[^']*'\]|\[\"[^\"]*\"\]")


def install() -> None:
    """moto unpacks some lists of one match, packs some single values, and has an error for some lists of none."""
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
