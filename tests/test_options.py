"""The command line: cut's lists, operands among options, and usage errors."""

import itertools
import re

import pytest

from toktools.cli import Tool
from toktools.commands import exec as execute
from toktools.commands import extract, inspect, login, merge, rehearse, sign, verify
from toktools.errors import ToktoolsError
from toktools.options import COMMON, TOKENS, Answer, CommandLine, Operand, Option, Selection, jobs, long_flag

TOOLS = [tool.TOOL for tool in (execute, extract, inspect, login, merge, rehearse, sign, verify)]


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("1", [0]),
        ("5", [4]),
        ("2-", [1, 2, 3, 4]),
        ("5-", [4]),
        ("-3", [0, 1, 2]),
        ("-1", [0]),
        ("3-3", [2]),
        ("1,3-5", [0, 2, 3, 4]),
        ("1,1", [0]),
        ("5,1", [0, 4]),
        ("2-4,3-5,1", [0, 1, 2, 3, 4]),
        ("-2,4-", [0, 1, 3, 4]),
        ("01", [0]),
    ],
)
def test_list(text: str, indices: list[int]) -> None:
    """A list selects tokens from 1, each once and in the order of the file, as cut(1) does with fields."""
    assert Selection(text).indices(5) == indices


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


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("6", 5, "-n names token 6, but there are 5 tokens"),
        ("6-", 5, "-n names token 6, but there are 5 tokens"),
        ("1-6", 5, "-n names token 6, but there are 5 tokens"),
        ("-6", 5, "-n names token 6, but there are 5 tokens"),
        ("1,2,7", 5, "-n names token 7, but there are 5 tokens"),
        ("2", 1, "-n names token 2, but there is 1 token"),
        ("9" * 18, 5, f"-n names token {'9' * 18}, but there are 5 tokens"),
    ],
)
def test_list_of_what_is_not_there(text: str, count: int, said: str) -> None:
    """A token that the file does not have cannot be selected, and a huge number costs nothing."""
    with pytest.raises(ToktoolsError, match=f"^{said}$"):
        Selection(text).indices(count)


@pytest.mark.parametrize("words", [*itertools.permutations(["-i", "-p=officer1.pub", "f.json"])])
def test_operand_among_options(words: tuple[str, ...]) -> None:
    """Options stand before, between and after operands."""
    argv = [part for word in words for part in word.split("=")]
    options = merge.TOOL.command_line.parse(argv)
    assert (options.i, options.p, options.FILE, options.SIGNATURE) == (True, ["officer1.pub"], "f.json", [])


@pytest.mark.parametrize(
    "argv",
    [
        ["f.json", "1.sig", "2.sig", "-n", "1-2"],
        ["f.json", "-n", "1-2", "1.sig", "2.sig"],
        ["-n1-2", "f.json", "1.sig", "2.sig"],
        ["f.json", "1.sig", "-n", "1-2", "2.sig"],
        ["-n", "1-2", "--", "f.json", "1.sig", "2.sig"],
    ],
)
def test_operands_apart(argv: list[str]) -> None:
    """The operands keep their order wherever an option parts them."""
    options = merge.TOOL.command_line.parse(argv)
    assert (options.FILE, options.SIGNATURE, options.n.indices(2)) == ("f.json", ["1.sig", "2.sig"], [0, 1])


@pytest.mark.parametrize(
    ("tool", "argv", "operands"),
    [
        (extract.TOOL, ["--", "-n"], ["-n"]),
        (extract.TOOL, ["--", "--help"], ["--help"]),
        (extract.TOOL, ["-r", "--", "-r"], ["-r"]),
        (extract.TOOL, ["--", "--"], ["--"]),
        (merge.TOOL, ["--", "-i", "-o"], ["-i", "-o"]),
        (merge.TOOL, ["f.json", "--", "-i"], ["f.json", "-i"]),
        (merge.TOOL, ["-p", "officer1.pub", "--", "-f.json", "-1.sig", "2.sig"], ["-f.json", "-1.sig", "2.sig"]),
        (merge.TOOL, ["--", "f.json", "--"], ["f.json", "--"]),
        (verify.TOOL, ["-p", "officer1.pub", "--", "-q"], ["-q"]),
    ],
)
def test_all_operands_after_two_dashes(tool: Tool, argv: list[str], operands: list[str]) -> None:
    """What follows -- is an operand, whatever it looks like."""
    options = tool.command_line.parse(argv)
    found = options.FILE if isinstance(options.FILE, list) else [options.FILE]
    assert [*found, *getattr(options, "SIGNATURE", [])] == operands
    assert not getattr(options, "i", False)
    assert not getattr(options, "q", False)


@pytest.mark.parametrize("text", ["2", "-2", "-1,2", "-1,-2"])
def test_list_in_its_own_word(text: str) -> None:
    """A list that starts with a dash is -n's argument, in the same word and in the next, as with cut(1)."""
    parser = extract.TOOL.command_line
    attached = parser.parse([f"-n{text}"]).n
    assert parser.parse(["-n", text]).n.indices(2) == attached.indices(2)


@pytest.mark.parametrize(
    ("tool", "argv", "said"),
    [
        (extract.TOOL, ["-x"], "-x"),
        (extract.TOOL, ["--bogus=1"], "option --bogus not recognized"),
        (extract.TOOL, ["-n"], "option -n requires an argument"),
        (extract.TOOL, ["-n", "0"], "-n: tokens are counted from 1, and a range goes upwards"),
        (extract.TOOL, ["-r=1"], "option - not recognized"),
        (extract.TOOL, ["-r", "-s", "token"], "-r and -s cannot be used together"),
        (extract.TOOL, ["-n", "1", "-n", "2"], "-n is given twice"),
        (merge.TOOL, [], "FILE is missing"),
        (merge.TOOL, ["-i", "-o", "out.json", "f.json"], "-i and -o cannot be used together"),
        (sign.TOOL, [], "-k KEY is missing"),
        (merge.TOOL, ["-u", "a-b", "f.json"], "-u: a CloudHSM user name has 1 to 31 letters, digits and underscores"),
        (merge.TOOL, ["-u", "admin2", "-R", "owner", "f.json"], "-R: a role must be admin or crypto-user"),
        (merge.TOOL, ["-u", "admin2", "--approvals", "f.json"], "-u and --approvals cannot be used together"),
        (verify.TOOL, ["--need", "0", "f.json"], "--need: not a number from 1 to 8"),
        (verify.TOOL, ["-p"], "-p"),
        *((login.TOOL, [f"--host={host}"], "--host: expected [USER@]HOST") for host in ("", "-x", "a b", "a\tb")),
        *(
            (login.TOOL, [f"--timeout={seconds}"], "--timeout: expected a number of seconds from 1 to 99999")
            for seconds in ("", "0", "-1", "1.5", "x", "\u0662", "100000")
        ),
        *(
            (login.TOOL, [f"--cluster-id={name}"], "--cluster-id: a cluster ID has only letters, digits and hyphens")
            for name in ("", "-a", "a_b", "a b", "\u00e4")
        ),
        (login.TOOL, ["--role", "admin"], "--username U is missing"),
        (login.TOOL, ["--username", "a"], "--role R is missing"),
        (login.TOOL, ["--cli", " "], "--cli: the command is empty"),
        (login.TOOL, ["--cli", "a 'b"], "--cli: no closing quotation"),
    ],
)
def test_usage_error(tool: Tool, argv: list[str], said: str) -> None:
    """A usage error is trouble (2), names the option, and hints at --help."""
    with pytest.raises(ToktoolsError, match=re.escape(said)) as caught:
        tool.command_line.parse(argv)
    assert (caught.value.status, caught.value.hint) == (2, f"try '{tool.name} --help'")


def test_where_a_login_goes() -> None:
    """A command is split as a shell does; a host, a cluster and a number of seconds are taken as they are."""
    user = ["--username", "a", "--role", "admin"]
    plain = login.TOOL.command_line.parse(user)
    assert (plain.cli, plain.ssh, plain.timeout) == (["/opt/cloudhsm/bin/cloudhsm-cli"], ["ssh"], 60.0)
    more = ["--cli", "a 'b c'", "--ssh", "ssh -4", "-H", "u@h", "--cluster-id", "cluster-1a", "--timeout"]
    given = login.TOOL.command_line.parse([*user, *more, "1"])
    assert (given.cli, given.ssh, given.H) == (["a", "b c"], ["ssh", "-4"], "u@h")
    assert (given.cluster_id, given.timeout) == ("cluster-1a", 1.0)
    assert login.TOOL.command_line.parse([*user, *more, "99999"]).timeout == 99999


def test_a_filter_has_no_operand() -> None:
    """A file after a filter's options is answered with how it is read."""
    with pytest.raises(ToktoolsError, match=r"^too many operands$") as caught:
        sign.TOOL.command_line.parse(["-k", "officer1.key", "digests"])
    assert caught.value.hint == "it reads standard input: tok-sign ... < FILE"


@pytest.mark.parametrize(
    ("tool", "argv", "hint"),
    [
        (sign.TOOL, ["--kye", "officer1.key"], "did you mean --key?"),
        (sign.TOOL, ["--passn=env:VAR"], "did you mean --passin?"),
        (sign.TOOL, ["--verion"], "did you mean --version?"),
        (sign.TOOL, ["-version"], "did you mean --version?"),
        (merge.TOOL, ["--inplace"], "did you mean --in-place?"),
        (merge.TOOL, ["--publickey=officer1.pub"], "did you mean --public-key?"),
        (merge.TOOL, ["--verify_key", "officer1.pub"], "did you mean --verify-key?"),
        (login.TOOL, ["--clusterid", "1"], "did you mean --cluster-id?"),
        (login.TOOL, ["--c", "1"], "did you mean --cli or --cluster-id?"),
        (login.TOOL, ["--pass", "env:VAR"], "did you mean --passin or --password?"),
        (login.TOOL, ["--h"], "did you mean --host or --help?"),
        (verify.TOOL, ["--ver", "officer1.pub"], "did you mean --verify-key or --version?"),
        (rehearse.TOOL, ["--hms", "2"], "did you mean --hsms?"),
    ],
)
def test_nearest_option(tool: Tool, argv: list[str], hint: str) -> None:
    """A wrong option is answered with the one that is most like it, and a short one with all that it may be."""
    with pytest.raises(ToktoolsError, match=r"^option ") as caught:
        tool.command_line.parse(argv)
    assert caught.value.hint == hint
    assert "=" not in caught.value.message


@pytest.mark.parametrize("option", ["--passin", "--pass", "--passi"])
@pytest.mark.parametrize("argument", [["env:VAR"], []], ids=["apart", "attached"])
def test_long_option(option: str, argument: list[str]) -> None:
    """A long option takes its argument apart or attached, and may be cut short, as in every GNU program."""
    argv = ["-k", "officer1.key", *([option, *argument] if argument else [f"{option}=env:VAR"])]
    line = sign.TOOL.command_line
    assert line.parse(argv).passin is not line.parse(argv[:2]).passin


def test_a_flag_may_be_given_again() -> None:
    """An option without an argument says the same twice as once, in one word too."""
    line = extract.TOOL.command_line
    assert vars(line.parse(["-r", "-rr"])) == vars(line.parse(["-r"]))


def test_escaped_argument() -> None:
    """Control characters and bytes that are not text, in an option that a message repeats, are escaped."""
    with pytest.raises(ToktoolsError) as caught:
        extract.TOOL.command_line.parse(["--\x1b[31m\udcff\u202e"])
    assert caught.value.message.isprintable()
    assert r"--\x1b[31m\xff\u202e" in caught.value.message


@pytest.mark.parametrize(
    "argv",
    [
        ["hunter2"],
        ["--passin:hunter2"],
        ["--pass=hunter2"],
        ["--pass", "hunter2"],
        ["-phunter2"],
        ["-r=hunter2"],
        ["--help=hunter2"],
    ],
)
def test_stray_argument_is_not_repeated(argv: list[str]) -> None:
    """A stray argument is not shown, for it may be a pass phrase that was meant for another option."""
    with pytest.raises(ToktoolsError) as caught:
        sign.TOOL.command_line.parse(["-k", "officer1.key", *argv])
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["-h"], ["-V"]], ids=" ".join)
def test_answers_need_nothing_else(tool: Tool, argv: list[str]) -> None:
    """Help and version are given though a required option is missing."""
    with pytest.raises(Answer, match=tool.name):
        tool.command_line.parse(argv)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_letter_has_a_word(tool: Tool) -> None:
    """Each option has a long form, and what it may be called is the name of no other."""
    options = [*tool.command_line.options, *COMMON]
    flags = [flag for option in options for flag in option.flags]
    assert len(set(flags)) == len(flags)
    for option in options:
        assert option.flags[-1].startswith("--")
        assert all(len(flag) == 2 for flag in option.flags[:-1])


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_both_forms_are_one_option(tool: Tool) -> None:
    """The long form means what the letter does, and given with it, it is given twice."""
    for option in tool.command_line.options:
        if option is TOKENS or not option.argument or len(option.flags) == 1 or option.repeated:
            continue
        line = CommandLine("x", "", "", option)
        argument = {"N": "2", "USER": "u", "ROLE": "admin"}.get(option.argument, "a")
        short, word = option.flags
        assert line.parse([word, argument]) == line.parse([f"{word}={argument}"]) == line.parse([short, argument])
        with pytest.raises(ToktoolsError, match=f"^{short} is given twice$"):
            line.parse([word, argument, short, argument])


# The long options that there were before every letter had one.
OLD = {
    "tok-enroll": ["--help", "--version"],
    "tok-exec": ["--help", "--version"],
    "tok-extract": ["--help", "--version"],
    "tok-inspect": ["--json", "--hex", "--help", "--version"],
    "tok-login": ["--passin", "--username", "--role", "--password", "--cli", "--cluster-id", "--help", "--version"],
    "tok-merge": ["--approvals", "--public-key", "--help", "--version"],
    "tok-rehearse": ["--state", "--hsms", "--cluster-id", "--help", "--version"],
    "tok-sign": ["--passin", "--help", "--version"],
    "tok-verify": ["--need", "--help", "--version"],
}


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_old_scripts_go_on_working(tool: Tool) -> None:
    """What was short for one option alone is short for it now, if it is not --help or --version."""
    by_flag = {flag: option for option in (*tool.command_line.options, *COMMON) for flag in option.flags}
    for flag in set(OLD[tool.name]) - {"--help", "--version"}:
        for end in range(3, len(flag) + 1):
            if [other for other in OLD[tool.name] if other.startswith(flag[:end])] == [flag]:
                assert long_flag(flag[:end], by_flag) == flag


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_an_answer_is_not_taken_for_work(tool: Tool) -> None:
    """What may be short for another option than --help or --version is not read as one of these, which succeed."""
    by_flag = {flag: option for option in (*tool.command_line.options, *COMMON) for flag in option.flags}
    for flag in ("--help", "--version"):
        for end in range(3, len(flag) + 1):
            begun = [name for name in by_flag if name.startswith(flag[:end])]
            if begun == [flag] or end == len(flag):
                assert long_flag(flag[:end], by_flag) == flag
                continue
            with pytest.raises(ToktoolsError, match=r"not a unique prefix$") as caught:
                long_flag(flag[:end], by_flag)
            assert caught.value.hint == f"did you mean {' or '.join(begun)}?"


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("9", 9), ("0999", 999), ("1000", 1000), ("1001", 0), ("0", 0)])
def test_how_much_at_once(text: str, count: int) -> None:
    """From 1 to 1,000, in plain digits."""
    if count:
        assert jobs(text) == count
    else:
        refuse_jobs(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "\u0661", "\u00b2", "x", "1" * 5000])
def test_what_is_no_number_of_jobs(text: str) -> None:
    """Signs, other scripts' digits and whatever is too long are none."""
    refuse_jobs(text)


def refuse_jobs(text: str) -> None:
    with pytest.raises(ToktoolsError, match=r"^-j: not a number from 1 to 1000$"):
        jobs(text)


LONG = CommandLine(
    "tok-long",
    "Do much.",
    "tok-long -k K f",
    Option("-k", "KEY", "a key", also="--key", required=True),
    (Option("-a", "", "one way"), Option("-b", "B", "another way")),
    Option("-p", "PUBLICKEY", "a public key", repeated=True),
    Option("--long-option", "ARGUMENTS", "wide"),
    Operand("FILES", "what to read", many=True),
)


def test_help_of_many_options() -> None:
    """The usage line is wrapped at 80 columns under its first word; long forms stand beside the short ones."""
    with pytest.raises(Answer) as answer:
        LONG.parse(["-k", "K", "-h"])
    assert str(answer.value) == (
        "usage: tok-long -k KEY [-a | -b B] [-p PUBLICKEY]... [--long-option ARGUMENTS]\n"
        "       [FILES...]\n"
        "\n"
        "Do much.\n"
        "\n"
        "  FILES                    what to read\n"
        "  -k, --key KEY            a key\n"
        "  -a                       one way\n"
        "  -b B                     another way\n"
        "  -p PUBLICKEY             a public key\n"
        "  --long-option ARGUMENTS  wide\n"
        "  -h, --help               show this help\n"
        "  -V, --version            show the version\n"
        "\n"
        "example:\n"
        "  tok-long -k K f\n"
    )
    with pytest.raises(Answer, match=r"^tok-long \(toktools\) [0-9.]+\n$"):
        LONG.parse(["-V"])


@pytest.mark.parametrize(("size", "lines"), [(79, 1), (80, 1), (81, 2)])
def test_the_width_of_the_usage(size: int, lines: int) -> None:
    """A line has at most 80 columns."""
    line = CommandLine(
        "x", "X.", "x", Operand("A" * (size - len("usage: x  b")), "a", required=True), Operand("b", "", required=True)
    )
    usage = line.help().partition("\n\n")[0]
    assert usage.count("\n") == lines - 1
    assert max(map(len, usage.splitlines())) <= 80


def test_a_usage_of_three_lines() -> None:
    """Each line is filled before the next begins, and the words stay in their order."""
    names = [f"OPERAND-NUMBER-{number}" for number in range(9)]
    line = CommandLine("x", "X.", "x", *(Operand(name, name, required=True) for name in names))
    usage = line.help().partition("\n\n")[0].splitlines()
    assert [len(row.split()) for row in usage] == [6, 4, 1]
    assert " ".join(usage).split() == ["usage:", "x", *names]


def test_one_long_flag_is_the_nearest() -> None:
    """However many are like it; and where none is like a single letter, those that begin with it are named."""
    line = CommandLine("x", "X.", "x", Option("--alpha-one", "", "a"), Option("--alpha-two", "", "a"))
    with pytest.raises(ToktoolsError, match=r"^option --alpha-onx not recognized$") as raised:
        line.parse(["--alpha-onx"])
    assert raised.value.hint == "did you mean --alpha-one?"
    with pytest.raises(ToktoolsError, match=r"^option -a not recognized$") as raised:
        line.parse(["-a"])
    assert raised.value.hint == "did you mean --alpha-one or --alpha-two?"


def test_a_word_that_begins_two_flags() -> None:
    """It is neither of them, and both are named."""
    line = CommandLine("x", "X.", "x", Option("--alpha-one", "", "a"), Option("--alpha-two", "", "a"))
    with pytest.raises(ToktoolsError, match=r"^option --alpha not a unique prefix$") as raised:
        line.parse(["--alpha"])
    assert raised.value.hint == "did you mean --alpha-one or --alpha-two?"
