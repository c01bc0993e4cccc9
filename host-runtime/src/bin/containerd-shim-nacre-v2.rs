//! The binary that containerd starts for the runtime `io.containerd.nacre.v2`.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    host_runtime::shim::main()
}
