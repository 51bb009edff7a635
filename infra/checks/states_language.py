"""Runs statelint and ignores its false positives. Usage: states_language.py DEFINITION.json"""

import re
import subprocess
import sys

FALSE_POSITIVES = [
    # statelint only knows the field MaxItems of ReaderConfig, but AWS requires InputType.
    r'Field "InputType" not allowed in .*\.ItemReader\.ReaderConfig',
    # statelint does not accept hyphens in the bracket notation of a path.
    r'Field "Key\.\$" of Parameters at ".*\.ItemReader" is not a JSONPath or intrinsic function expression',
]


def main():
    run = subprocess.run(
        [sys.executable, "-m", "statelint", sys.argv[1]], capture_output=True, text=True, check=False
    )
    lines = [line.strip() for line in run.stdout.splitlines()]
    problems = [
        line
        for line in lines
        if line and not re.fullmatch(r"(One error|\d+ errors):", line)
        and not any(re.fullmatch(pattern, line) for pattern in FALSE_POSITIVES)
    ]
    failed = bool(problems) or run.returncode not in (0, 1) or bool(run.stderr.strip())
    print("\n".join(problems) + run.stderr if failed else "statelint found no problems")
    sys.exit(1 if failed else 0)


main()
