//! Formats, against what Linux prints.

use alloc::string::String;
use alloc::vec::Vec;

use fs::{Credentials, MountFlags};
use machine::UserAddr;
use memory::{AreaFlags, AreaInfo, Prot};

use super::{limits, maps, mounts, status, sysctl, system};
use crate::rlimit::Limits;

#[test]
fn maps_lines_put_the_name_in_its_column() {
    let area = AreaInfo {
        range: UserAddr(0x7ffd_0000_0000)..UserAddr(0x7ffd_0002_1000),
        prot: Prot::READ | Prot::WRITE,
        flags: AreaFlags::STACK,
        offset: 0,
        origin: None,
    };
    let mut text = Vec::new();
    maps::push_line(&mut text, &area).unwrap();
    let line = core::str::from_utf8(&text).unwrap();
    assert!(
        line.starts_with("7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 "),
        "{line}"
    );
    assert_eq!(line.find("[stack]"), Some(73));
    assert!(line.ends_with("]\n"));
}

#[test]
fn mount_options_and_names() {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::RELATIME;
    assert_eq!(mounts::format_flags(flags, true), "ro,nosuid,relatime");
    assert_eq!(mounts::format_flags(MountFlags::empty(), true), "rw");
    let mut text = Vec::new();
    mounts::push_escaped(&mut text, b"a b\\c\td");
    assert_eq!(text, b"a\\040b\\134c\\011d");
}

#[test]
fn limits_are_a_table() {
    let text = limits::format_limits(&Limits::default());
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap().trim_end(),
        "Limit                     Soft Limit           Hard Limit           Units"
    );
    assert_eq!(
        lines.next().unwrap().trim_end(),
        "Max cpu time              unlimited            unlimited            seconds"
    );
    assert!(
        text.contains("Max open files            1024                 4096                 files")
    );
    assert_eq!(text.lines().count(), 17);
}

#[test]
fn cpu_lists_are_ranges() {
    let list = |mask, count| {
        let mut text = String::new();
        status::write_list(mask, count, &mut text).unwrap();
        text
    };
    assert_eq!(list(0b1, 1), "0\n");
    assert_eq!(list(u64::MAX, 4), "0-3\n");
    assert_eq!(list(0b10_0111, 8), "0-2,5\n");
}

#[test]
fn capabilities_are_sixteen_digits() {
    let mut text = String::new();
    status::write_capabilities(&Credentials::root(), &mut text).unwrap();
    assert!(text.contains("CapEff:\t000001ffffffffff\n"));
    assert!(text.starts_with("CapInh:\t0000000000000000\n"));
}

#[test]
fn times_have_two_digits_behind_the_point() {
    assert_eq!(system::hundredths(1_239_999_999), "1.23");
    assert_eq!(system::hundredths(50_000_000), "0.05");
}

#[test]
fn uuids_say_that_they_are_random() {
    let text = sysctl::uuid([0xff; 16]);
    assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

#[test]
fn meminfo_is_aligned_as_readers_expect() {
    let text = String::from_utf8(system::meminfo()).unwrap();
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("MemTotal:       ") && first.ends_with(" kB"),
        "{first}"
    );
}
