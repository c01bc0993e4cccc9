//! `cargo xtask`: everything a person or CI does with this project, one file a command.
//!
//! Each command installs or asks for exactly what it needs (`packages`), says what it is doing
//! on stderr (`shell::step`), and fails with a sentence that says what to do.

mod bench;
mod build;
mod check;
mod docs;
mod fuzz;
mod linux;
mod packages;
mod qemu_test;
mod reproduce;
mod rootfs;
mod run;
mod setup;
mod shell;
mod stress;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Build, run, test and check Nacre.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing, as root; otherwise print the command that does
    Setup,
    /// Build target/image/kernel.elf and target/image/initramfs.img
    BuildImage,
    /// Build everything and start a program in a microVM (a busybox shell by default)
    Run(run::RunArguments),
    /// Run the guest test programs on the kernel under QEMU
    QemuTest(qemu_test::QemuTestArguments),
    /// Run all tests, and print how many passed, failed and were skipped
    Test(test::TestArguments),
    /// Count what the kernel's operations cost, and compare with Debian's Linux
    Bench(bench::BenchArguments),
    /// Make random system calls in a guest
    Stress(stress::StressArguments),
    /// Feed hostile bytes to whatever reads others' bytes
    Fuzz(fuzz::FuzzArguments),
    /// Check the format, the lints, the layers, and what else a program can check
    Check,
    /// Write the pages that are generated from the code
    Docs,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Setup => setup::run(),
        Command::BuildImage => build::image(&workspace).map(drop),
        Command::Run(arguments) => run::run(&workspace, arguments),
        Command::Test(arguments) => test::run(&workspace, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
        Command::Stress(arguments) => stress::run(&workspace, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Command::Check => check::run(&workspace),
        Command::Docs => docs::write(&workspace),
        Command::QemuTest(arguments) => qemu_test::run(&workspace, arguments),
    }
}
