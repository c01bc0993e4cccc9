//! What a container's root directory says of a program before it runs: whether it is there, and whether its
//! interpreter is.
//!
//! execve(2) answers ENOENT for a program that is there but whose interpreter is not, and nobody guesses that. The host
//! looks before it boots anything, the agent when a start has failed. Paths are followed as in a chroot (openat2(2)); where
//! that is not to be told, nothing is said.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Where programs are looked for when the process has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most of a user database that is read, in bytes.
const DATABASE_MOST: u64 = 1 << 20;
/// How many interpreters of interpreters are looked at; Linux follows five.
const INTERPRETERS_MOST: usize = 5;
/// What mounts of the container cover, so that the directory below says nothing.
const COVERED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// A container's root directory.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// Why a program cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrunnable {
    /// It is not there.
    Missing,
    /// It is there; what is to interpret it is not.
    Interpreter {
        /// The file that names it: the program, or an interpreter of it.
        of: String,
        /// What it names.
        interpreter: String,
    },
}

impl fmt::Display for Unrunnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file or directory"),
            Self::Interpreter { of, interpreter } => {
                write!(
                    f,
                    "\"{interpreter}\", the interpreter of {of}, is not there"
                )
            }
        }
    }
}

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: impl rustix::path::Arg) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map(Self)
    }

    /// Why none of `programs` can be run, where that can be told: they are paths to try, in this order, from `cwd`.
    #[must_use]
    pub fn unrunnable(&self, programs: &[String], cwd: &str) -> Option<Unrunnable> {
        for program in programs {
            let path = absolute(program, cwd);
            if is_covered(&path) {
                return None;
            }
            match self.regular_file(&path) {
                Ok(Some(file)) => return self.without_interpreter(path, file, cwd),
                // A directory, or the like: Linux tries the next.
                Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => return None,
            }
        }
        let is_there = |program: &String| self.find(&absolute(program, cwd)).is_ok();
        (!programs.iter().any(is_there)).then_some(Unrunnable::Missing)
    }

    /// Whether something that is not a directory is at `path`.
    #[must_use]
    pub fn is_no_directory(&self, path: &str) -> bool {
        let path = absolute(path, "/");
        let kind = |fd: OwnedFd| Some(FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode));
        !is_covered(&path)
            && match self.find(&path) {
                Ok(fd) => kind(fd).is_some_and(|kind| kind != FileType::Directory),
                Err(errno) => errno == Errno::NOTDIR,
            }
    }

    /// Reads `/etc/NAME`, following no link; a missing file names nobody.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let open = || -> Result<File, Errno> {
            let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let etc = rustix::fs::openat(&self.0, c"etc", directory, Mode::empty())?;
            let file = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            Ok(rustix::fs::openat(etc, name, file, Mode::empty())?.into())
        };
        let mut bytes = Vec::new();
        if let Ok(file) = open() {
            // What could be read counts.
            let _ = file.take(DATABASE_MOST).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first interpreter on the way from a file that is not there.
    fn without_interpreter(&self, path: String, file: File, cwd: &str) -> Option<Unrunnable> {
        let (mut of, mut file) = (path, file);
        for _ in 0..INTERPRETERS_MOST {
            let interpreter = interpreter(&file)?;
            let path = absolute(&interpreter, cwd);
            if is_covered(&path) {
                return None;
            }
            file = match self.regular_file(&path) {
                Ok(Some(next)) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    return Some(Unrunnable::Interpreter { of, interpreter });
                }
                Ok(None) | Err(_) => return None,
            };
            of = path;
        }
        None
    }

    /// Opens a file to read; `None` when it is none.
    fn regular_file(&self, path: &str) -> Result<Option<File>, Errno> {
        let found = self.find(path)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        self.resolve(path, OFlags::RDONLY)
            .map(|file| Some(file.into()))
    }

    fn find(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH)
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }
}

/// The paths to try for a program, as `execvp` would.
#[must_use]
pub fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| format!("{directory}/{program}"))
        .collect()
}

fn absolute(path: &str, cwd: &str) -> String {
    Path::new(cwd).join(path).to_string_lossy().into_owned()
}

fn is_covered(path: &str) -> bool {
    COVERED
        .iter()
        .any(|covered| Path::new(path).starts_with(covered))
}

/// What a program names as its interpreter: in the first line of a script, or in the PT_INTERP of an ELF file of 64 bits.
fn interpreter(file: &File) -> Option<String> {
    let mut head = [0; 256];
    let length = file.read_at(&mut head, 0).ok()?;
    let head = head.get(..length)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8(line.to_vec()).ok()?;
        return line.split_ascii_whitespace().next().map(str::to_owned);
    }
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (at, size) = (number(head, 32, 8)?, number(head, 54, 2)?);
    let count = number(head, 56, 2)?;
    for index in 0..count {
        let mut header = [0; 56];
        file.read_exact_at(&mut header, at.checked_add(index * size)?)
            .ok()?;
        if number(&header, 0, 4)? == 3 {
            let (from, length) = (number(&header, 8, 8)?, number(&header, 32, 8)?);
            // Longer than any path is no path.
            let mut path = vec![
                0;
                usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= 4096)?
            ];
            file.read_exact_at(&mut path, from).ok()?;
            let end = path.iter().position(|byte| *byte == 0)?;
            path.truncate(end);
            return String::from_utf8(path).ok();
        }
    }
    None
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + size)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// An ELF file that names an interpreter and is otherwise nothing.
    fn elf(interpreter: &str) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[32], file[54], file[56]) = (64, 56, 1);
        (file[64], file[64 + 8], file[64 + 32]) =
            (3, 120, u8::try_from(interpreter.len() + 1).unwrap());
        file.extend(interpreter.as_bytes());
        file.push(0);
        file
    }

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        for made in ["bin", "etc", "lib"] {
            std::fs::create_dir(at.join(made)).expect("a directory");
        }
        let root = Root::open(at).expect("a root");
        (directory, root)
    }

    #[test]
    fn programs_and_interpreters_that_are_not_there_are_told() {
        let (directory, root) = root();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).expect("a file");
        };
        write("bin/script", b"#! /bin/bash -e\necho\n");
        write("bin/dynamic", &elf("/lib64/ld.so"));
        write("bin/static", b"\x7fELF\x02\x01");
        write("bin/cut", &elf("/lib64/ld.so")[..70]);
        write("bin/chain", b"#!/bin/dynamic\n");
        write("bin/device", b"#!/dev/fd/3\n");
        symlink("/bin/script", directory.path().join("bin/link")).expect("a link");
        symlink("/lib", directory.path().join("lib64")).expect("a link");
        let why = |program: &str| {
            let env = ["PATH=/sbin:/bin".to_owned()];
            root.unrunnable(&candidates(program, &env), "/etc")
        };
        let lacks = |of: &str, interpreter: &str| {
            let (of, interpreter) = (of.to_owned(), interpreter.to_owned());
            Some(Unrunnable::Interpreter { of, interpreter })
        };
        assert_eq!(why("script"), lacks("/bin/script", "/bin/bash"));
        assert_eq!(why("link"), lacks("/bin/link", "/bin/bash"));
        assert_eq!(
            why("../bin/script"),
            lacks("/etc/../bin/script", "/bin/bash")
        );
        assert_eq!(why("dynamic"), lacks("/bin/dynamic", "/lib64/ld.so"));
        assert_eq!(why("chain"), lacks("/bin/dynamic", "/lib64/ld.so"));
        assert_eq!(why("none"), Some(Unrunnable::Missing));
        // Nothing to tell, or not for us to tell.
        for program in ["static", "cut", "device", "/proc/self/exe", "/bin"] {
            assert_eq!(why(program), None, "{program}");
        }
        write("lib/ld.so", b"");
        assert_eq!(why("chain"), None);
    }

    #[test]
    fn working_directories_are_looked_at_and_links_do_not_lead_out() {
        let (directory, root) = root();
        std::fs::write(directory.path().join("etc/passwd"), "x:y\n").expect("a file");
        symlink("/etc/passwd", directory.path().join("etc/group")).expect("a link");
        assert!(root.is_no_directory("/etc/passwd"));
        assert!(root.is_no_directory("/etc/passwd/below"));
        assert!(!root.is_no_directory("/etc"));
        assert!(!root.is_no_directory("/not/there"));
        assert_eq!(root.database("passwd"), "x:y\n");
        assert_eq!(root.database("group"), "");
    }
}
