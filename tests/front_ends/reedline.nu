# Nushell's own line editor is reedline: here the commands of the CLI are commands of the shell.
$env.config.show_banner = false
$env.PROMPT_COMMAND = {|| "aws-cloudhsm " }
$env.PROMPT_INDICATOR = "> "
$env.PROMPT_COMMAND_RIGHT = {|| date now | format date "%H:%M:%S" }

def note [line: string] {
    $"($line)\n" | save --append heard
    $line
}

def reply [data: any] {
    print ({error_code: 0, data: $data} | to json)
}

def login [--username: string, --role: string, kind: string, --token: path] {
    note $"login ($username) ($role) ($kind)"
    note (input --suppress-output "Enter password:")
    print ""
    let unsigned = 0..<32 | each { 0x[01] } | bytes collect | encode base64
    {version: "2.0", tokens: [{unsigned: $unsigned, signed: ""}]} | to json | save $token --force
    note (input "Enter signed token file path (press enter if same as the unsigned token file):")
    reply $username
}

def "user list" [] {
    reply (note "user list")
}

def "key list" [] {
    reply (note "key list")
}

def quit [] {
    note "quit"
    exit
}
