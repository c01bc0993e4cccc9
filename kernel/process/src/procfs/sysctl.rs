//! /proc/sys: the settings that programs read, and the few that can be changed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::Range;

use abi::{Errno, Result};

use super::node::{Content, Item};
use super::scope::Scope;
use crate::{thread, tree, uts};

/// /proc/sys.
pub(super) static ITEMS: &[Item] = &[
    Item::folder("fs", FS),
    Item::folder("kernel", KERNEL),
    Item::folder("vm", VM),
];

static FS: &[Item] = &[
    Item::file("file-max", |_| line(i64::MAX)),
    Item::file("file-nr", |_| line("0\t0\t9223372036854775807")),
    Item::file("nr_open", |_| line(fs::FD_MAX)),
    Item::file("pipe-max-size", |_| line(1 << 20)),
];

static KERNEL: &[Item] = &[
    Item::file("cap_last_cap", |_| {
        line(63 - fs::Capabilities::all().bits().leading_zeros())
    }),
    writable(
        "domainname",
        |_| name(&uts::domainname()),
        |_, to| set_name(to, uts::set_domainname),
    ),
    writable(
        "hostname",
        |_| name(&uts::hostname()),
        |_, to| set_name(to, uts::set_hostname),
    ),
    Item::file("ngroups_max", |_| line(65536)),
    Item::file("osrelease", |_| line(uts::RELEASE)),
    Item::file("ostype", |_| line(uts::SYSNAME)),
    Item::file("overflowgid", |_| line(65534)),
    Item::file("overflowuid", |_| line(65534)),
    Item::file("pid_max", |_| line(tree::PID_MAX)),
    Item::folder("random", RANDOM),
    Item::file("threads-max", |_| line(tree::PID_MAX)),
    Item::file("version", |_| line(uts::VERSION)),
];

static RANDOM: &[Item] = &[
    Item::file("boot_id", |_| line(boot_id())),
    Item::file("entropy_avail", |_| line(256)),
    Item::file("poolsize", |_| line(256)),
    Item::file("uuid", |_| line(uuid(random_bytes()))),
];

static VM: &[Item] = &[
    Item::file("max_map_count", |_| line(65530)),
    Item::file("mmap_min_addr", |_| line(65536)),
    Item::file("overcommit_memory", |_| line(1)),
    Item::file("overcommit_ratio", |_| line(50)),
    Item::file("swappiness", |_| line(0)),
];

const fn writable(
    name: &'static str,
    text: fn(&Scope) -> Result<Vec<u8>>,
    set: fn(&Scope, &[u8]) -> Result<()>,
) -> Item {
    Item {
        name,
        mode: 0o644,
        content: Content::Writable(text, set),
    }
}

fn line(value: impl Display) -> Result<Vec<u8>> {
    Ok(format!("{value}\n").into_bytes())
}

fn name(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = bytes.to_vec();
    text.push(b'\n');
    Ok(text)
}

fn set_name(to: &[u8], set: fn(&[u8])) -> Result<()> {
    let capable = thread::current()
        .is_none_or(|caller| caller.credentials().has(fs::Capabilities::SYS_ADMIN));
    if !capable {
        return Err(Errno::EPERM);
    }
    let end = to.iter().position(|byte| *byte == b'\n' || *byte == 0);
    set(&to[..end.unwrap_or(to.len())]);
    Ok(())
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    fs::random::fill(&mut bytes);
    bytes
}

/// The same from boot to power-off.
fn boot_id() -> String {
    use machine::sync::SpinLock;
    static BOOT_ID: SpinLock<Option<[u8; 16]>> = SpinLock::new(None);
    let fresh = random_bytes();
    uuid(*BOOT_ID.lock().get_or_insert(fresh))
}

/// A random UUID (version 4) of 16 random bytes.
pub(super) fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |range: Range<usize>| {
        bytes[range]
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    format!(
        "{}-{}-{}-{}-{}",
        hex(0..4),
        hex(4..6),
        hex(6..8),
        hex(8..10),
        hex(10..16)
    )
}
