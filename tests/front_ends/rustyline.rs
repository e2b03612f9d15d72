// A CLI on rustyline, which shows stars for the password.

use rustyline::{completion::Completer, highlight::Highlighter, hint::Hinter, validate::Validator};
use rustyline::{config::Configurer, ColorMode, Editor, Helper};
use std::{borrow::Cow, fs, io::Write};

struct Stars(bool);
impl Completer for Stars {
    type Candidate = String;
}
impl Hinter for Stars {
    type Hint = String;
}
impl Validator for Stars {}
impl Helper for Stars {}
impl Highlighter for Stars {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.0 { Cow::Owned("*".repeat(line.len())) } else { Cow::Borrowed(line) }
    }
    fn highlight_char(&self, _: &str, _: usize) -> bool {
        self.0
    }
}

fn note(name: &str, line: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(name).unwrap();
    writeln!(file, "{}", line).unwrap();
}

fn ask(editor: &mut Editor<Stars>, prompt: &str) -> String {
    let line = editor.readline(prompt).unwrap();
    note("heard", &line);
    line
}

fn reply(data: &str) {
    println!("{{\n  \"error_code\": 0,\n  \"data\": \"{}\"\n}}", data);
}

fn main() {
    note("pid", &format!("{} {}", std::process::id(), std::os::unix::process::parent_id()));
    let mut editor = Editor::<Stars>::new();
    editor.set_helper(Some(Stars(false)));
    editor.set_color_mode(ColorMode::Forced);
    let login = ask(&mut editor, "aws-cloudhsm > ");
    editor.helper_mut().unwrap().0 = true;
    ask(&mut editor, "Enter password:");
    editor.helper_mut().unwrap().0 = false;
    let tokens = "{\"version\": \"2.0\", \"tokens\": [{\"unsigned\": \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\", \"signed\": \"\"}]}";
    fs::write(login.rsplit(' ').next().unwrap(), tokens).unwrap();
    ask(&mut editor, "Enter signed token file path (press enter if same as the unsigned token file):");
    reply("officer1");
    loop {
        let line = ask(&mut editor, "aws-cloudhsm > ");
        if line == "quit" {
            return;
        }
        if !line.is_empty() {
            reply(&line);
        }
    }
}
