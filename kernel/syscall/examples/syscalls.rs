//! Prints `docs/syscalls.md` from the system-call table; `cargo xtask docs` runs it.

use nacre_syscall::table::FAMILIES;

fn main() {
    let total: usize = FAMILIES.iter().map(|family| family.calls.len()).sum();
    println!("# System calls\n");
    println!("Written by `cargo xtask docs` from the kernel's table; do not edit.\n");
    println!(
        "{total} calls of x86-64 Linux. Any other number is answered with ENOSYS and counted."
    );
    for family in FAMILIES {
        println!("\n## {}\n\n| number | name |\n|---|---|", family.name);
        let mut calls: Vec<_> = family.calls.iter().collect();
        calls.sort_by_key(|call| call.number);
        for call in calls {
            println!("| {} | {} |", call.number, call.name);
        }
    }
}
