"""Measure what users wait for, each beside what it replaces, and print a table: see docs/performance.md."""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from toktools.system.process import cores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "performance.md"
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
CORES = cores()
MANY = 100  # tokens; from so many on, a run takes seconds, and signatures are made on all cores
MIB = 1 << 20

# The libraries alone, with the collector as cli.py tunes it: what no filter on argparse can do without.
READ_JSON = """
import gc
gc.disable()
import argparse, json
argparse.ArgumentParser(add_help=False).parse_args()
gc.freeze()
"""
SIGN = """
import gc
gc.disable()
import argparse, os
parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("jobs", type=int)
parser.add_argument("count", type=int)
jobs, count = vars(parser.parse_args()).values()
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
with open("officer1.key", "rb") as file:
    key = serialization.load_pem_private_key(file.read(), None, unsafe_skip_rsa_key_validation=True)
public, how = key.public_key(), (PKCS1v15(), Prehashed(SHA256()))
for job in range(jobs):
    if job == jobs - 1 or not os.fork():
        for number in range(job, count, jobs):
            digest = number.to_bytes(32, "big")
            public.verify(key.sign(digest, *how), digest, *how)
        break
try:
    while os.wait():
        pass
except ChildProcessError:
    gc.freeze()
"""
# tok-sign but for the signature itself, of which a million would take minutes.
STREAM = """
from toktools import cli
from toktools.keys.files import KeyInMemory
KeyInMemory.sign = lambda key, digest: 8 * digest
raise SystemExit(cli.main("sign", ["-k", "officer1.key"]))
"""
# A process counts the memory of the one that starts it as its own peak; this one is small.
PEAK = """
import resource, subprocess, sys
subprocess.run(["sh", "-c", sys.argv[1]], check=True)
with open("peak", "w") as file:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
"""
KMS_SIGN = (
    "aws kms sign --message fileb://{} --message-type DIGEST --query Signature --output text"
    " --signing-algorithm RSASSA_PKCS1_V1_5_SHA_256 --key-id"
)


class Sizes(NamedTuple):
    """The number of runs, and the length of the streams and files."""

    runs: int = 21
    runs_of_many: int = 3
    signed: int = 20_000
    streamed: int = 1_000_000
    kms: int = 28
    tokens: tuple[int, ...] = (1, 3, 28, 1000)
    large: int = 35_000
    """Tokens of a file of nearly 16 MiB."""


SMOKE = Sizes(runs=1, runs_of_many=1, signed=100, streamed=200, kms=1, tokens=(1, 3), large=200)


class Run(NamedTuple):
    """What a script took: seconds that passed, and seconds of CPU time."""

    wall: float
    cpu: float


class Row(NamedTuple):
    """A line of the table."""

    what: str
    beside: str
    measured: str
    target: str
    is_met: bool
    note: str = ""


class Bench:
    """A directory to work in, with the commands on the path, and the rows of the table."""

    def __init__(self, directory: Path, commands: Path, sizes: Sizes) -> None:
        self.directory = directory
        self.sizes = sizes
        self.env = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "HOME": str(directory)}
        self.walls: dict[int, tuple[float, float]] = {}
        """By the number of tokens, the seconds of the pipeline and of the documented steps."""
        self.run("openssl genrsa -out officer1.key 2048; openssl rsa -in officer1.key -pubout -out officer1.pub")

    def rows(self) -> Iterator[Row]:
        """Yield every row."""
        yield from self.start()
        yield from self.pipeline()
        yield self.signatures()
        yield self.stream()
        yield from self.large_file()
        yield self.login()
        yield from self.kms()

    def start(self) -> Iterator[Row]:
        """Compare the help of each command with the import of argparse, which writes it."""
        helps = [f"exec {command} --help" for command in COMMANDS]
        runs = self.interleaved(self.sizes.runs, "exec python -I -c 'import argparse'", *helps)
        alone, *times = (statistics.median(run.cpu for run in each) for each in runs)
        for command, seconds in zip(COMMANDS, times):
            yield ratio(f"CPU time of `{command} --help`", "`import argparse`", seconds, alone, most=1.2)

    def pipeline(self) -> Iterator[Row]:
        """Compare the pipeline with the documented steps, and with its floor."""
        targets = {1: 1.15, 3: 0.95, 28: 0.27, 1000: 0.030}
        for count in self.sizes.tokens:
            file = self.token_file(count)
            ours, theirs, floor = self.walls_of(
                self.sizes.runs if count < MANY else self.sizes.runs_of_many,
                f"tok-extract {file} | tok-sign -k officer1.key | tok-merge {file}",
                f"sh {HERE}/documented-steps.sh officer1.key {file} .",
                f"{python(READ_JSON)} | {signer(CORES if count >= MANY else 1, count)} | {python(READ_JSON)}",
            )
            self.walls[count] = ours, theirs
            what = f"the pipeline, {count:,} token{'s' * (count > 1)}"
            note = f"the floor is {floor / theirs:.3f}; the pipeline takes {ours / floor:.2f} times that"
            yield ratio(what, "the documented steps", ours, theirs, most=targets[count], note=note)

    def signatures(self) -> Row:
        """Compare the signatures that tok-sign makes in a second with those of bare processes."""
        count = self.sizes.signed
        self.write_digests(count)
        ours, bare = self.walls_of(self.sizes.runs_of_many, "tok-sign -k officer1.key < digests", signer(CORES, count))
        what = f"signatures a second of `tok-sign`, {count:,} digests"
        beside = f"{CORES} processes that sign, verify and do nothing else"
        measured = f"{count / ours:,.0f} / {count / bare:,.0f} = {bare / ours:.3f}"
        return Row(what, beside, measured, "at least 0.97", bare / ours >= 0.97)

    def stream(self) -> Row:
        """Compare the peak of the memory of a long stream with that of a short one."""

        def peak(count: int) -> float:
            self.write_digests(count)
            return self.peak(f"{python(STREAM)} < digests") / MIB

        few, many = peak(100), peak(self.sizes.streamed)
        what = f"peak memory of `tok-sign`, {self.sizes.streamed:,} digests"
        measured = f"{many:.1f} MiB - {few:.1f} MiB = {many - few:.1f} MiB"
        return Row(what, "100 digests", measured, "at most 8 MiB", many - few <= 8, "without the signature itself")

    def large_file(self) -> Iterator[Row]:
        """Compare the peak of the memory with the size of a large token file."""
        file = self.token_file(self.sizes.large)
        self.run(f"tok-extract {file} | {python(STREAM)} > signatures; tok-merge -i {file} signatures")
        size = (self.directory / file).stat().st_size
        for words in ("extract", "merge -i", "inspect", "verify -p officer1.pub"):
            more = " signatures" if words == "merge -i" else " > /dev/null || [ $? = 1 ]"
            peak = self.peak(f"tok-{words} {file}{more}")
            what = f"peak memory of `tok-{words.split()[0]}`, {size / MIB:.1f} MiB"
            measured = f"{peak / MIB:.0f} MiB = {peak / size:.1f} times"
            yield Row(what, "the size of the file", measured, "at most 8 times", peak <= 8 * size)

    def login(self) -> Row:
        """Compare a login and a command with a driver that waits for nothing but the stand-in's words."""
        (self.directory / "password").write_text("for-practice\n")
        (self.directory / "password").chmod(0o600)
        cli = "tok-rehearse --state cluster"
        user = f"-k officer1.key --username admin --role admin --password file:password --cli '{cli}'"
        self.run(f"{cli} cluster activate --password for-practice; tok-enroll {user}")
        ours, bare = self.walls_of(
            self.sizes.runs, f"tok-login {user} -c 'user list'", f"python {HERE}/bare_login.py {cli} interactive"
        )
        measured = f"{shown(ours)} - {shown(bare)} = {shown(ours - bare)}"
        what = "`tok-login`, a login and a command"
        return Row(what, "a bare driver", measured, "at most 150 ms", ours - bare <= 0.15)

    def kms(self) -> Iterator[Row]:
        """Compare a key in KMS with the AWS CLI, which is run for each digest; no row if they are missing."""
        moto = shutil.which("moto_server")
        if not (moto and shutil.which("aws")):
            print("no row of AWS KMS: moto_server and aws are missing", file=sys.stderr)
            return
        self.write_digests(self.sizes.kms)
        with kms_stand_in(Path(moto)) as url:
            self.env |= {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x"}
            self.env |= {"AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
            create = "aws kms create-key --key-spec RSA_2048 --key-usage SIGN_VERIFY"
            self.run(f"{create} --query KeyMetadata.KeyId --output text > id")
            key = (self.directory / "id").read_text().strip()
            ours, theirs = self.walls_of(
                self.sizes.runs_of_many,
                f"tok-sign -k awskms:///{key} < digests",
                f"tok-exec -b -j 2 -- {KMS_SIGN} {key} < digests",
            )
        what = f"`tok-sign -k awskms:`, {self.sizes.kms} digests"
        yield ratio(what, "the AWS CLI for each digest, two at once", ours, theirs, most=0.1)

    def walls_of(self, runs: int, *scripts: str) -> list[float]:
        """Return the medians of the seconds that scripts take."""
        return [statistics.median(run.wall for run in each) for each in self.interleaved(runs, *scripts)]

    def interleaved(self, runs: int, *scripts: str) -> list[tuple[Run, ...]]:
        """Run each in turn, so many times: a machine is not equally fast for minutes."""
        return list(zip(*([self.run(script) for script in scripts] for _ in range(runs))))

    def run(self, script: str) -> Run:
        """Run a script of the shell, and return what it took."""
        words = ("sh", "-c", script)
        log = self.directory / "log"
        with open(log, "wb") as out:
            began = time.perf_counter()
            process = subprocess.Popen(words, stdout=out, stderr=out, cwd=self.directory, env=self.env)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{script}: {log.read_text(errors='replace')[-2000:]}")
        return Run(wall, used.ru_utime + used.ru_stime)

    def peak(self, script: str) -> int:
        """Run a script of the shell, and return the largest memory of one of its processes, in bytes."""
        self.run(f"{python(PEAK)} {shlex.quote(script)}")
        return int((self.directory / "peak").read_text()) * 1024

    def token_file(self, count: int) -> str:
        """Write a login file with so many tokens, and return its name."""
        tokens = [{"unsigned": base64.b64encode(os.urandom(32)).decode(), "signed": ""} for _ in range(count)]
        text = json.dumps({"version": "2.0", "tokens": tokens}, indent=2)
        (self.directory / f"{count}.json").write_text(f"{text}\n")
        return f"{count}.json"

    def write_digests(self, count: int) -> None:
        """Write so many digests into the file of that name."""
        (self.directory / "digests").write_bytes(count * (base64.b64encode(bytes(32)) + b"\n"))


@contextmanager
def kms_stand_in(moto: Path) -> Iterator[str]:
    """Yield the URL of a stand-in for AWS KMS."""
    words = (moto.resolve().with_name("python3"), ROOT / "tests" / "kms_stand_in.py")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def signer(jobs: int, count: int) -> str:
    """Return the command that signs with nothing but the library, in so many processes."""
    return f"{python(SIGN)} {jobs} {count}"


def python(program: str) -> str:
    """Return the command that runs a program in Python."""
    return f"python -I -c {shlex.quote(program)}"


def ratio(what: str, beside: str, ours: float, theirs: float, *, most: float, note: str = "") -> Row:  # noqa: PLR0913
    """Return the row of two times."""
    measured = f"{shown(ours)} / {shown(theirs)} = {ours / theirs:.3f}"
    return Row(what, beside, measured, f"at most {most:g}", ours / theirs <= most, note)


def shown(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def table(rows: list[Row]) -> str:
    """Return the rows in Markdown."""
    lines = ["| what | beside | measured | target | |", "|---|---|---|---|---|"]
    for row in rows:
        verdict = ("met" if row.is_met else "**missed**") + f"; {row.note}" * bool(row.note)
        lines.append(f"| {row.what} | {row.beside} | {row.measured} | {row.target} | {verdict} |")
    return "\n".join(lines)


def machine(bench: Bench) -> str:
    """Return what it was measured on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    names = ("cryptography", "orjson")
    code = "; ".join(f"print('{name}', version('{name}'))" for name in names)
    code = f"from importlib.metadata import version; {code}"
    bench.run(f'uname -sr; python --version; python -c "{code}"; openssl version; jq --version')
    versions = "; ".join((bench.directory / "log").read_text().splitlines())
    return f"{model[1] if model else 'unknown'}, {CORES} cores; {versions}."


def install(directory: Path) -> Path:
    """Install this checkout into a fresh virtual environment, as a user would; return the directory of its commands."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    subprocess.run([directory / "bin" / "python", "-m", "pip", "install", "-q", f"{ROOT}[kms]"], check=True)
    return directory / "bin"


def write_page(text: str, walls: dict[int, tuple[float, float]]) -> None:
    """Put the table into the page, and draw its chart."""
    from chart import draw

    draw(walls, PAGE.with_suffix(".svg"))
    before, begin, rest = PAGE.read_text().partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    PAGE.write_text(f"{before}{begin}{text}\n{end}{after}")


def main() -> int:
    """Print the table, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="put the table and the chart into docs/ too")
    parser.add_argument("--smoke", action="store_true", help="run everything once and on little, to see if it runs")
    parser.add_argument("--commands", metavar="DIR", type=Path, help="the installed commands, instead of a fresh venv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="toktools-bench-") as name:
        directory = Path(name)
        commands = options.commands or install(directory / "venv")
        bench = Bench(directory, commands.resolve(), SMOKE if options.smoke else Sizes())
        rows = []
        for row in bench.rows():
            rows.append(row)
            print(f"{row.what}: {row.measured}", file=sys.stderr)
        text = f"{table(rows)}\n\n{machine(bench)}"
    print(text)
    if options.page:
        write_page(text, bench.walls)
    return 0 if options.smoke or all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
