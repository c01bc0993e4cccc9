//! The `nacre` command line: `nacre run` starts one program in a microVM of its own.
//!
//! `run` goes from arguments to exit code; `session` connects a process in the guest with this
//! one's stdio, terminal and signals and knows nothing of microVMs, so that tests give it an agent on the
//! host; `before_boot` says what a look at the directory tells, `hints` what to do in place of others' options.
//! `ps`, `exec`, `control`, `logs` and `stats` are clients of pods that other processes own, found by their
//! state directories. `terminal`, `size`, `table` and `timings` are small and alone. Every failure of nacre's own is one
//! sentence on stderr and exit code 125, as with other container command lines.

#![forbid(unsafe_code)]

mod args;
mod before_boot;
mod control;
mod error;
mod exec;
mod hang_up;
mod hints;
mod logs;
mod moment;
mod names;
mod network;
mod ps;
mod run;
pub mod session;
mod signals;
mod size;
mod stats;
mod table;
mod terminal;
mod timings;
mod volume;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use host_machine::logging;
use host_machine::printing::tell;
use pod::state::StateRoot;

pub use error::RunError;

/// The exit code of a failure that is not the program's.
const OWN_FAILURE: u8 = 125;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if let Some((option, hint)) = hint(&error) {
                tell(format_args!("nacre: there is no option {option}: {hint}"));
                return OWN_FAILURE.into();
            }
            // Help goes to stdout and is no failure; nobody can be told if printing fails.
            let _ = error.print();
            return if error.use_stderr() {
                OWN_FAILURE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    logging::start(args.debug, args.log_format);
    let root = StateRoot::locate(args.state_dir.as_deref());
    let outcome = match &args.command {
        args::Command::Run(args) => run::run(&root, args),
        args::Command::Ps(args) => ps::run(&root, args),
        args::Command::Exec(args) => exec::run(&root, args),
        args::Command::Kill(args) => control::kill(&root, args),
        args::Command::Logs(args) => logs::run(&root, args),
        args::Command::Stats(args) => stats::run(&root, args),
        args::Command::Events(args) => control::events(&root, args),
        args::Command::Update(args) => control::update(&root, args),
        args::Command::Pause(args) => control::pause(&root, args),
        args::Command::Resume(args) => control::resume(&root, args),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(error) => {
            tell(format_args!("nacre: {error}"));
            error.exit_code().into()
        }
    }
}

/// An option that was not known and that people know from elsewhere, and what to do instead.
fn hint(error: &clap::Error) -> Option<(&str, &'static str)> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if error.kind() == ErrorKind::UnknownArgument => {
            Some((option, hints::of(option)?))
        }
        _ => None,
    }
}
