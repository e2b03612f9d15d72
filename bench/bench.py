"""Measure what users wait for, each beside what it replaces, and print a table: see docs/performance.md."""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import select
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from toktools.system.process import cores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
CORES = cores()
MANY = 100  # tokens; from so many on, a run takes seconds, and signatures are made on all cores

# The library alone, in so many processes, which sign and verify so many digests.
BARE_SIGNER = """
import os, sys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
with open("officer1.key", "rb") as file:
    key = serialization.load_pem_private_key(file.read(), None, unsafe_skip_rsa_key_validation=True)
public, how = key.public_key(), (PKCS1v15(), Prehashed(SHA256()))
jobs, count = map(int, sys.argv[1:])
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
    pass
"""
# tok-sign but for the signature itself, of which a million would take minutes; ru_maxrss would tell the parent's size.
PEAK_MEMORY = r"""
import re, sys
from toktools import cli
from toktools.keys.files import KeyInMemory
KeyInMemory.sign = lambda key, digest: 8 * digest
if cli.main("sign", ["-k", "officer1.key"]):
    raise SystemExit(2)
with open("/proc/self/status") as status:
    print(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1], file=sys.stderr)
"""
KMS_SIGN = (
    "aws kms sign --message fileb://{} --message-type DIGEST --query Signature --output text"
    " --signing-algorithm RSASSA_PKCS1_V1_5_SHA_256 --key-id"
)


@dataclass(frozen=True)
class Sizes:
    """The number of runs, and the length of the streams."""

    runs: int = 21
    runs_of_many: int = 3
    signed: int = 20_000
    streamed: int = 1_000_000
    kms: int = 28
    tokens: tuple[int, ...] = (1, 3, 28, 1000)


SMOKE = Sizes(runs=1, runs_of_many=1, signed=100, streamed=200, kms=1, tokens=(1, 3))


@dataclass(frozen=True)
class Row:
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
        self.shell("openssl genrsa -out officer1.key 2048 2> openssl.log")

    def rows(self) -> Iterator[Row]:
        """Yield every row."""
        yield from self.start()
        yield from self.pipeline()
        yield self.signatures()
        yield self.memory()
        yield self.first_signature()
        yield self.login()
        yield from self.kms()

    def start(self) -> Iterator[Row]:
        """Compare the help of each command with the import of argparse, which declares its options."""
        helps = [f"{command} --help" for command in COMMANDS]
        alone, *times = self.medians(self.sizes.runs, self.cpu, "python -I -c 'import argparse'", *helps)
        for words, seconds in zip(helps, times):
            yield ratio(f"CPU time of `{words}`", "`import argparse`", seconds, alone, most=1.2)

    def pipeline(self) -> Iterator[Row]:
        """Compare the pipeline with the documented steps, and with processes that import the libraries and sign."""
        targets = {1: 1.15, 3: 0.95, 28: 0.27, 1000: 0.030}
        for count in self.sizes.tokens:
            file = self.token_file(count)
            read_json = "python -I -c 'import json'"
            ours, theirs, floor = self.medians(
                self.sizes.runs if count < MANY else self.sizes.runs_of_many,
                self.wall,
                f"tok-extract {file} | tok-sign -k officer1.key | tok-merge {file} > signed",
                f"sh {HERE}/documented-steps.sh officer1.key {file} . > signed",
                f"{read_json} | {bare_signer(CORES if count >= MANY else 1, count)} | {read_json}",
            )
            self.walls[count] = ours, theirs
            what = f"the pipeline, {count:,} token{'s' * (count > 1)}"
            note = f"three processes that import `json`, `cryptography` and `json`, and sign: {floor / theirs:.3f}"
            yield ratio(what, "the documented steps", ours, theirs, most=targets[count], note=note)

    def signatures(self) -> Row:
        """Compare the signatures that tok-sign makes in a second with those of bare processes."""
        count = self.sizes.signed
        self.write_digests(count)
        ours, bare = self.medians(
            self.sizes.runs_of_many,
            self.wall,
            "tok-sign -k officer1.key < digests > signatures",
            bare_signer(CORES, count),
        )
        share = bare / ours
        return Row(
            f"signatures a second of `tok-sign`, {count:,} digests",
            f"{CORES} processes that sign, verify and do nothing else",
            f"{count / ours:,.0f} / {count / bare:,.0f} = {share:.3f}",
            "at least 0.97",
            share >= 0.97,
        )

    def memory(self) -> Row:
        """Compare the peak of the memory of a long stream with that of a short one."""

        def peak(count: int) -> float:
            self.write_digests(count)
            command = f"python -c {shlex.quote(PEAK_MEMORY)} < digests 2>&1 > signatures"
            return int(self.shell(command)) / 1024

        few, many = peak(100), peak(self.sizes.streamed)
        return Row(
            f"peak memory of `tok-sign`, {self.sizes.streamed:,} digests",
            "100 digests",
            f"{many:.1f} MiB - {few:.1f} MiB = {many - few:.1f} MiB",
            "at most 8 MiB",
            many - few <= 8,
            "without the signature itself",
        )

    def first_signature(self) -> Row:
        """See if a signature comes while the writer waits for it."""
        digest = base64.b64encode(bytes(32)) + b"\n"
        pipe = subprocess.PIPE
        words = ("tok-sign", "-k", "officer1.key")
        began = time.perf_counter()
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, cwd=self.directory, env=self.env, bufsize=0) as tool:
            assert tool.stdin
            assert tool.stdout
            tool.stdin.write(digest)
            is_out = bool(select.select([tool.stdout], [], [], 10)[0] and tool.stdout.readline())
            seconds = time.perf_counter() - began
            tool.stdin.write(digest)
            tool.stdin.close()
        measured = f"after {shown(seconds)}" if is_out else "later"
        return Row("the first signature of `tok-sign`", "the second digest", measured, "before it", is_out)

    def login(self) -> Row:
        """Compare a login and a command with a driver that waits for nothing but the CLI's words."""
        (self.directory / "password").write_text("for-practice\n")
        (self.directory / "password").chmod(0o600)
        cli = f"python -I -S {HERE}/fast_cli.py"
        user = "-k officer1.key --username officer1 --role admin --password file:password"
        ours, bare = self.medians(
            self.sizes.runs,
            self.wall,
            f"tok-login {user} --cli '{cli}' -c 'user list' > answer",
            f"python {HERE}/bare_login.py {cli}",
        )
        measured = f"{shown(ours)} - {shown(bare)} = {shown(ours - bare)}"
        return Row(
            "`tok-login`, a login and a command", "a bare driver", measured, "at most 150 ms", ours - bare <= 0.15
        )

    def kms(self) -> Iterator[Row]:
        """Compare a key in KMS with the AWS CLI, which is run for each digest; no row if they are missing."""
        moto = shutil.which("moto_server")
        if not (moto and shutil.which("aws")):
            print("no row of AWS KMS: moto_server and aws are missing", file=sys.stderr)
            return
        count = self.sizes.kms
        self.write_digests(count)
        with kms_stand_in(Path(moto)) as url:
            self.env |= {
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            self.env |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
            create = "aws kms create-key --key-spec RSA_2048 --key-usage SIGN_VERIFY"
            key = self.shell(f"{create} --query KeyMetadata.KeyId --output text").strip()
            ours, theirs = self.medians(
                self.sizes.runs_of_many,
                self.wall,
                f"tok-sign -k awskms:///{key} < digests > signatures",
                f"tok-exec -b -j 2 -- {KMS_SIGN} {key} < digests > signatures",
            )
        what = f"`tok-sign -k awskms:`, {count} digests"
        yield ratio(what, "the AWS CLI for each digest, two at once", ours, theirs, most=0.1)

    def medians(self, runs: int, measure: Callable[[str], float], *scripts: str) -> list[float]:
        """Measure each in turn, so many times, and return the medians: a machine is not equally fast for minutes."""
        rounds = [[measure(script) for script in scripts] for _ in range(runs)]
        return [statistics.median(times) for times in zip(*rounds)]

    def cpu(self, command: str) -> float:
        """Run a command, and return the seconds of CPU time that it took."""
        words = shlex.split(command)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=self.directory, env=self.env)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        return used.ru_utime + used.ru_stime

    def wall(self, script: str) -> float:
        """Run a script of the shell, and return the seconds that passed."""
        began = time.perf_counter()
        self.shell(script)
        return time.perf_counter() - began

    def shell(self, script: str) -> str:
        """Run a script of the shell, and return what it writes."""
        words = ("sh", "-c", script)
        done = subprocess.run(words, stdout=subprocess.PIPE, cwd=self.directory, env=self.env, check=True)
        return done.stdout.decode()

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
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def bare_signer(jobs: int, count: int) -> str:
    """Return the command that signs with nothing but the library."""
    return f"python -I -c {shlex.quote(BARE_SIGNER)} {jobs} {count}"


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
    libraries = " ".join(f"{name}=={{version('{name}')}}" for name in ("cryptography", "orjson"))
    code = f'from importlib.metadata import version; print(f"{libraries}")'
    versions = bench.shell(f"uname -sr; python --version; python -c {shlex.quote(code)}; openssl version; jq --version")
    return f"{model[1] if model else 'unknown'}, {CORES} cores; {'; '.join(versions.splitlines())}."


def install(directory: Path) -> Path:
    """Install this checkout into a fresh virtual environment, as a user would; return the directory of its commands."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    subprocess.run([directory / "bin" / "python", "-m", "pip", "install", "-q", f"{ROOT}[kms]"], check=True)
    return directory / "bin"


def write_page(text: str, walls: dict[int, tuple[float, float]]) -> None:
    """Put the table into the page, and draw its chart."""
    from chart import draw

    draw(walls, CHART)
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
