"""The command line: operands among options, lists of tokens, and usage errors."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest
from conftest import ROOT, Shell, rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from toktools import cli
from toktools.errors import ToktoolsError
from toktools.options import Selection
from toktools.parser import Answer
from toktools.system import files

COMMANDS = sorted(path.name.removeprefix("tok-") for path in (ROOT / "bin").iterdir())
SIGN = ["-k", "officer1.key"]
LOGIN = ["-k", "officer1.key", "--username", "officer1", "--role", "admin"]

PEM = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
DER = rsa_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
OPENSSH = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
SECRETS = {
    "PEM": PEM,
    "PEM in one line": PEM.replace("\n", " "),
    "OpenSSH": OPENSSH,
    "a line of it": "A/b+" * 16,
    "base64": b64encode(DER).decode(),
    "base64 of PEM": b64encode(PEM.encode()).decode(),
    "hexadecimal": DER.hex(),
    "JSON": json.dumps({"kty": "RSA", "d": urlsafe_b64encode(DER).decode()}),
    "URL": "https://hunter2:hunter2hunter2@x/y",
}
PLACES = {
    "tok-sign": ["-k {}", "-k pbes2.pem --passin file:{}"],
    "tok-exec": ["-p {} cat", "--approval-data {} cat", "{}", "-- {}"],
    "tok-extract": ["-- {}", "f.json -- {}", "-s {} f.json"],
    "tok-merge": ["-- {}", "-i -- {}", "f.json -- {}", "-o {} f.json signature", "-p {} f.json signature"],
    "tok-verify": ["-p {} f.json", "-p spki.pem -- {}", "-p officer1={} f.json"],
    "tok-inspect": ["-- {}"],
    "tok-login": [
        *(
            f"{start} --username u --role admin -- user list"
            for start in ("-k {}", "--signer {}", "-k pkcs8.pem -p {}")
        ),
        "-k pkcs8.pem --username u --role admin --password file:{} -- user list",
        "--no-mfa --username u --role admin --password file:spki.pem --cli {} -- user list",
        "--no-mfa --username u --role admin --password file:spki.pem --host h --ssh {} -- user list",
        "--no-mfa --username u --role admin --password file:spki.pem --record {} --cli false -- user list",
    ],
    "tok-rehearse": ["--state {} user list"],
}
SLOW = {"tok-login", "tok-rehearse"}


def refused(command: str, *argv: str) -> ToktoolsError:
    """Return the error of a wrong command line."""
    with pytest.raises(ToktoolsError) as caught:
        cli.parser(command).parse(argv)
    assert caught.value.status == 2
    return caught.value


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("1", [0]),
        ("2-", [1, 2, 3, 4]),
        ("5-", [4]),
        ("-3", [0, 1, 2]),
        ("3-3", [2]),
        ("5,1,1", [0, 4]),
        ("2-4,3-5,1", [0, 1, 2, 3, 4]),
        ("-2,4-", [0, 1, 3, 4]),
        ("01", [0]),
    ],
)
def test_list(text: str, indices: list[int]) -> None:
    """A list selects tokens from 1, each once and in the order of the file, as cut(1) does with fields."""
    assert list(Selection(text).indices(5)) == indices


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-0", "0-", "0-2", "-", ",", "1,", ",1", "1,,2", "3-1", "1-2-3", "--1", "1--", "a", "1a", "0x1"),
        *("1.0", "1e0", "+1", "1_0", " 1", "1 ", "1 2", "1;2", "1\n", "9" * 19, "1-" + "9" * 5000),
        *("\u0661", "\u00b2", "\uff11"),  # an Arabic digit, a superscript, a full-width digit
    ],
)
def test_refused_list(text: str) -> None:
    """What is no list of numbers from 1 is refused, also where int() would take it."""
    with pytest.raises(ToktoolsError, match=r"^-n: "):
        Selection(text)


@pytest.mark.parametrize("text", ["6", "6-", "1-6", "-6", "1,2,6"])
def test_list_of_tokens_that_are_not_there(text: str) -> None:
    """A token that the file does not have cannot be selected, and a huge number costs nothing."""
    with pytest.raises(ToktoolsError, match=r"^-n names token 6, but there are 5 tokens$"):
        Selection(text).indices(5)
    with pytest.raises(ToktoolsError, match=f"^-n names token {'9' * 18}, but there is 1 token$"):
        Selection("9" * 18).indices(1)


@pytest.mark.parametrize("words", [*itertools.permutations(["-i", "-p=officer1.pub", "f.json"])])
def test_operand_among_options(words: tuple[str, ...]) -> None:
    """Options stand before, between and after operands."""
    options = cli.parser("merge").parse([part for word in words for part in word.split("=")])
    assert (options.in_place, options.verify_key, options.file) == (True, ["officer1.pub"], "f.json")
    assert options.signatures == []


@pytest.mark.parametrize(
    ("argv", "operands"),
    [
        (["--", "--help"], ["--help"]),
        (["--", "--"], ["--"]),
        (["f", "--", "-x", "--", "-3"], ["f", "-x", "--", "-3"]),
        (["-s", "--", "f", "-r"], None),
        (["-s", "--", "--", "-r"], ["-r"]),
        (["-n", "1", "-"], ["-"]),
    ],
)
def test_two_dashes(argv: list[str], operands: list[str] | None) -> None:
    """What stands behind the first -- is an operand, whatever it looks like; an option's argument may be -- too."""
    if operands is None:
        assert refused("extract", *argv).message == "-r and -s cannot be used together"
    else:
        assert cli.parser("extract").parse(argv).files == operands


@pytest.mark.parametrize("argv", [["-n", "-3"], ["-n-3"], ["--tokens", "-3"], ["--tokens=-3"], ["-rn", "-3"]])
def test_argument_that_begins_with_a_dash(argv: list[str]) -> None:
    """The word behind an option is its argument, as in cut -f -3."""
    assert [*cli.parser("extract").parse(argv).tokens.indices(5)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["--", "signer", "-j", "9"], ["signer", "-j", "9"]),
        (["signer", "-j", "9"], ["signer", "-j", "9"]),
        (["signer", "--", "-b"], ["signer", "--", "-b"]),
        (["--", "--"], ["--"]),
    ],
)
def test_options_of_the_signer(argv: list[str], command: list[str]) -> None:
    """The first operand of tok-exec ends its options: -j is the signer's own."""
    options = cli.parser("exec").parse(["-j", "2", *argv])
    assert ([options.command, *options.arguments], options.jobs, options.base64) == (command, 2, False)


def test_options_of_a_command_for_the_cli() -> None:
    """Nobody logs in as the user that a command is about: its options stand behind --."""
    words = ["user", "change-password", "--username", "alice"]
    assert cli.parser("login").parse([*LOGIN, "--", *words]).words == words
    error = refused("login", "-k", "officer1.key", *words, "--role", "admin")
    assert (error.message, error.hint) == (
        "an option follows an operand",
        "put -- before the command for the CLI",
    )


@pytest.mark.parametrize(
    ("command", "argv", "said"),
    [
        ("extract", ["-x"], "option -x not recognized"),
        ("extract", ["-3"], "option -3 not recognized"),
        ("extract", ["--bogus=1"], "option --bogus not recognized"),
        ("extract", ["-n"], "option -n requires an argument"),
        ("extract", ["--tokens"], "option --tokens requires an argument"),
        ("extract", ["--raw=1"], "option --raw must not have an argument"),
        ("extract", ["-r=1"], "option - not recognized"),
        ("extract", ["-n", "1", "--tokens=2"], "-n is given twice"),
        ("merge", ["-i3", "f"], "option -3 not recognized"),
        ("merge", [], "FILE is missing"),
        ("merge", ["-u", "a-b", "f.json"], "-u: a CloudHSM user name has 1 to 31 letters, digits and underscores"),
        ("merge", ["-u", "admin2", "-R", "owner", "f.json"], "-R: expected admin or crypto-user"),
        ("merge", ["-u", "admin2", "--approvals", "f.json"], "-u and --approvals cannot be used together"),
        ("verify", ["f.json"], "-p PUB is missing"),
        ("verify", ["-p"], "option -p requires an argument"),
        *(
            ("verify", ["-p", "o.pub", f"--need={number}"], "--need: not a number from 1 to 8")
            for number in ("0", "9", "01", "x")
        ),
        ("sign", [], "-k KEY is missing"),
        *(
            ("sign", [*SIGN, f"-j{number}"], "-j: not a number from 1 to 1000")
            for number in ("0", "1001", "-1", "+1", " 1", "1_0", "\u0661", "\u00b2", "x", "1" * 5000)
        ),
        ("exec", ["-b"], "COMMAND is missing"),
        ("login", ["-k", "k", "--role", "admin"], "--username U is missing"),
        ("login", [], "-k KEY, --signer COMMAND or --no-mfa, --username U and --role R are missing"),
        ("login", [*LOGIN, "--no-mfa"], "-k and --no-mfa cannot be used together"),
        ("enroll", [], "-k KEY, --signer COMMAND or --deregister, --username U and --role R are missing"),
        *(("login", [*LOGIN, f"--host={host}"], "--host: expected [USER@]HOST") for host in ("", "-x", "a b", "a\tb")),
        *(
            ("login", [*LOGIN, f"--timeout={seconds}"], "--timeout: expected a number of seconds from 1 to 99999")
            for seconds in ("", "0", "-1", "1.5", "x", "\u0662", "100000")
        ),
        *(
            (
                "login",
                [*LOGIN, f"--cluster-id={name}"],
                "--cluster-id: a cluster ID has only letters, digits and hyphens",
            )
            for name in ("", "-a", "a_b", "a b", "\u00e4")
        ),
        ("login", [*LOGIN, "--cli", " "], "--cli: the command is empty"),
        ("login", [*LOGIN, "--cli", "a 'b"], "--cli: no closing quotation"),
    ],
)
def test_usage_error(command: str, argv: list[str], said: str) -> None:
    """A usage error names the option, and hints at --help."""
    error = refused(command, *argv)
    assert error.message.startswith(said)
    assert error.hint == f"try 'tok-{command} --help'"


def test_target_of_a_login() -> None:
    """A command is split as a shell does; a host, a cluster and a number of seconds are taken as they are."""
    plain = cli.parser("login").parse(LOGIN)
    assert (plain.cli, plain.ssh, plain.timeout) == (["/opt/cloudhsm/bin/cloudhsm-cli"], ["ssh"], 60.0)
    more = ["--cli", "a 'b c'", "--ssh", "ssh -4", "-H", "u@h", "--cluster-id", "cluster-1a", "--timeout", "99999"]
    options = cli.parser("login").parse([*LOGIN, *more])
    assert (options.cli, options.ssh, options.host) == (["a", "b c"], ["ssh", "-4"], "u@h")
    assert (options.cluster_id, options.timeout) == ("cluster-1a", 99999)


@pytest.mark.parametrize("argv", [[*SIGN, "hunter2"], ["hunter2"]])
def test_a_filter_has_no_operand(argv: list[str]) -> None:
    """A file after a filter's options, or in place of them, is answered with the whole pipeline."""
    error = refused("sign", *argv)
    assert error.message == "unexpected operand"
    assert error.hint == "for example: tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("\u2013k", "en dash (U+2013)"),
        ("\u2014key=hunter2", "em dash (U+2014)"),
        ("-\u2011key", "non-breaking hyphen (U+2011)"),
        ("\u2212k", "minus sign (U+2212)"),
        ("-k\u00a0hunter2", "no-break space (U+00A0)"),
        ("--key\u00a0hunter2", "no-break space (U+00A0)"),
        ("\u200b-k", "zero width space (U+200B)"),
    ],
)
def test_an_option_from_a_page(word: str, name: str) -> None:
    """A hyphen or a blank that a page has changed is named; behind -- and in an argument all characters may be."""
    error = refused("sign", word, "hunter2")
    assert error.message == f"an option is written with {name}"
    assert "hunter2" not in error.hint
    assert cli.parser("sign").parse(["-k", word]).key == word
    assert cli.parser("extract").parse(["--", word]).files == [word]


@pytest.mark.parametrize(
    ("command", "argv", "hint"),
    [
        ("sign", ["--kye", "officer1.key"], "did you mean --key?"),
        ("sign", ["--verion"], "did you mean --version?"),
        ("merge", ["-version"], "did you mean --version?"),
        ("merge", ["--verify_key", "officer1.pub"], "did you mean --verify-key?"),
        ("login", ["--pass", "env:VAR"], "did you mean --passin or --password?"),
        ("verify", ["--ver", "officer1.pub"], "did you mean --verify-key or --version?"),
    ],
)
def test_nearest_option(command: str, argv: list[str], hint: str) -> None:
    """No option may be abbreviated; the message names what it may be, or the one that is most like it."""
    error = refused(command, *argv)
    assert re.fullmatch(r"option \S+ not recognized", error.message)
    assert error.hint == hint


def test_a_flag_may_be_given_again() -> None:
    """An option without an argument says the same twice as once, in one word too."""
    parser = cli.parser("extract")
    assert vars(parser.parse(["-r", "-rr"])) == vars(parser.parse(["-r"]))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument_is_repeated(command: str) -> None:
    """A word in the wrong place is not shown: it may be a pass phrase that was meant for another option."""
    parser = cli.parser(command)
    flags = [flag for action in parser.options for flag in action.option_strings]
    lines = [["hunter2"], ["hunter2"] * 3, ["-hunter2"], ["-Vhunter2"], ["--passin:hunter2"], ["--pass=hunter2"]]
    lines += [[flag, "hunter2"] for flag in flags]
    lines += [[f"{flag}{end}hunter2"] for flag in flags for end in ("", "=", ":", " ", "=-", "x=")]
    lines += [["--", "hunter2", flag] for flag in flags]
    lines += [[*line, *line] for line in lines]
    messages = []
    for line in lines:
        try:
            parser.parse(line)
        except ToktoolsError as error:
            messages += [error.message, error.hint]
        except Answer:
            pass
    assert [text for text in messages if "hunter2" in text] == []
    assert len(messages) > len(flags)


@pytest.mark.parametrize(
    ("command", "secret"),
    # Only the filters run in this process.
    [pair for pair in itertools.product(PLACES, SECRETS) if pair[0] not in SLOW or pair[1] in {"PEM", "base64", "URL"}],
)
def test_no_text_in_place_of_a_name_is_shown(shell: Shell, keys: Path, command: str, secret: str) -> None:
    """The text of a key, or a URL with a password, in the place of the name of a file or program is not shown."""
    digests = shell.run("tok-extract", "f.json").out
    shutil.copytree(keys, shell.cwd, dirs_exist_ok=True)
    text = SECRETS[secret]
    for words in PLACES[command]:
        argv = [word.replace("{}", text) for word in words.split()]
        done = shell.run(command, *argv, stdin=digests).check(2)
        assert [piece for piece in re.findall("[A-Za-z0-9+/=]{12}", text) if piece in done.err] == []


def test_a_long_name_is_shown() -> None:
    """A path in a directory that is not there is shown, though it has only letters, digits and slashes."""
    path = "/home/alice/projects/CloudHSM/production/eu-central-1/keysOf2026/officers/officer1"
    assert files.display(path) == path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--version", "-h", "-V"])
def test_answers_need_nothing_else(command: str, flag: str) -> None:
    """Help and version are told though a required option is missing, with another option behind it."""
    for line in ([flag], [flag, "-V"]):
        with pytest.raises(Answer, match=f"tok-{command}"):
            cli.parser(command).parse(line)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_letter_has_a_word(command: str) -> None:
    """Each option has one long form, and a letter at most, and both mean the same; no other option has them."""
    options = cli.parser(command).options
    flags = [flag for action in options for flag in action.option_strings]
    assert len(set(flags)) == len(flags)
    for action in options:
        *letters, word = action.option_strings
        assert word == f"--{action.dest.replace('_', '-')}"
        assert [len(letter) for letter in letters] in ([], [2])


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """Help has the usage, the purpose and the example, in 80 columns."""
    parser = cli.parser(command)
    lines = parser.format_help().splitlines()
    assert lines[0].startswith(f"usage: tok-{command} ")
    assert parser.description in lines
    assert lines[-2] == "example:"
    assert [line for line in lines if len(line) > 80 or not line.isascii()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_given_twice(command: str) -> None:
    """An option with an argument that is there twice is an error, except -p of several keys and -c."""
    several = {("verify", "-p"), ("merge", "-p"), ("login", "-c")}
    valid = {"-n": "1", "-j": "1", "-u": "a", "-R": "admin", "--role": "admin", "--need": "1", "--timeout": "1"}
    for option in cli.parser(command).options:
        flag = option.option_strings[0]
        if option.nargs != 0 and (command, flag) not in several:
            words = [flag, valid.get(flag, "file:x")] * 2
            assert refused(command, *words).message == f"{flag} is given twice"
