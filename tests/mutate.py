"""Does the suite notice a fault? `python tests/mutate.py [PAGE ...] [--workers 2] [--write]`, outside CI.

Every page of the methods' table gets each fault of mutation/operators.py, one at a time, and the tests that run the
changed function are run until one fails. A fault that none notices is a survivor: a test is missing, or the fault
changes nothing, and then mutation/equivalent.yaml says why. A page is done with no survivor.

One process imports and collects everything once; each mutant is a fork of it, with a function's code swapped. What
survives that, and what a swap cannot reach, is tried once more where everything is imported anew. First of all each
mutant meets the test that ended it last time, many in one process. The page as it is must pass in each of these ways.

Which test runs which function is measured at first (some minutes) and kept in .pytest_cache/mutation-map.json: remove
it after large changes. `--write` keeps the findings in results/mutation.json, and passes over the pages that are done
there and have not changed, nor their tests. No mutant is left out but those that are listed as equivalent; with
`--equivalents` these are run too, and named where a test notices one.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pytest
from mutation.fresh import Fresh
from mutation.server import Server
from mutation.swap import ROOT

# What runs in processes of its own, or has nothing to do with a method's arithmetic.
LEFT_OUT = (
    "notebooks check_* lesson_* quiz* course_* site* room grade* museum pages no_torch fetch data demo progress "
    "repository methods_table models budget compare compare_statistics speed_table claims report cost"
).split()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="ends of paths; without any, every page of the table")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the findings in results/mutation.json")
    parser.add_argument("--equivalents", action="store_true", help="also run what is listed as equivalent")
    parser.add_argument("--quick", action="store_true", help="believe a swap: no second look at survivors")
    parser.add_argument("--most", type=float, default=60, help="seconds of tests that a mutant is shown at most")
    args = parser.parse_args()
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PFS_SHAPES": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    server = Server(args, Fresh())
    os.chdir(ROOT)
    files = [f"--ignore-glob=tests/test_{name}.py" for name in LEFT_OUT] + ["--ignore=tests/lessons"]
    options = ["-q", "-s", "--tb=no", "-m", "not compiled and not slow", "-p", "no:cacheprovider", *files]
    code = pytest.main(["tests", *options], plugins=[server])
    return int(code) or (1 if server.survivors else 0)


if __name__ == "__main__":
    sys.exit(main())
