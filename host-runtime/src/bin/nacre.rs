//! The `nacre` command line.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    host_runtime::cli::main()
}
