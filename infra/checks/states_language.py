"""statelint, without what it does not know: states_language.py DEFINITION.json"""

import re
import subprocess
import sys

UNKNOWN_TO_STATELINT = [
    # Its list of a ReaderConfig's fields has MaxItems alone; AWS asks for InputType.
    r'Field "InputType" not allowed in .*\.ItemReader\.ReaderConfig',
    # It takes no hyphen within the brackets of a path, which is what they are for.
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
        and not any(re.fullmatch(known, line) for known in UNKNOWN_TO_STATELINT)
    ]
    failed = bool(problems) or run.returncode not in (0, 1) or bool(run.stderr.strip())
    print("\n".join(problems) + run.stderr if failed else "statelint finds nothing")
    sys.exit(1 if failed else 0)


main()
