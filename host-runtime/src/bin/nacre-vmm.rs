//! The VMM process of one microVM; started by `host_runtime::sandbox`, never by hand.

fn main() -> std::process::ExitCode {
    host_runtime::vmm::run()
}
