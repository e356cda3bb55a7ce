//! `cargo xtask <command>`: the project's own commands. Each lives in `commands/`; here is only the choice between them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to a person")]

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match commands::run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("xtask: {trouble}");
            ExitCode::FAILURE
        }
    }
}
