"""Completions for bash, zsh and fish, made from the tables of options when the wheel is built."""

from __future__ import annotations

from collections.abc import Sequence

from toktools import commands
from toktools.options import COMMON, CommandLine, Option
from toktools.tokens.approvals import ROLES

_PRIVATE, _PUBLIC = ("key", "pem", "der", "p12", "pfx"), ("pub", "pem", "crt", "cer", "der")


class Kind:
    """What kind of text an argument is.

    Words are offered, and begin a text that goes on where they end in a colon or a slash; files are those with one of
    these suffixes, any where there is none of them; a program is a command with arguments of its own.
    """

    def __init__(self, *, words: Sequence[str] = (), files: Sequence[str] | None = None, program: bool = False) -> None:
        self.words = tuple(words)
        self.files = files
        self.program = program


_NOTHING = Kind()
_FILE = Kind(files=())
KINDS = {
    "COMMAND": Kind(program=True),
    "FILE": _FILE,
    "HOST": _NOTHING,
    "ID": _NOTHING,
    "KEY": Kind(words=("pkcs11:", "awskms:///"), files=_PRIVATE),
    "LINE": _NOTHING,
    "LIST": _NOTHING,
    "M": _NOTHING,
    "N": _NOTHING,
    "OUT": _FILE,
    "PREFIX": _FILE,
    "PUB": Kind(files=_PUBLIC),
    "QUESTION=SOURCE": _NOTHING,
    "R": Kind(words=ROLES),
    "ROLE": Kind(words=ROLES),
    "SECONDS": _NOTHING,
    "SIGNATURE": _FILE,
    "SOURCE": Kind(words=("env:", "file:", "fd:")),
    "U": _NOTHING,
    "USER": _NOTHING,
    "USERNAME": _NOTHING,
    "tok-login COMMAND": _NOTHING,
    "tok-rehearse COMMAND": Kind(words=("interactive",)),
}
"""By the name of the argument, as --help has it, or by the tool's name and that."""


def kind(line: CommandLine, name: str) -> Kind:
    """Return what kind of text an argument of a tool is."""
    return KINDS.get(f"{line.name} {name}", KINDS.get(name, _NOTHING))


def files() -> dict[str, str]:
    """Return every file of completions: its path below share/, and its text."""
    return {
        path.format(line.name): made(line)
        for line in commands.command_lines()
        for path, made in (
            ("bash-completion/completions/{}", bash),
            ("zsh/site-functions/_{}", zsh),
            ("fish/vendor_completions.d/{}.fish", fish),
        )
    }


def _options(line: CommandLine) -> list[Option]:
    return [*line.options, *COMMON]


def _program(line: CommandLine) -> bool:
    """Say whether what follows the options is a program with arguments of its own."""
    return any(kind(line, operand.name).program for operand in line.operands)


def _text(text: str) -> str:
    """Return a text for single quotes, in bash, zsh and fish."""
    return text.replace("'", "'\"'\"'")


# --- bash

_BASH = r"""# bash completion for @tool@, made from its table of options

@function@_kind() { # sets words and suffixes to what an option or an operand takes, if it is there and takes something
    case $1 in
@cases@
    *) return 1 ;;
    esac
}

@function@() {
    local line=${COMP_LINE:0:COMP_POINT} typed last i word option=0 operands=0 ended='' lead='' words='' suffixes=none
    COMPREPLY=()
@program@
    # As they were typed: bash itself parts words at : and = too.
    read -ra typed <<<"${line//\\ /$'\a'}"
    [[ $line == *[[:space:]] ]] && typed+=('')
    typed=("${typed[@]//$'\a'/ }")
    last=$((${#typed[@]} - 1))
    word=${typed[last]}
    for ((i = 1; i < last; i++)); do
        if [[ -n $ended || ${typed[i]} != -?* ]]; then
            operands=$((operands + 1))
        elif [[ ${typed[i]} == -- ]]; then
            ended=yes
        elif @function@_kind "${typed[i]}"; then
            i=$((i + 1))
        fi
    done
    words='' suffixes=none
    if [[ ${typed[last - 1]} == *[\<\>] ]]; then
        suffixes=''
    elif ((i > last)); then
        @function@_kind "${typed[last - 1]}"
    elif [[ -z $ended && $word == --*=* ]]; then
        lead=${word%%=*}= word=${word#*=}
        @function@_kind "${lead%=}"
    elif [[ -z $ended && $word == -* ]]; then
        words='@flags@'
    else
        @function@_kind "$operands" || @function@_kind more
    fi
    if [[ $words == *file:* && $word == file:* ]]; then
        lead+=file: word=${word#file:} words='' suffixes=''
    elif [[ $words == *env:* && $word == env:* ]]; then
        lead+=env: word=${word#env:} words=$(compgen -e)
    elif [[ $suffixes != none && $word == *=* && -z $(compgen -f -- "$word") ]]; then
        lead+=${word%%=*}= word=${word#*=}
    fi
    @function@_reply
    # What bash takes for the part of the word before the one to complete is not repeated.
    lead+=$word
    while [[ -n $lead && ($lead != *[:=] || $COMP_WORDBREAKS != *"${lead: -1}"*) ]]; do
        lead=${lead%?}
    done
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$lead"}
    done
    [[ ${COMPREPLY[*]} == *[:/] ]] && @function@_option nospace
    return 0
}

@function@_option() {
    type compopt >/dev/null 2>&1 && compopt -o "$1" 2>/dev/null
}

@function@_reply() {
    local IFS=$' \t\n' all file found
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [[ $suffixes != none ]]; then
        IFS=$'\n'
        all=($(compgen -f -- "$word"))
        found=()
        for file in "${all[@]}"; do
            if [[ -z $suffixes || -d ${file/#\~/$HOME} || "|$suffixes|" == *"|${file##*.}|"* ]]; then
                found+=("$file")
            fi
        done
        [[ ${#found[@]} -gt 0 || ${#COMPREPLY[@]} -gt 0 ]] || found=("${all[@]}")
        if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
            @function@_option filenames
            COMPREPLY=("${found[@]}")
        else
            for file in "${found[@]}"; do
                [[ -d ${file/#\~/$HOME} ]] && file+=/
                COMPREPLY+=("$(printf %q "$file")")
            done
        fi
    fi
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=$lead${COMPREPLY[i]}
    done
}

complete -F @function@ @tool@
"""
_BASH_PROGRAM = r"""    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            word=${COMP_WORDS[COMP_CWORD]} i=$((i + 1))
            if declare -F _comp_command_offset >/dev/null; then
                _comp_command_offset "$i"
            elif declare -F _command_offset >/dev/null; then
                _command_offset "$i"
            elif ((i == COMP_CWORD)); then
                COMPREPLY=($(compgen -c -- "$word"))
            else
                suffixes=''
                @function@_reply
            fi
            return 0
        fi
    done
"""


def bash(line: CommandLine) -> str:
    """Return the completions of a tool for bash, with bash-completion or without."""
    cases = [
        _bash_case("|".join(option.flags), kind(line, option.argument)) for option in line.options if option.argument
    ]
    cases += [
        _bash_case("more" if operand.many and not operand.command else f"{number}", kind(line, operand.name))
        for number, operand in enumerate(line.operands)
    ]
    return (
        _BASH.replace("@cases@", "\n".join(cases))
        .replace("@flags@", " ".join(flag for option in _options(line) for flag in option.flags))
        .replace("@program@\n", _BASH_PROGRAM if _program(line) else "")
        .replace("@tool@", line.name)
        .replace("@function@", f"_{line.name.replace('-', '_')}")
    )


def _bash_case(pattern: str, kind: Kind) -> str:
    suffixes = "none" if kind.files is None else "|".join(kind.files)
    words = "--" if kind.program else " ".join(kind.words)
    return f"    {pattern}) words='{words}' suffixes='{suffixes}' ;;"


# --- zsh


def zsh(line: CommandLine) -> str:
    """Return the completions of a tool for zsh."""
    exclusive = {option: choice for choice in line.choices for option in choice}
    specs = [_zsh_option(line, option, exclusive.get(option, (option,))) for option in _options(line)]
    for operand in line.operands:
        if kind(line, operand.name).program:
            specs += [f"'(-)1:{operand.name}: _command_names -e'", f"'*::{operand.name}: _normal'"]
        else:
            place = "*" if operand.many and not operand.command else ""
            specs.append(f"'{place}:{operand.name}:{_zsh_action(operand.name, kind(line, operand.name))}'")
    return (
        f"#compdef {line.name}\n# made from its table of options\n\n_arguments -s -S \\\n    "
        + " \\\n    ".join(specs)
        + "\n"
    )


def _zsh_option(line: CommandLine, option: Option, choice: Sequence[Option]) -> str:
    about = _text(option.about).replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
    others = [flag for other in choice for flag in other.flags]
    before = "'*'" if option.repeated else f"'({' '.join(others)})'"
    argument = (
        f":{option.argument}:{_zsh_action(option.argument, kind(line, option.argument))}" if option.argument else ""
    )
    flags = [f"{flag}{('=' if flag.startswith('--') else '+') if option.argument else ''}" for flag in option.flags]
    named = f"{{{','.join(flags)}}}" if len(flags) > 1 else flags[0]
    return f"{before}{named}'[{about}]{argument}'"


def _zsh_action(name: str, kind: Kind) -> str:
    """Return an action of _arguments, for single quotes; a colon would end it."""
    going_on = " ".join(word for word in kind.words if word[-1] in ":/").replace(":", r"\:")
    files = f'_files -g "*.({"|".join(kind.files)})(-.)"' if kind.files else "_files"
    if "file:" in kind.words:
        return (
            r"{ if compset -P file\:; then _files; elif compset -P env\:; then _parameters -g '\''*export*'\''; "
            f'else compadd -S "" -- {going_on}; fi }}'
        )
    if going_on:
        return f'{{ compadd -S "" -- {going_on}; {files} }}'
    if kind.words:
        return f"({' '.join(kind.words)})"
    if kind.files is None:
        return ""
    return f'{{ compset -P "[A-Za-z0-9_]#="; {files} }}' if name == "PUB" else f" {files}"


# --- fish

_FISH = r"""# fish completion for @tool@, made from its table of options

function __@function@_files # those with one of the suffixes, or all if there is none of them
    set -l token (commandline -ct | string replace -r '^-[^=]*=' '')
    set -l lead ''
    if string match -qr '^(file:|\w+=)' -- $token
        set lead (string match -r '^(?:file:|\w+=)' -- $token)
        set token (string sub -s (math 1 + (string length -- $lead)) -- $token)
    end
    set -l all (__fish_complete_path $token)
    set -l found $all
    if set -q argv[1]
        set found (string match -r '^[^\t]*(?:/|\.(?:'(string join '|' $argv)'))(?:\t.*)?$' -- $all)
        or set found $all
    end
    for file in $found
        echo $lead$file
    end
end

function __@function@_words
    printf '%s\n' $argv
    if contains file: $argv
        if string match -qr '(^|=)file:' -- (commandline -ct)
            __@function@_files
        end
        if string match -qr '(^|=)env:' -- (commandline -ct)
            for name in (set -nx)
                echo env:$name
            end
        end
    end
end
@program@
complete -c @tool@ -f
@rows@
"""
_FISH_PROGRAM = r"""
function __@function@_program
    set -l typed (commandline -opc)
    set -l place (contains -i -- -- $typed)
    or return 1
    set -q argv[1]
    and return 0
    complete -C (string join ' ' -- (string escape -- $typed[(math $place + 1)..-1]) (commandline -ct))
end
"""


def fish(line: CommandLine) -> str:
    """Return the completions of a tool for fish."""
    function = line.name.replace("-", "_")
    start = f"complete -c {line.name}"
    rows = []
    for option in _options(line):
        flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
        takes = f" -x{_fish_arguments(function, kind(line, option.argument))}" if option.argument else ""
        unless = f" -n 'not __{function}_program test'" if _program(line) else ""
        rows.append(f"{start}{unless} {' '.join(flags)}{takes} -d '{_text(option.about)}'")
    for operand in line.operands:
        arguments = _fish_arguments(function, kind(line, operand.name))
        if kind(line, operand.name).program:
            rows += [f"{start} -n '__{function}_program test' -a '(__{function}_program)'"]
        elif arguments:
            rows.append(f"{start}{arguments}")
    return (
        _FISH.replace("@rows@", "\n".join(rows))
        .replace("@program@", _FISH_PROGRAM if _program(line) else "")
        .replace("@tool@", line.name)
        .replace("@function@", function)
    )


def _fish_arguments(function: str, kind: Kind) -> str:
    words = f"(__{function}_words {' '.join(kind.words)})" if kind.words else ""
    files = "" if kind.files is None else f"(__{function}_files{''.join(f' {suffix}' for suffix in kind.files)})"
    return f" -k -a '{' '.join(filter(None, (files, words)))}'" if words or files else ""
