//! The list of commands: name, one line of help, and the function. What a command does is in its own file.

mod bench;
mod ci;
mod demo;
mod fuzz;
mod install;
mod lab;
mod schema;
mod test;
mod tidy;
mod torture;

use xtask::{Result, Trouble};

/// One command of `cargo xtask`.
struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(&[&str]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "demo",
        help: "a real primary dies, a replica takes over, the report is held against a client (--keep, --lossy, --stop)",
        run: demo::run,
    },
    Command {
        name: "install",
        help: "install what the lab and the build need and is missing: PostgreSQL 15, Knot, etcd, protoc, small tools (apt)",
        run: install::run,
    },
    Command { name: "lab", help: "start the lab of the tests to play with, until the input ends or Ctrl-C", run: lab::run },
    Command { name: "test", help: "install what is missing, then run every test (further words go to the runner)", run: test::run },
    Command { name: "schema", help: "write the JSON Schemas that editors use, from the binary", run: schema::run },
    Command { name: "tidy", help: "check the house rules that a compiler does not know", run: tidy::run },
    Command { name: "ci", help: "formatting, house rules, lints, tests: what must pass before a change lands", run: ci::run },
    Command {
        name: "fuzz",
        help: "random inputs for what reads foreign bytes: yaml, journal, expression (--executions N, --seed N, --keep, --input FILE)",
        run: fuzz::run,
    },
    Command {
        name: "bench",
        help: "measure a release build beside the raw disk; fails where a goal is missed (--quick, --only NAME,.., --rivals, --install-rivals)",
        run: bench::run,
    },
    Command { name: "torture", help: "long proofs: power cuts, kills at random moments", run: torture::run },
];

/// Runs the command that the first word names, with the other words as its arguments.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let Some((name, rest)) = words.split_first() else {
        println!("{}", help());
        return Ok(());
    };
    match COMMANDS.iter().find(|command| command.name == *name) {
        Some(command) => (command.run)(rest),
        None => Err(Trouble::new(format!("there is no command `{name}`\n{}", help()))),
    }
}

fn help() -> String {
    let lines = COMMANDS.iter().map(|command| format!("  {:<10}{}", command.name, command.help));
    format!("usage: cargo xtask COMMAND\n{}", lines.collect::<Vec<_>>().join("\n"))
}
