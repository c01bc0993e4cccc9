//! The tree as programs walk it.

use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use memory::io::IoWriter;

use super::SysFs;
use super::tree::{Body, Node, ROOT};
use crate::file_ops::{DirSink, Io};
use crate::file_system::FileSystem as _;
use crate::flags::OpenFlags;
use crate::inode::Inode;
use crate::metadata::FileKind;

fn numbers(node: &Node, all: &mut Vec<u64>) {
    all.push(node.ino);
    if let Body::Directory(entries) = node.body {
        for entry in entries {
            numbers(entry, all);
        }
    }
}

#[test]
fn every_node_has_a_number_of_its_own() {
    let mut all = Vec::new();
    numbers(&ROOT, &mut all);
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn the_cpus_are_listed() {
    let root: Arc<dyn Inode> = SysFs.root().unwrap();
    let mut at = root;
    for name in ["devices", "system", "cpu", "online"] {
        at = at.lookup(name.as_bytes()).unwrap();
    }
    let file = at.open(OpenFlags::empty()).unwrap();
    let mut bytes = [0; 16];
    let count = file
        .read(&mut IoWriter::kernel(&mut bytes), &Io::default())
        .unwrap();
    assert!(bytes[..count].starts_with(b"0") && bytes[..count].ends_with(b"\n"));
}

struct Names(Vec<String>);

impl DirSink for Names {
    fn add(&mut self, name: &[u8], _: u64, _: FileKind, _: u64) -> bool {
        self.0.push(String::from_utf8_lossy(name).into_owned());
        true
    }
}

#[test]
fn each_cpu_has_a_directory() {
    let mut at: Arc<dyn Inode> = SysFs.root().unwrap();
    for name in ["devices", "system", "cpu"] {
        at = at.lookup(name.as_bytes()).unwrap();
    }
    let mut names = Names(Vec::new());
    let open = at.clone().open(OpenFlags::DIRECTORY).unwrap();
    let end = open.read_dir(0, &mut names).unwrap();
    assert_eq!(open.read_dir(end, &mut names), Ok(end));
    let cpus = machine::cpu::count();
    assert_eq!(names.0.len(), 2 + cpus + 4, "{:?}", names.0);
    for cpu in 0..cpus {
        assert!(names.0.contains(&format!("cpu{cpu}")));
    }
    assert!(at.lookup(format!("cpu{cpus}").as_bytes()).is_err());
    let file = at.lookup(b"cpu0").unwrap().lookup(b"topology").unwrap();
    let file = file.lookup(b"thread_siblings").unwrap();
    let mut bytes = [0; 64];
    let count = file
        .open(OpenFlags::empty())
        .unwrap()
        .read(&mut IoWriter::kernel(&mut bytes), &Io::default())
        .unwrap();
    let text = String::from_utf8_lossy(&bytes[..count]).replace(',', "");
    assert_eq!(u128::from_str_radix(text.trim(), 16), Ok(1));
}
