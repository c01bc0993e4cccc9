//! Host double: there are no other CPUs to start.

/// Does nothing: CPU 0 is alone on the host.
pub fn start_other_cpus(main: fn() -> !) {
    let _ = main;
}
