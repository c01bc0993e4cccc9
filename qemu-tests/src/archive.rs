//! The file tree of the test guest, once as files for the host's sandbox and once as an archive
//! to boot: init, the programs, busybox for scripts, a C library for dynamic programs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use initramfs::build::{Builder, Image};
use initramfs::{Archive, Kind};

use crate::programs::{self, Program};

/// The folders that init mounts something on, and one that stays empty.
const FOLDERS: [&str; 5] = ["dev", "proc", "tmp", "empty", "root"];
const BUSYBOX: &str = "/bin/busybox";
/// Where the dynamic linker and the C library are expected, in the guest and on a Debian host.
const DYNAMIC: [(&str, &str); 2] = [
    ("lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
    (
        "lib/x86_64-linux-gnu/libc.so.6",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ),
];

/// One thing in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A directory.
    Directory,
    /// A file with these contents, executable or not.
    File(Vec<u8>, bool),
    /// A symbolic link.
    Symlink(String),
}

/// The tree: paths without a leading slash, parents first.
pub type Tree = Vec<(String, Item)>;

/// The test guest's tree, with `init` as `/init`.
///
/// # Errors
/// When a file of the host that belongs in it cannot be read.
pub fn tree(init: &Path, programs: &[Program]) -> anyhow::Result<Tree> {
    let mut tree: Tree = Vec::new();
    for folder in FOLDERS.iter().chain(&["bin", "etc", "tests"]) {
        tree.push(((*folder).to_owned(), Item::Directory));
    }
    tree.push(("init".to_owned(), executable(init)?));
    let names: String = programs
        .iter()
        .map(|program| format!("{}\n", program.name))
        .collect();
    tree.push((
        "tests.list".to_owned(),
        Item::File(names.into_bytes(), false),
    ));
    let passwd = b"root:x:0:0:root:/root:/bin/sh\n".to_vec();
    tree.push(("etc/passwd".to_owned(), Item::File(passwd, false)));
    let data = (0..20_000u32)
        .map(|at| (at % 251).to_le_bytes()[0])
        .collect();
    tree.push(("etc/data".to_owned(), Item::File(data, false)));
    tree.push(("etc/link".to_owned(), Item::Symlink("data".to_owned())));
    for program in programs {
        tree.push((
            format!("tests/{}", program.name),
            executable(&program.file)?,
        ));
    }
    if Path::new(BUSYBOX).is_file() {
        tree.push(("bin/busybox".to_owned(), executable(Path::new(BUSYBOX))?));
        tree.push(("bin/sh".to_owned(), Item::Symlink("busybox".to_owned())));
    }
    if programs.iter().any(|program| program.is_dynamic) {
        for folder in ["lib64", "lib", "lib/x86_64-linux-gnu"] {
            tree.push((folder.to_owned(), Item::Directory));
        }
        for (path, source) in DYNAMIC {
            tree.push((path.to_owned(), executable(Path::new(source))?));
        }
    }
    Ok(tree)
}

/// Compiles the test guest's init.
///
/// # Errors
/// When gcc refuses it.
pub fn init(out: &Path) -> anyhow::Result<PathBuf> {
    let source = programs::source_dir().join("guest/init.c");
    Ok(programs::compile(&source, &out.join("init"))?.file)
}

/// Writes the tree as files below `root`, which is made anew.
///
/// # Errors
/// When the file system refuses.
pub fn write_files(tree: &Tree, root: &Path) -> anyhow::Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    fs::create_dir_all(root)?;
    for (path, item) in tree {
        let path = root.join(path);
        match item {
            Item::Directory => fs::create_dir(&path)?,
            Item::Symlink(target) => symlink(target, &path)?,
            Item::File(data, is_executable) => {
                fs::write(&path, data)?;
                let mode = if *is_executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

/// Writes the tree as what the kernel boots from: our archive, or for Linux a cpio archive.
///
/// # Errors
/// When the tree does not fit the format or the file cannot be written.
pub fn write(tree: &Tree, file: &Path, is_linux: bool) -> anyhow::Result<()> {
    if is_linux {
        write_cpio(tree, file)
    } else {
        write_archive(tree, file)
    }
}

/// Writes the tree as an archive for our kernel.
///
/// # Errors
/// When the tree does not fit the format or the file cannot be written.
pub fn write_archive(tree: &Tree, file: &Path) -> anyhow::Result<()> {
    let mut builder = Builder::new();
    for (path, item) in tree {
        match item {
            Item::Directory => builder.directory(path, 0o755)?,
            Item::Symlink(target) => builder.symlink(path, target)?,
            Item::File(data, is_executable) => builder.file(
                path,
                if *is_executable { 0o755 } else { 0o644 },
                data.clone(),
            )?,
        };
    }
    fs::write(file, &*builder.build()?).with_context(|| format!("cannot write {}", file.display()))
}

/// Reads the tree of one of our archives.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read_archive(file: &Path) -> anyhow::Result<Tree> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut image = Image::new();
    image.extend_from_slice(&bytes);
    let archive = Archive::new(&image)?;
    let mut tree = Tree::new();
    for entry in archive.entries().skip(1) {
        let item = match entry.kind() {
            Kind::Directory => Item::Directory,
            Kind::Symlink => Item::Symlink(entry.target().to_owned()),
            Kind::File => Item::File(entry.data().to_vec(), entry.mode() & 0o111 != 0),
        };
        let mut path = entry.name().to_owned();
        let mut parent = entry.parent();
        while parent.index() != 0 {
            path = format!("{}/{path}", parent.name());
            parent = parent.parent();
        }
        tree.push((path, item));
    }
    Ok(tree)
}

/// Writes the tree as a `newc` cpio archive, which Linux takes on the same machines, and our kernel, too.
///
/// # Errors
/// When the file cannot be written.
pub fn write_cpio(tree: &Tree, file: &Path) -> anyhow::Result<()> {
    let mut out = Vec::new();
    let mut add = |path: &str, mode: u32, data: &[u8]| {
        let size = data.len();
        let name_size = path.len() + 1;
        let header = format!(
            "070701{0:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}\
             {0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(path.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (path, item) in tree {
        match item {
            Item::Directory => add(path, 0o040_755, &[]),
            Item::Symlink(target) => add(path, 0o120_777, target.as_bytes()),
            Item::File(data, true) => add(path, 0o100_755, data),
            Item::File(data, false) => add(path, 0o100_644, data),
        }
    }
    add("TRAILER!!!", 0, &[]);
    fs::write(file, out).with_context(|| format!("cannot write {}", file.display()))
}

fn executable(file: &Path) -> anyhow::Result<Item> {
    let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Item::File(data, true))
}
