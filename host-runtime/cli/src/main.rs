//! The `nacre` command line.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    nacre_cli::main()
}
