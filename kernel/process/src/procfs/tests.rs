//! Formats, against what Linux prints.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use abi::Errno;
use fs::{Credentials, MountFlags, OpenFlags};
use machine::UserAddr;
use memory::{AreaFlags, AreaInfo, Prot};

use super::text::Text;
use super::{limits, maps, mounts, root, status, sysctl, system};
use crate::rlimit::Limits;
use crate::waiting::{self, Options, Which};
use crate::{exit, tests};

fn string(text: Text) -> String {
    String::from_utf8(text.into_bytes().unwrap().into_std()).unwrap()
}

#[test]
fn maps_lines_put_the_name_in_its_column() {
    let area = AreaInfo {
        range: UserAddr(0x7ffd_0000_0000)..UserAddr(0x7ffd_0002_1000),
        prot: Prot::READ | Prot::WRITE,
        is_copied: false,
        flags: AreaFlags::STACK,
        offset: 0,
        origin: None,
    };
    let mut text = Text::new();
    maps::write_line(&mut text, &area).unwrap();
    let line = string(text);
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
    let mut text = Text::new();
    mounts::write_flags(flags, true, &mut text).unwrap();
    assert_eq!(string(text), "ro,nosuid,relatime");
    let mut text = Text::new();
    mounts::write_flags(MountFlags::empty(), true, &mut text).unwrap();
    assert_eq!(string(text), "rw");
    let mut text = Text::new();
    mounts::push_escaped(&mut text, b"a b\\c\td").unwrap();
    assert_eq!(string(text), "a\\040b\\134c\\011d");
}

#[test]
fn limits_are_a_table() {
    let mut text = Text::new();
    limits::write_limits(&Limits::default(), &mut text).unwrap();
    let text = string(text);
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
    assert_eq!(system::Hundredths(1_239_999_999).to_string(), "1.23");
    assert_eq!(system::Hundredths(50_000_000).to_string(), "0.05");
}

#[test]
fn uuids_say_that_they_are_random() {
    let text = sysctl::Uuid([0xff; 16]).to_string();
    assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

#[test]
fn meminfo_is_aligned_as_readers_expect() {
    let mut text = Text::new();
    system::meminfo(&mut text).unwrap();
    let text = string(text);
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("MemTotal:       ") && first.ends_with(" kB"),
        "{first}"
    );
}

#[test]
fn what_is_known_of_the_dead_keeps_nothing_of_them() {
    let parent = tests::process(None);
    let child = tests::process(Some(parent.process()));
    let pid = child.process().pid().clone();
    let root = root::inode(Default::default()).unwrap();
    let folder = root.lookup(pid.number().to_string().as_bytes()).unwrap();
    let stat = folder.lookup(b"stat").unwrap();
    let opened = folder.clone().open(OpenFlags::default()).unwrap();
    let ino = folder.metadata().unwrap().ino;
    exit::exit_thread(&child, 0);
    exit::finish(&child, None);
    assert!(folder.lookup(b"status").is_ok(), "it is a zombie");
    let process = Arc::downgrade(child.process());
    drop(child);
    let options = Options::NOHANG | Options::EXITED;
    assert!(
        waiting::wait(&parent, &Which::Pid(pid), options)
            .unwrap()
            .is_some()
    );
    assert!(process.upgrade().is_none());
    assert_eq!(folder.lookup(b"stat").err(), Some(Errno::ESRCH));
    assert!(!folder.is_current(b"stat", Some(&stat)));
    assert_eq!(folder.metadata().map(|it| it.ino), Ok(ino));
    drop(opened);
}
