# What the end-to-end scripts share; they run in an empty directory with AWS's samples in $AWS, test keys in $KEYS, and
# the installed commands in $BIN.

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# same FILE: standard input holds the bytes of the file.
same() {
    cmp - "$1" || fail "differs from $1"
}

# ends STATUS TEXT COMMAND...: how the command ends, and a text in its messages ("" stands for no message at all).
# What it wrote stays in the files out and err.
ends() {
    wanted=$1 text=$2 status=0
    shift 2
    "$@" >out 2>err || status=$?
    sed 's/^/    /' err >&2
    [ "$status" -eq "$wanted" ] || fail "exit status $status, not $wanted: $*"
    if [ -z "$text" ]; then
        [ ! -s err ] || fail "has something to say: $*"
    else
        grep -qF -- "$text" err || fail "does not say '$text': $*"
    fi
    if [ "$status" -eq 2 ]; then
        # Every line of every message begins with the name of the program: no traceback, no bare text.
        ! grep -v "^$1: " err || fail "a message without its program: $*"
    fi
}

# refuses TEXT COMMAND...: exit status 2, a text in the messages, and not a byte on standard output.
refuses() {
    said=$1
    shift
    ends 2 "$said" "$@"
    [ ! -s out ] || fail "wrote although it refused: $*"
}

# answers_questions COMMAND [LINES]: --help and --version go to standard output, fit a screen and need nothing else.
answers_questions() {
    ends 0 "" "$1" --help
    grep -q "^usage: $1 " out || fail "no usage in --help"
    grep -q "^example:" out || fail "no example in --help"
    [ "$(wc -l <out)" -le "${2:-24}" ] || fail "--help does not fit a screen"
    ends 0 "" "$1" --version
    grep -qE "^$1 \(toktools\) [0-9]+\.[0-9]+" out || fail "no version in --version"
    refuses "try '$1 --help'" "$1" --no-such-option
}
