//! Where a core dump goes: `core_pattern` of core(5).

use core::fmt::Write;

use abi::{Errno, Result};
use collections::Vec;
use machine::sync::SpinLock;

/// Bytes of a pattern, with the NUL that Linux counts.
const MOST: usize = 128;

/// The pattern, and whether the process's id is added to a name that does not have it (`core_uses_pid`).
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pattern: [u8; MOST],
    len: usize,
    /// `core_uses_pid`.
    pub uses_pid: bool,
}

static SETTING: SpinLock<Setting> = SpinLock::new(Setting {
    pattern: {
        let mut pattern = [0; MOST];
        (pattern[0], pattern[1], pattern[2], pattern[3]) = (b'c', b'o', b'r', b'e');
        pattern
    },
    len: 4,
    uses_pid: false,
});

impl Setting {
    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &[u8] {
        &self.pattern[..self.len]
    }
}

/// The setting as it is now.
#[must_use]
pub fn setting() -> Setting {
    *SETTING.lock()
}

/// Sets the pattern; what is too long is cut off, as on Linux.
///
/// # Errors
/// `EOPNOTSUPP` for a pipe to a program: the kernel starts none by itself.
pub fn set_pattern(new: &[u8]) -> Result<()> {
    if new.first() == Some(&b'|') {
        return Err(Errno::EOPNOTSUPP);
    }
    let len = new.len().min(MOST - 1);
    let mut setting = SETTING.lock();
    setting.pattern[..len].copy_from_slice(&new[..len]);
    setting.len = len;
    Ok(())
}

/// Sets `core_uses_pid`.
pub fn set_uses_pid(uses_pid: bool) {
    SETTING.lock().uses_pid = uses_pid;
}

/// What stands for a specifier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) pid: i32,
    pub(super) global_pid: i32,
    pub(super) tid: i32,
    pub(super) global_tid: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) dumpable: u32,
    pub(super) signal: u8,
    pub(super) seconds: u64,
    pub(super) limit: u64,
    pub(super) cpu: usize,
    pub(super) host: &'a [u8],
    pub(super) command: &'a [u8],
    /// The program's path.
    pub(super) path: &'a [u8],
}

/// The name that `setting` makes of `values`. An unknown specifier is left out, and so is a percent sign at the end.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn expand(setting: &Setting, values: &Values<'_>) -> Result<Vec<u8>> {
    let mut name = Name(Vec::new());
    let mut has_pid = false;
    let mut pattern = setting.pattern().iter();
    while let Some(byte) = pattern.next() {
        if *byte != b'%' {
            name.0.try_push(*byte)?;
            continue;
        }
        match pattern.next() {
            Some(b'%') => name.0.try_push(b'%')?,
            Some(specifier) => {
                has_pid |= *specifier == b'p';
                name.add(*specifier, values)?;
            }
            None => break,
        }
    }
    if setting.uses_pid && !has_pid {
        write!(name, ".{}", values.pid)?;
    }
    Ok(name.0)
}

/// A name that grows.
struct Name(Vec<u8>);

impl Write for Name {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let added = self.0.try_extend_from_slice(text.as_bytes());
        added.map_err(|_| core::fmt::Error)
    }
}

impl Name {
    fn add(&mut self, specifier: u8, values: &Values<'_>) -> Result<()> {
        let file = values.path.rsplit(|byte| *byte == b'/').next();
        match specifier {
            b'p' => write!(self, "{}", values.pid)?,
            b'P' => write!(self, "{}", values.global_pid)?,
            b'i' => write!(self, "{}", values.tid)?,
            b'I' => write!(self, "{}", values.global_tid)?,
            b'u' => write!(self, "{}", values.uid)?,
            b'g' => write!(self, "{}", values.gid)?,
            b'd' => write!(self, "{}", values.dumpable)?,
            b's' => write!(self, "{}", values.signal)?,
            b't' => write!(self, "{}", values.seconds)?,
            b'c' => write!(self, "{}", values.limit)?,
            b'C' => write!(self, "{}", values.cpu)?,
            b'h' => self.add_text(values.host)?,
            b'e' => self.add_text(values.command)?,
            b'f' => self.add_text(file.unwrap_or_default())?,
            b'E' => self.add_text(values.path)?,
            _ => {}
        }
        Ok(())
    }

    /// Text that a program has chosen: it makes no directories, and no way up.
    fn add_text(&mut self, text: &[u8]) -> Result<()> {
        let start = self.0.len();
        for byte in text {
            self.0.try_push(if *byte == b'/' { b'!' } else { *byte })?;
        }
        let is_way_up = matches!(text, b"." | b"..");
        if is_way_up && let Some(first) = self.0.get_mut(start) {
            *first = b'!';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &[u8], uses_pid: bool) -> Vec<u8> {
        let mut setting = setting();
        setting.pattern[..pattern.len()].copy_from_slice(pattern);
        setting.len = pattern.len();
        setting.uses_pid = uses_pid;
        let values = Values {
            pid: 7,
            global_pid: 70,
            tid: 8,
            global_tid: 80,
            uid: 1000,
            gid: 100,
            dumpable: 1,
            signal: 11,
            seconds: 5,
            limit: u64::MAX,
            cpu: 3,
            host: b"host",
            command: b"a/b",
            path: b"/usr/bin/x",
        };
        expand(&setting, &values).unwrap()
    }

    #[test]
    fn specifiers_stand_for_what_core_5_says() {
        assert_eq!(&*name(b"core", false), b"core");
        assert_eq!(&*name(b"core", true), b"core.7");
        assert_eq!(&*name(b"c.%p.%s%%", true), b"c.7.11%");
        assert_eq!(
            &*name(b"/d/%P-%i-%I-%u-%g-%d-%t-%h-%C", false),
            b"/d/70-8-80-1000-100-1-5-host-3"
        );
        assert_eq!(&*name(b"%q%", false), b"");
    }

    #[test]
    fn programs_choose_no_directories() {
        assert_eq!(&*name(b"%e %f %E", false), b"a!b x !usr!bin!x");
    }

    #[test]
    fn a_pipe_is_refused_and_a_long_pattern_cut() {
        assert_eq!(set_pattern(b"|/bin/x"), Err(Errno::EOPNOTSUPP));
    }
}
