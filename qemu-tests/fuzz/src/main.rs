//! Feeds mutated inputs to whatever reads bytes that somebody else wrote: guest, container's author, another version.
//!
//! `cargo xtask fuzz [TARGET…]` runs it. Each target ([`targets`]) is a function of bytes that may answer anything but
//! must not panic, hang or reach beyond what it was given; [`mutate`] makes the bytes from seeds, by a number, so that a
//! run can be repeated. No coverage guides it, which would take a compiler that is not stable; the seeds are valid
//! inputs, so that mutants get past the first checks.
//!
//! An input that fails is left in a file, which `--input FILE` tries alone.

#![forbid(unsafe_code)]

mod mutate;
mod targets;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;

use mutate::Mutator;
use targets::{TARGETS, Target};

/// How long one input may take. A loaded machine is slow, a hang is for ever.
const HANG: Duration = Duration::from_secs(60);

/// Feeds mutated inputs to what reads others' bytes.
#[derive(Debug, Parser)]
struct Args {
    /// Which; all of them if none is named.
    targets: Vec<String>,
    /// For how long, each.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// The number that the inputs are made from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where inputs that fail are left.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Try this file alone, on the one target that is named.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let named = |target: &&Target| {
        args.targets.is_empty() || args.targets.iter().any(|name| name == target.name)
    };
    let chosen: Vec<_> = TARGETS.iter().filter(named).collect();
    if chosen.is_empty() || chosen.len() < args.targets.len() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!("the targets are {}", names.join(", "));
    }
    if let Some(file) = &args.input {
        let [target] = chosen[..] else {
            bail!("name the one target that the file is for");
        };
        (target.make()?.run)(&std::fs::read(file).context("cannot read the input")?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = false;
    for target in chosen {
        failed |= !fuzz(target, &args)?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The input that is being tried, and since when.
type Current = Arc<Mutex<(Vec<u8>, Instant)>>;

/// Runs a target for its time; false when an input failed.
fn fuzz(target: &Target, args: &Args) -> anyhow::Result<bool> {
    let mut made = target.make()?;
    let mut mutator = Mutator::new(args.seed, made.seeds.clone());
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let current: Current = Arc::new(Mutex::new((Vec::new(), Instant::now())));
    let watched = Arc::clone(&current);
    let (file, name) = (args.out.join(format!("{}.input", target.name)), target.name);
    let left = file.clone();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        // Until the other end is dropped.
        while over.recv_timeout(Duration::from_secs(1))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let current = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if current.1.elapsed() > HANG {
                leave(
                    &left,
                    &current.0,
                    &format!("{name}: an input takes for ever"),
                );
                std::process::exit(1);
            }
        }
    });
    let mut tried = 0_u64;
    while Instant::now() < end {
        let input = mutator.next();
        *current.lock().unwrap_or_else(PoisonError::into_inner) = (input.clone(), Instant::now());
        let run = std::panic::AssertUnwindSafe(|| (made.run)(&input));
        if std::panic::catch_unwind(run).is_err() {
            leave(&file, &input, &format!("{name}: an input makes it panic"));
            return Ok(false);
        }
        tried += 1;
    }
    drop(done);
    // It only looks at the clock.
    let _ = watch.join();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{name}: {tried} inputs in {} s", args.seconds)?;
    Ok(true)
}

/// Leaves an input where it can be tried again, and says so.
fn leave(file: &Path, input: &[u8], what: &str) {
    let mut stderr = std::io::stderr();
    // Nobody is left to tell if that fails.
    let _ = match std::fs::write(file, input) {
        Ok(()) => writeln!(stderr, "{what}: {}", file.display()),
        Err(error) => writeln!(stderr, "{what}, which cannot be written: {error}"),
    };
}
