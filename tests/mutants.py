"""Change a module in one place after another, and count the changes that no test of it sees: see make mutants.

Mutants are made by cosmic-ray, which changes a file on the disk, so that a process that a test starts runs the mutant
too. They are made in copies of the checkout, one a core, that go when this ends: the checkout itself stays as it is.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parent.parent

TESTS = {
    "approvaldata": "approvers",
    "approvers": "approvers options",
    "cli": "options cli",
    "encoding": "encoding",
    "errors": "errors",
    "files": "files",
    "jsontext": "jsontext tokenfile",
    "keys/__init__": "key_files options",
    "keys/allowed": "key_files allowed",
    "keys/awskms": "awskms_itself",
    "keys/command": "command",
    "keys/stream": "stream",
    "keys/der": "key_files",
    "keys/file": "key_files",
    "keys/forms": "forms key_files",
    "keys/openssh": "key_files allowed",
    "keys/owners": "approvers",
    "keys/pbes": "key_files",
    "keys/pkcs11": "pkcs11",
    "keys/public": "key_files",
    "keys/signer": "key_files",
    "kernel": "kernel",
    "login/dialogues": "dialogues",
    "login/driver": "driver",
    "login/place": "place",
    "login/program": "program",
    "login/screen": "screen_moves screen",
    "login/session": "options session",
    "hints": "hints",
    "onscreen": "onscreen",
    "options": "options",
    "passphrases": "passphrases",
    "rehearsal/cluster": "cluster",
    "rehearsal/state": "rehearsal_state",
    "replacing": "replacing_itself",
    "signals": "signals",
    "signatures": "signatures",
    "terminal": "terminal",
    "tokenfile": "tokenfile",
    "usernames": "approvers",
}
"""The tests of a module: where they are enough, those that start no process, which take a second."""

CHANGES = {
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("RemoveDecorator", "ZeroIterationForLoop", "ReplaceUnaryOperator_Delete_Not"),
    *("ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Invert"),
    *("ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"),
    *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE"),
    *("ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt"),
    *("ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE"),
    *("ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt"),
    *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
    *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_FloorDiv"),
    *("ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_FloorDiv", "ReplaceBinaryOperator_Pow_Mul"),
    *("ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_BitOr_BitAnd", "ReplaceBinaryOperator_BitXor_BitOr"),
    *("ReplaceBinaryOperator_LShift_RShift", "ReplaceBinaryOperator_RShift_LShift", "ReplaceBinaryOperator_Div_Mul"),
}
"""One change, or the one on each side, for each operator: eleven others of + say the same."""


def unseen(module: Path) -> set[int]:
    """The lines, and in them annotations, that never run."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.Assign) and [ast.unparse(name) for name in node.targets] == ["TYPE_CHECKING"]:
            lines.add(node.lineno)
    return lines


def hints(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where the annotations are, which are text alone."""
    found = []
    for node in ast.walk(ast.parse(module.read_text())):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                end = (part.end_lineno or part.lineno, part.end_col_offset or part.col_offset)
                found.append(((part.lineno, part.col_offset), end))
    return found


class Checkouts:
    """Copies of the checkout, one for each that works at once."""

    def __init__(self, home: Path, count: int) -> None:
        made = [".git", ".venv*", ".*_cache", ".hypothesis", ".coverage*", "__pycache__", "dist", "html"]
        self.folders = [home / f"copy-{number}" for number in range(count)]
        for folder in self.folders:
            shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*made))

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a copy, whose sources come before those that are installed."""
        # The installed commands, in place of a wheel built and installed for each mutant, which takes seconds.
        env = {**os.environ, "PYTHONPATH": str(folder / "src"), "TOKTOOLS_BIN": sysconfig.get_path("scripts")}
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # hypothesis and xdist take longer to start than most tests
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def measure(checkouts: Checkouts, name: str, sample: int) -> tuple[int, int, int, list[str]]:
    """Try a module's mutants; return how many there are, were tried and were seen, and a diff for each other one."""
    path = Path("src", "toktools", f"{name}.py")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
    command += [f"tests/test_{test}.py" for test in TESTS[name].split()]
    began = time.monotonic()
    done = checkouts.run(checkouts.folders[0], *command)
    if done.returncode:
        sys.exit(f"{path}: the tests fail without a change:\n{done.stdout}{done.stderr}")
    timeout = 10 + 2 * (time.monotonic() - began)
    never, texts = unseen(ROOT / path), hints(ROOT / path)

    def counts(change: MutationSpec) -> bool:
        return (
            change.operator_name.split("/")[1] in CHANGES
            and change.start_pos[0] not in never
            and not any(start <= change.start_pos < end for start, end in texts)
        )

    def work(number: int) -> tuple[int, list[WorkResult]]:
        folder = checkouts.folders[number]
        config, session = folder / "mutants.toml", folder / "mutants.sqlite"
        config.write_text(
            f'[cosmic-ray]\nmodule-path = "{path}"\ntimeout = {timeout:.0f}\nexcluded-modules = []\n'
            f"test-command = '{' '.join(command)}'\n[cosmic-ray.distributor]\nname = 'local'\n"
        )
        session.unlink(missing_ok=True)
        tool = os.path.join(sysconfig.get_path("scripts"), "cosmic-ray")
        checkouts.run(folder, tool, "init", str(config), str(session)).check_returncode()
        with use_db(session) as db:
            places = {item.job_id: item.mutations[0] for item in db.pending_work_items}
            order = sorted((job for job in places if counts(places[job])), key=lambda job: _place(places[job]))
            tried = random.Random(1).sample(order, min(sample or len(order), len(order)))
            mine = set(tried[number :: len(checkouts.folders)])
            for job in places:
                if job not in mine:
                    db.set_result(job, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
        checkouts.run(folder, tool, "exec", str(config), str(session)).check_returncode()
        with use_db(session) as db:
            return len(order), [result for job, result in db.results if job in mine]

    with ThreadPoolExecutor(len(checkouts.folders)) as pool:
        ended = list(pool.map(work, range(len(checkouts.folders))))
    # A mutant that could not be made (of "except a.b", for one) was not tried.
    results = [result for _, some in ended for result in some if result.test_outcome is not TestOutcome.INCOMPETENT]
    left = [result.diff or "" for result in results if not result.is_killed]
    return ended[0][0], len(results), len(results) - len(left), left


def _place(change: MutationSpec) -> tuple[tuple[int, int], str, int]:
    return change.start_pos, change.operator_name, change.occurrence


def main() -> None:
    """Report each module by a line, and by a diff each change that no test saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="as src/toktools/keys/pipeline.py; the default is all of TESTS")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="try N of each module, by chance")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="try N at once")
    options = parser.parse_args()
    names = [str(Path(module).resolve().relative_to(ROOT / "src/toktools"))[:-3] for module in options.modules]
    if unknown := [name for name in names if name not in TESTS]:
        sys.exit(f"{unknown[0]}: not in the table TESTS of tests/mutants.py")
    with tempfile.TemporaryDirectory(prefix="toktools-mutants-") as home:
        checkouts = Checkouts(Path(home), options.jobs)
        for name in names or TESTS:
            there, tried, seen, left = measure(checkouts, name, options.sample)
            for diff in left:
                print("".join(line + "\n" for line in diff.splitlines() if line[:1] in "+-@"))
            print(f"{name}.py: {seen} of {tried} seen, {100 * seen // max(tried, 1)} %; {there} in all", flush=True)


if __name__ == "__main__":
    main()
