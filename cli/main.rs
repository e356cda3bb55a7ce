//! The `lifeboat` binary: reads arguments, wires the real parts together, calls one command. Nothing else.

mod args;
mod args_upkeep;
mod commands;
mod desk;
mod exit;
mod render;
mod shared_store;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use lifeboat_steps::clients::launchers;

use args::{Arguments, Command};
use exit::{Exit, Trouble};

fn main() -> ExitCode {
    // Before there is a second thread.
    if let Some(ended) = launchers::entry(std::env::args_os()) {
        return ended;
    }
    launchers::set_up("/proc/self/exe".into(), Vec::new());
    quiet_the_tree();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not errors; clap prints both to the right place.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() };
        }
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Trouble::engine("the TLS provider could not be installed").tell();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Trouble::engine(format!("threads could not be started: {error}")).tell(),
    };
    match runtime.block_on(run(arguments)) {
        Ok(exit) => exit.code(),
        Err(trouble) => trouble.tell(),
    }
}

/// The tree in the store panics where its disk refuses it. The store catches that and says what it means; the panic's own words only
/// frighten people.
fn quiet_the_tree() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let in_the_tree = panic.location().is_some_and(|place| place.file().contains("/sled-"));
        if !in_the_tree {
            usual(panic);
        }
    }));
}

async fn run(arguments: Arguments) -> Result<Exit, Trouble> {
    let global = arguments.global;
    match arguments.command {
        Command::Check(a) => commands::check::run(&global, &a),
        Command::Plan(a) => commands::plan::run(&global, &a).await,
        Command::Run(a) => commands::run::run(&global, &a).await,
        Command::Drill(a) => commands::drill::run(&global, &a).await,
        Command::Resume(a) => commands::resume::run(&global, &a).await,
        Command::Runs(a) => commands::runs::run(&global, &a).await,
        Command::Status(a) => commands::status::run(&global, &a).await,
        Command::Watch(a) => commands::watch::run(&global, &a).await,
        Command::Why(a) => commands::why::run(&global, &a).await,
        Command::Report(a) => commands::report::run(&global, &a).await,
        Command::Approve(a) => commands::answer::approve(&global, &a).await,
        Command::Deny(a) => commands::answer::deny(&global, &a).await,
        Command::Resolve(a) => commands::resolve::run(&global, &a).await,
        Command::Cancel(a) => commands::cancel::run(&global, &a).await,
        Command::Pause(a) => commands::hold::pause(&global, &a).await,
        Command::Continue(a) => commands::hold::go_on(&global, &a).await,
        Command::Freeze(a) => commands::freeze::freeze(&global, &a).await,
        Command::Unfreeze(a) => commands::freeze::unfreeze(&global, &a).await,
        Command::Simulate(a) => commands::simulate::run(&global, &a),
        Command::Test(a) => commands::test::run(&global, &a),
        Command::Audit(a) => commands::audit::run(&global, &a).await,
        Command::Store(a) => commands::store::run(&global, &a).await,
        Command::Graph(a) => commands::graph::run(&global, &a),
        Command::Steps(a) => commands::steps::run(&a),
        Command::Schema(a) => commands::schema::run(&a),
        Command::Heartbeat(a) => commands::heartbeat::run(&global, &a).await,
    }
}
