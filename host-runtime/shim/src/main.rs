//! The containerd shim `containerd-shim-nacre-v2`: what containerd starts for every container.
//!
//! containerd runs the binary three ways. `start` ([`launch`]) leaves a daemon behind and prints
//! its socket; the daemon ([`daemon`]) answers the Task API ([`service`]) for one container in one
//! pod ([`task`]); `delete` ([`cleanup`]) tidies up after a daemon that died. `-info` ([`info`]) is about the runtime.
//!
//! The daemon lives in a mount namespace of its own, so the root file system it mounts goes away
//! with it however it ends, and its VMM dies with it.

#![forbid(unsafe_code)]

mod args;
mod cleanup;
mod daemon;
mod error;
mod events;
mod info;
mod launch;
mod metrics;
mod service;
mod stdio;
mod task;

use std::io::{self, Write as _};
use std::process::ExitCode;

use args::{Action, Args};
use error::ShimError;
use host_machine::logging;
use host_machine::printing::tell;

fn main() -> ExitCode {
    let args = Args::parse(std::env::args_os().skip(1));
    logging::start_by_environment(args.as_ref().is_ok_and(|args| args.debug));
    let outcome = args.and_then(|args| match args.action {
        Action::Start => launch::start(&args),
        Action::Delete => cleanup::delete(&args),
        Action::Serve => daemon::serve(&args),
        Action::Info => info::print(),
        Action::Version => {
            let version = env!("CARGO_PKG_VERSION");
            // Nobody can be told if stdout is gone.
            let _ = writeln!(io::stdout(), "containerd-shim-nacre-v2 {version}");
            Ok(())
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows what `start` and `delete` say here to whoever asked for the container.
            tell(format_args!("containerd-shim-nacre-v2: {error}"));
            ExitCode::FAILURE
        }
    }
}
