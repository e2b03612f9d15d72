"""Measure the targets of docs/performance.md on installed commands, and print them as a table."""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from logins import BARE, LOGIN, READY, prepare
from measure import Place, medians

ROOT = Path(__file__).resolve().parent.parent
STEPS = Path(__file__).resolve().with_name("documented-steps.sh")
KMS = ROOT / "tests" / "kms_stand_in.py"
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
FILTERS = ("tok-exec", "tok-extract", "tok-inspect", "tok-merge", "tok-sign", "tok-verify")
COMMANDS = (*FILTERS, "tok-enroll", "tok-login", "tok-rehearse")
CORES = len(os.sched_getaffinity(0))
MANY = 28  # tokens; from so many on the signatures count beside the start
PIPELINE = "tok-extract {0} | tok-sign -k officer1.key | tok-merge {0} > out"
# What keys/file.py and signatures.py cannot do without.
CRYPTOGRAPHY = """
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
"""
# The library alone: the key is read, and so many digests are signed and verified.
SIGNATURES = f"""{CRYPTOGRAPHY}
import sys
with open("officer1.key", "rb") as file:
    key = serialization.load_pem_private_key(file.read(), None, unsafe_skip_rsa_key_validation=True)
public, how = key.public_key(), (PKCS1v15(), Prehashed(SHA256()))
for number in range(int(sys.argv[1])):
    digest = number.to_bytes(32, "big")
    public.verify(key.sign(digest, *how), digest, *how)
"""
# A merge that trusts whatever it is given, and writes the file in a layout of its own.
JSON_ALONE = """
import json, sys
with open(sys.argv[1]) as file:
    document = json.load(file)
for token, line in zip(document["tokens"], sys.stdin):
    token["signed"] = line[:-1]
sys.stdout.write(json.dumps(document))
"""
# Processes with nothing between them, each of which signs and verifies as tok-sign does.
FLOOR_OF_SIGNING = """
import os, sys, time
from toktools import keys
from toktools.system.prompt import Source
sign = keys.open_signer("officer1.key", Source.ask("--passin"), print).sign
jobs, count = map(int, sys.argv[1:])
each = -(-count // jobs)
digests = [os.urandom(32) for _ in range(each)]
began = time.perf_counter()
for _ in range(jobs):
    if not os.fork():
        for digest in digests:
            sign(digest)
        os._exit(0)
for _ in range(jobs):
    os.wait()
print(jobs * each / (time.perf_counter() - began))
"""
# tok-sign but for the signature itself; ru_maxrss would tell the size of the parent.
PEAK_MEMORY = """
import re, sys
from toktools import cli
from toktools.keys.files import KeyInMemory
KeyInMemory.sign = lambda key, digest: 8 * digest
if cli.main("sign", ["-k", "officer1.key"]):
    raise SystemExit(2)
with open("/proc/self/status") as status:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1], file=sys.stderr)
"""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    beside: str
    measured: str
    value: float
    target: float
    at_least: bool = False
    note: str = ""
    """What was measured beside it, too."""
    wanted: str = ""
    """The target in words, where it is no number."""

    @property
    def met(self) -> bool:
        """Say whether the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Sizes:
    """How often, and how much."""

    runs: int = 25
    chart: tuple[int, ...] = (1, 3, 10, 28, 100, 300, 1000)
    signed: int = 20_000
    executed: int = 200
    kms: int = MANY
    streamed: int = 1_000_000
    short: int = 5_000
    verified: int = 86_000
    """As many signed tokens as are in 38 MB."""
    long: int = 500_000
    """As many unsigned ones as are in 36 MB."""
    commands: int = 20
    shown: int = 50_000_000
    speed: int = 3
    """Seconds of openssl speed."""


SMOKE = Sizes(
    runs=1,
    chart=(1, 3),
    signed=100,
    executed=4,
    kms=1,
    streamed=200,
    short=4,
    verified=8,
    long=8,
    commands=2,
    shown=1000,
    speed=1,
)


class Bench:
    """The rows of the table, measured one after the other."""

    def __init__(self, place: Place, sizes: Sizes) -> None:
        self.place = place
        self.sizes = sizes
        self.walls: dict[int, tuple[float, float]] = {}
        """For so many tokens, the seconds of the pipeline and of the documented steps."""
        place.output("openssl", "genrsa", "-out", "officer1.key", "2048")
        place.output("openssl", "rsa", "-in", "officer1.key", "-pubout", "-out", "officer1.pub")
        (place.folder / "officer1.key").chmod(0o600)

    def rows(self) -> Iterator[Row]:
        """Yield every row."""
        for measure in (
            self.start_up,
            self.answers,
            self.pipelines,
            self.signing,
            self.executing,
            self.kms,
            self.memory,
            self.large,
            self.lines,
            self.first,
            self.logins,
            self.output,
        ):
            yield from measure()

    def start_up(self) -> Iterator[Row]:
        """Compare a command on three tokens with the import of its library."""
        file, digests, signatures = self.tokens(3)
        python = self.place.python
        sign = ("tok-sign", "-k", "officer1.key"), digests, "its imports from cryptography", CRYPTOGRAPHY, SIGNATURES
        for words, stdin, name, code, least in (
            (("tok-extract", file), os.devnull, "`import orjson`", "import orjson", ""),
            (("tok-merge", file), signatures, "`import orjson`", "import orjson", ""),
            sign,
        ):
            tool, alone, floor = self.medians(
                partial(self.place.cpu, words, stdin),
                partial(self.place.cpu, (python, "-I", "-c", code)),
                partial(self.place.cpu, (python, "-I", "-c", least or code, "3")),
            )
            note = f"the library alone, with the same signatures: {floor / alone:.3f}" if least else ""
            yield ratio(f"CPU time of `{words[0]}`, 3 tokens", name, tool, alone, 1.15, note=note)

    def answers(self) -> Iterator[Row]:
        """Compare the slowest of all --help and --version with argparse."""
        calls = [(command, flag) for command in COMMANDS for flag in ("--help", "--version")]
        argparse_alone, *tools = self.medians(
            partial(self.place.cpu, (self.place.python, "-I", "-c", "import argparse")),
            *(partial(self.place.cpu, words) for words in calls),
        )
        slowest = max(tools)
        what = f"CPU time of `{' '.join(calls[tools.index(slowest)])}`, the slowest of all"
        yield ratio(what, "`import argparse`", slowest, argparse_alone, 1.2)

    def pipelines(self) -> Iterator[Row]:
        """Compare the pipeline with the documented steps, and with what the libraries need for it."""
        targets = {1: 1.6, 3: 1.3, 28: 0.40, 1000: 0.032}
        for count in self.sizes.chart:
            file, _, _ = self.tokens(count)
            steps = f"sh {STEPS} officer1.key {file} . > steps"
            # Many signatures are made by several processes at once, which the shell here does not start.
            many = count > MANY
            stages = [
                f"{self.place.python} -I -c '{code}' {0 if many else count}"
                for code in ("import orjson", SIGNATURES, "import orjson")
            ]
            runs = self.sizes.runs if count < 100 else min(self.sizes.runs, 5 if count < 1000 else 3)  # noqa: PLR2004
            ours, theirs, floor = medians(
                runs,
                partial(self.place.wall, PIPELINE.format(file)),
                partial(self.place.wall, steps),
                partial(self.place.wall, " | ".join(stages)),
            )
            self.walls[count] = ours, theirs
            if count in targets:
                floor += count / self.signing_alone(count) if many else 0
                what = f"the pipeline, {count} token{'s' * (count > 1)}"
                yield ratio(what, "the documented steps", ours, theirs, targets[count])
                yield ratio(what, "the libraries alone, three processes and the same signatures", ours, floor, 1.2)

    def signing(self) -> Iterator[Row]:
        """Compare signatures per second with those of the library alone, and say what openssl makes."""
        count = self.sizes.signed
        _, digests, _ = self.tokens(count, merged=False)
        # Elapsed time, as it is measured on the other side.
        speed = f"openssl speed -elapsed -seconds {self.sizes.speed} -multi {CORES} rsa2048 2>/dev/null"

        def openssl() -> float:
            found = re.search(r"^rsa +2048 bits +\S+ +\S+ +(\S+)", self.place.output("sh", "-c", speed), re.MULTILINE)
            if found is None:
                raise SystemExit("openssl speed prints something else")
            return float(found[1])

        ours, only_signed, alone = medians(
            min(self.sizes.runs, 5),
            lambda: count / self.place.wall(f"tok-sign -k officer1.key < {digests} > signatures"),
            openssl,
            # Its start is in it, as ours is.
            lambda: count / self.place.wall_of(*self.alone(count)),
        )
        yield Row(
            f"`tok-sign`, signatures per second, {count:,} digests",
            "processes that sign, verify and do nothing else",
            f"{ours:,.0f} / {alone:,.0f} = {ours / alone:.3f}",
            ours / alone,
            0.97,
            at_least=True,
            note=f"of `openssl speed -multi {CORES} rsa2048`, which does not verify: {ours / only_signed:.3f}",
        )

    def signing_alone(self, count: int) -> float:
        """Return how many signatures a second processes make, and verify, with nothing between them, once started."""
        return float(self.place.output(*self.alone(count)))

    def alone(self, count: int) -> tuple[str | Path, ...]:
        """Return the words that start them; they print how many a second they have made without the start."""
        return (self.place.python, "-I", "-c", FLOOR_OF_SIGNING, str(CORES), str(count))

    def executing(self) -> Iterator[Row]:
        """Compare two commands at once with the same commands in a loop of the shell."""
        count = self.sizes.executed
        file, digests, _ = self.tokens(count)
        self.place.wall(f"tok-extract -s digest {file}")
        sign = "openssl pkeyutl -sign -inkey officer1.key -pkeyopt digest:sha256"
        ours, theirs = medians(
            min(self.sizes.runs, 5),
            partial(self.place.wall, f"tok-exec -j 2 -- {sign} < {digests} > signatures"),
            partial(self.place.wall, f"for file in digest*.bin; do {sign} -in $file; done > signatures"),
        )
        yield ratio(f"`tok-exec -j 2 openssl`, {count} digests", "a loop of the shell", ours, theirs, 0.8)

    def kms(self) -> Iterator[Row]:
        """Compare a key in KMS with the AWS CLI, which is run once for each digest; nothing where they are missing."""
        server = shutil.which("moto_server")
        if not (server and shutil.which("aws")):
            print("no row of AWS KMS: moto_server and aws are missing", file=sys.stderr)
            return
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            port = any_port.getsockname()[1]
        _, digests, _ = self.tokens(self.sizes.kms)
        where = f"AWS_ENDPOINT_URL=http://127.0.0.1:{port} AWS_DEFAULT_REGION=us-east-1"
        who = "AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_EC2_METADATA_DISABLED=true"
        aws = f"export {where} {who}; "
        create = (
            "aws kms create-key --key-spec RSA_2048 --key-usage SIGN_VERIFY --query KeyMetadata.KeyId --output text"
        )
        sign = "aws kms sign --message fileb://{} --message-type DIGEST --query Signature --output text"
        sign += " --signing-algorithm RSASSA_PKCS1_V1_5_SHA_256"
        with subprocess.Popen(
            [Path(server).resolve().with_name("python3"), KMS, str(port)], stderr=subprocess.DEVNULL
        ) as stand_in:
            try:
                for _ in range(200):
                    time.sleep(0.1)
                    with socket.socket() as caller:
                        if not caller.connect_ex(("127.0.0.1", port)):
                            break
                key = self.place.output("sh", "-c", aws + create).strip()
                ours, theirs = medians(
                    min(self.sizes.runs, 3),
                    partial(self.place.wall, f"{aws} tok-sign -k awskms:///{key} < {digests} > signatures"),
                    partial(
                        self.place.wall, f"{aws} tok-exec -b -j 2 -- {sign} --key-id {key} < {digests} > signatures"
                    ),
                )
            finally:
                stand_in.kill()
        yield ratio(
            f"`tok-sign -k awskms:`, {self.sizes.kms} digests", "tok-exec -j 2 with the AWS CLI", ours, theirs, 0.25
        )

    def memory(self) -> Iterator[Row]:
        """Compare the peak of the memory, of everything but the signature itself."""

        def peak(count: int) -> float:
            line = base64.b64encode(bytes(32)) + b"\n"
            (self.place.folder / "stream").write_bytes(line * count)
            run = f"{self.place.python} -c '{PEAK_MEMORY}' < stream 2>&1 >/dev/null"
            return int(self.place.output("sh", "-c", run)) / 1024

        few, many = peak(100), peak(self.sizes.streamed)
        yield Row(
            f"peak memory of `tok-sign`, {self.sizes.streamed:,} digests, with a stand-in for the signature",
            "100 digests",
            f"{many:.1f} MiB - {few:.1f} MiB = {many - few:.1f} MiB",
            many - few,
            8,
        )

    def large(self) -> Iterator[Row]:
        """Compare the peak of the memory with the size of the file."""
        file, _, signatures = self.unsigned(self.sizes.long)
        signed = f"signed-{self.tokens(self.sizes.verified)[0]}"
        for words, stdin in (
            (("tok-extract", file), os.devnull),
            (("tok-inspect", file), os.devnull),
            (("tok-verify", "-p", "officer1.pub", signed), os.devnull),
            (("tok-merge", file), signatures),
        ):
            size = (self.place.folder / words[-1]).stat().st_size
            peak, _ = self.place.used(words, stdin)
            note = ""
            if words[0] == "tok-merge":
                alone, _ = self.place.used((self.place.python, "-I", "-c", JSON_ALONE, file), stdin)
                note = f"the json module alone: {alone / size:.1f}"
            yield Row(
                f"peak memory of `{words[0]}`, {size / 1e6:.0f} MB",
                "the file",
                f"{peak / 1e6:.0f} MB / {size / 1e6:.0f} MB = {peak / size:.1f}",
                peak / size,
                10,
                note=note,
            )

    def lines(self) -> Iterator[Row]:
        """Compare the CPU time of many tokens with a multiple of that of few, the start taken off."""
        sizes = self.sizes
        stand_in = ("sh", "-c", "cat >/dev/null; head -c 256 /dev/zero")

        def words(command: str, count: int) -> tuple[tuple[str, ...], str]:
            makes = command in {"tok-extract", "tok-inspect", "tok-merge"}
            file, digests, signatures = self.unsigned(count) if makes else self.tokens(count)
            return {
                "tok-exec": (("tok-exec", "-j", "2", "--", *stand_in), digests),
                "tok-extract": (("tok-extract", file), os.devnull),
                "tok-inspect": (("tok-inspect", file), os.devnull),
                "tok-merge": (("tok-merge", file), signatures),
                "tok-sign": (("tok-sign", "-k", "officer1.key"), digests),
                "tok-verify": (("tok-verify", "-p", "officer1.pub", f"signed-{file}"), os.devnull),
            }[command]

        ends = {"tok-exec": (sizes.signed // 20, sizes.signed), "tok-sign": (sizes.signed // 20, sizes.signed)}
        ends["tok-verify"] = sizes.short, sizes.verified
        for command in FILTERS:
            short, long = ends.get(command, (sizes.short, sizes.long))
            times = (long - 1) / (short - 1)
            rounds = []
            # A machine is not equally fast for minutes: each long run is beside short ones, which are little work.
            for _ in range(min(sizes.runs, 3)):
                start, few = medians(
                    min(sizes.runs, 9), *(partial(self.place.cpu, *words(command, count)) for count in (1, short))
                )
                rounds.append((self.place.cpu(*words(command, long)) - start, (few - start) * times))
            ours, theirs = sorted(rounds, key=lambda both: both[0] / both[1])[len(rounds) // 2]
            yield ratio(
                f"CPU time of `{command}`, {long:,} tokens",
                f"{times:.1f} times that of {short:,}, both without the start",
                ours,
                theirs,
                1.1,
            )

    def first(self) -> Iterator[Row]:
        """See whether a signature comes while the writer waits for it."""
        began = time.perf_counter()
        with self.place.started("tok-sign", "-k", "officer1.key") as tool:
            if tool.stdin is None or tool.stdout is None:
                raise AssertionError
            tool.stdin.write(base64.b64encode(bytes(32)) + b"\n")
            out = bool(select.select([tool.stdout], [], [], 10)[0] and tool.stdout.readline())
            late = time.perf_counter() - began
            tool.stdin.write(base64.b64encode(bytes(32)) + b"\n")
            tool.stdin.close()
        measured = f"out after {late * 1000:.0f} ms" if out else "not out"
        what = "`tok-sign`, a writer that sends one digest and waits"
        yield Row(what, "the second digest", measured, float(out), 1, at_least=True, wanted="out before it")

    def logins(self) -> Iterator[Row]:
        """Compare a login, and a command after it, with a driver that waits for nothing but the CLI's words."""
        prepare(self.place.folder, self.place.python, self.sizes.shown)
        many = self.sizes.commands

        def ours(count: int) -> float:
            words = [word for _ in range(count) for word in ("-c", "user list")]
            return self.place.wall_of("tok-login", *LOGIN, "--cli", "./cli", *words)

        def bare(count: int) -> float:
            return self.place.wall_of(self.place.python, "-I", "-c", BARE, str(count), "./cli")

        one, more, bare_one, bare_more = self.medians(
            partial(ours, 1), partial(ours, 1 + many), partial(bare, 1), partial(bare, 1 + many)
        )
        yield difference("`tok-login`, a login and a command", "a bare driver", one, bare_one, 0.3)
        each, bare_each = (more - one) / many, (bare_more - bare_one) / many
        yield difference(f"each of {many} commands more", "a bare driver", each, bare_each, 0.05)

    def output(self) -> Iterator[Row]:
        """Compare what the CLI writes after the hand-over with the CLI at the same terminal, the end taken off."""
        steps = ((READY, "login nowhere"), ("password:", "for-practice"), ("file):", ""))
        calls = (
            ("tok-login", *LOGIN, "--cli", "./cli"),
            ("./cli",),
            ("script", "-qc", "./cli", os.devnull),
        )
        times = medians(
            min(self.sizes.runs, 9),
            *(
                partial(self.place.terminal, words, *(steps if words is not calls[0] else ()), (READY, f"show {file}"))
                for words in calls
                for file in ("short", "long")
            ),
        )
        ours, direct, script = (long - short for short, long in zip(times[::2], times[1::2]))
        note = f"script(1) in place of tok-login: {script / direct:.3f}"
        what = f"{self.sizes.shown // 1_000_000} MB from the CLI after the hand-over, without its end"
        yield ratio(what, "the CLI at the same terminal", ours, direct, 1.5, note=note)

    def medians(self, *measured: Callable[[], float]) -> list[float]:
        """Return the median of the usual number of runs."""
        return medians(self.sizes.runs, *measured)

    def tokens(self, count: int, *, merged: bool = True) -> tuple[str, str, str]:
        """Make a login file with so many tokens; return its name, and those of its digests and signatures."""
        file, digests, signatures = (f"{count}{end}" for end in (".json", ".digests", ".signatures"))
        folder = self.place.folder
        if not (folder / file).exists():
            tokens = [{"unsigned": base64.b64encode(os.urandom(32)).decode(), "signed": ""} for _ in range(count)]
            (folder / file).write_text(json.dumps({"version": "2.0", "tokens": tokens}, indent=2) + "\n")
            self.place.wall(f"tok-extract {file} > {digests}")
            if merged:
                self.place.wall(f"tok-sign -k officer1.key < {digests} > {signatures}")
                self.place.wall(f"tok-merge -o signed-{file} {file} < {signatures}")
        return file, digests, signatures

    def unsigned(self, count: int) -> tuple[str, str, str]:
        """Make a login file with so many tokens in one line, with signatures of nobody, as tokens() does.

        It is never held in memory, which the peak of what is run later would tell.
        """
        file, signatures = f"{count}.unsigned.json", f"{count}.unsigned.signatures"
        if not (self.place.folder / file).exists():
            with (self.place.folder / file).open("w") as tokens, (self.place.folder / signatures).open("wb") as lines:
                tokens.write('{"version":"2.0","tokens":[')
                for index in range(count):
                    digest = base64.b64encode(os.urandom(32)).decode()
                    tokens.write(f'{"," * bool(index)}{{"unsigned":"{digest}","signed":""}}')
                    lines.write(base64.b64encode(b"\1" + os.urandom(255)) + b"\n")
                tokens.write("]}\n")
        return file, os.devnull, signatures


def ratio(what: str, beside: str, ours: float, theirs: float, target: float, *, note: str = "") -> Row:  # noqa: PLR0913
    """Return the row of two times."""
    measured = f"{seconds(ours)} / {seconds(theirs)} = {ours / theirs:.3f}"
    return Row(what, beside, measured, ours / theirs, target, note=note)


def difference(what: str, beside: str, ours: float, theirs: float, target: float) -> Row:
    """Return the row of two times, one of which may be longer by so many seconds."""
    measured = f"{seconds(ours)} - {seconds(theirs)} = {seconds(ours - theirs)}"
    return Row(what, beside, measured, ours - theirs, target, wanted=f"at most {target:g} s")


def seconds(time: float) -> str:
    """Say a time in the unit that suits it."""
    return f"{time:.2f} s" if time >= 1 else f"{time * 1000:.1f} ms"


def table(rows: list[Row]) -> str:
    """Return the rows in Markdown."""
    lines = ["| what | beside | measured | target | |", "|---|---|---|---|---|"]
    for row in rows:
        target = row.wanted or f"at {'least' if row.at_least else 'most'} {row.target:g}"
        state = "met" if row.met else "**missed**"
        verdict = f"{state}; {row.note}" if row.note else state
        lines.append(f"| {row.what} | {row.beside} | {row.measured} | {target} | {verdict} |")
    return "\n".join(lines)


def machine(place: Place) -> str:
    """Say on what it was measured."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release").read_text(), re.MULTILINE)
    versions = place.output(
        place.python,
        "-c",
        "import cryptography, orjson, platform; from cryptography.hazmat.backends.openssl import backend; "
        "print(f'Python {platform.python_version()}, cryptography {cryptography.__version__} "
        "({backend.openssl_version_text()}), orjson {orjson.__version__}')",
    ).strip()
    openssl = place.output("openssl", "version").split("(")[0].strip()
    model = cpu[1] if cpu else platform.machine()
    linux = f"{system[1] if system else platform.system()}, Linux {platform.release()}"
    return f"{model}, {CORES} cores; {linux}; {versions}; {openssl}, {place.output('jq', '--version').strip()}."


def installed(folder: Path) -> Path:
    """Install this checkout in a fresh virtual environment, as a user would, and return the folder of its commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    # Not in the checkout, where a build would leave its files.
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", f"{ROOT}[kms]"], check=True)
    return folder / "bin"


def write_page(text: str, walls: dict[int, tuple[float, float]]) -> None:
    """Put the figures into the page, and draw its chart."""
    from chart import draw

    draw(walls, CHART)
    before, begin, rest = PAGE.read_text().partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    PAGE.write_text(f"{before}{begin}{text}\n{end}{after}")


def main() -> int:
    """Print the table, and return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="put the figures and the chart into docs/, too")
    parser.add_argument("--smoke", action="store_true", help="everything once and small: does it run at all?")
    parser.add_argument("--commands", metavar="DIR", type=Path, help="the installed commands, instead of a fresh venv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="toktools-bench-") as name:
        folder = Path(name)
        place = Place(options.commands or installed(folder / "venv"), folder)
        bench = Bench(place, SMOKE if options.smoke else Sizes())
        rows = []
        for row in bench.rows():
            rows.append(row)
            print(f"{row.what}: {row.measured}", file=sys.stderr)
        text = f"{table(rows)}\n\n{machine(place)}"
        print(text)
        if options.page:
            write_page(text, bench.walls)
    return 0 if options.smoke or all(row.met for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
