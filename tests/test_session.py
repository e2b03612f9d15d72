"""What the commands that log in share: who signs, and a CLI that is ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import OFFICER1_PUB

from toktools import keys
from toktools.errors import ToktoolsError
from toktools.keys.command import Command
from toktools.login import driver, place, session
from toktools.system import kernel, passphrases

TOOL: Any = SimpleNamespace(name="tok-login", warn=print, say=print)


def options(**given: Any) -> SimpleNamespace:
    """Options as they are where only these are given."""
    signer = {"k": None, "signer": None, "b": False, "p": None, "passin": passphrases.PASSIN.default}
    user = {"username": "a", "role": "admin", "password": lambda _name, _what: b"password"}
    where = {"cli": ["cli", "-v"], "H": None, "ssh": ["ssh"], "cluster_id": None, "timeout": 7.0}
    return SimpleNamespace(**{**signer, **user, **where, **given})


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


PUB = str(OFFICER1_PUB)


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"k": "k", "p": "p"}, "-p and -b go with --signer, not with -k", ""),
        ({"k": "k", "p": ""}, "-p and -b go with --signer, not with -k", ""),
        ({"k": "k", "b": True}, "-p and -b go with --signer, not with -k", ""),
        ({}, "-k KEY or --signer COMMAND is missing", "try 'tok-login --help'"),
        ({"p": PUB}, "-k KEY or --signer COMMAND is missing", "try 'tok-login --help'"),
        ({"signer": ["s"]}, "--signer needs -p PUB: the HSM counts a wrong signature as a wrong login", ""),
        ({"signer": ["s"], "p": PUB, "passin": print}, "--passin cannot be used with --signer", ""),
    ],
)
def test_who_does_not_sign(given: dict[str, Any], said: str, hint: str) -> None:
    """What would be of no use, or could count as a wrong login, is refused."""
    error = refused(lambda: session.signer(options(**given), TOOL))
    assert (error.message, error.hint) == (said, hint)


def test_who_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of -k, with its pass phrase, or a command whose public key is known."""
    monkeypatch.setattr(keys, "open_signer", lambda *words: words)
    monkeypatch.setattr(kernel, "adopt_orphans", lambda: False)  # those of the other tests are nobody's here
    opened: Any = session.signer(options(k="k", passin=len), TOOL)
    assert opened == ("k", len, print)
    for base64 in (False, True):
        command = session.signer(options(signer=["s"], p=PUB, b=base64), TOOL)
        assert isinstance(command, Command)
        assert command.public_key is not None
        assert command._base64 == base64  # noqa: SLF001 - as -b says


class Part:
    """A place or a CLI that keeps what becomes of it, and fails at one step."""

    seen: list[Any]
    trouble = ""

    def __init__(self, *words: Any) -> None:
        self.step(words, "start" if isinstance(self, Cli) else "")

    def step(self, step: Any, name: str) -> None:
        self.seen.append(step)
        if name and name == self.trouble:
            raise ToktoolsError(name)

    def reach(self) -> None:
        self.step("reach", "reach")

    def argv(self, cli: list[str]) -> list[str]:
        return [*cli, "there"]

    def close(self) -> None:
        self.seen.append("ended" if isinstance(self, Cli) else "left")


class Cli(Part):
    pass


@pytest.mark.parametrize("host", [None, "h"])
@pytest.mark.parametrize("cluster", [None, "cluster-1"])
@pytest.mark.parametrize(("trouble", "missed"), [("", []), ("reach", [2, 3, 4]), ("start", [3, 4]), ("work", [])])
def test_a_cli_that_is_started(
    monkeypatch: pytest.MonkeyPatch, host: str | None, cluster: str | None, trouble: str, missed: list[int]
) -> None:
    """Its place is reached first; in the end the CLI has ended, no file is left and the signers have stopped."""
    seen: list[Any] = []
    monkeypatch.setattr(Part, "seen", seen, raising=False)
    monkeypatch.setattr(Part, "trouble", trouble)
    monkeypatch.setattr(place, "There", lambda *words: Part("there", *words))
    monkeypatch.setattr(place, "Here", Part)
    monkeypatch.setattr(driver, "Cli", Cli)
    signers: Any = [SimpleNamespace(stop=lambda: seen.append("stopped"))]

    def work() -> None:
        with session.started(options(H=host, cluster_id=cluster), signers, TOOL) as (cli, user, where):
            assert [type(part).__name__ for part in (cli, where)] == ["Cli", "Part"]
            assert (user.name, user.role, user.password()) == ("a", "admin", b"password")
            cli.step("work", "work")  # type: ignore[attr-defined]

    if trouble:
        assert refused(work).message == trouble
    else:
        work()
    argv = ["cli", "-v", "interactive", *(["--cluster-id", cluster] if cluster else []), "there"]
    began = ("there", ["ssh"], "h", 7.0) if host else ()
    steps = [began, "reach", (argv, "cli", print, 7.0), "work", "ended", "left", "stopped"]
    assert seen == [step for number, step in enumerate(steps) if number not in missed]
