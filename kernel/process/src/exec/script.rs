//! `#!` scripts: which interpreter, with which argument (execve(2), "Interpreter scripts").

use abi::{Errno, Result};

/// Bytes of a file that are looked at for `#!` (`BINPRM_BUF_SIZE`).
pub const HEAD_SIZE: usize = 256;

/// The first line of a script.
#[derive(Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// The interpreter's path.
    pub interpreter: &'a [u8],
    /// What follows it, as one argument.
    pub argument: Option<&'a [u8]>,
}

impl<'a> Script<'a> {
    /// Reads the first line of a file that begins with `head`; `None` when it is no script.
    ///
    /// # Errors
    /// `ENOEXEC` when there is no interpreter, or its path is cut off.
    pub fn parse(head: &'a [u8]) -> Result<Option<Script<'a>>> {
        let Some(rest) = head.strip_prefix(b"#!") else {
            return Ok(None);
        };
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        let line = trim(line);
        let name_end = line.iter().position(|byte| is_blank(*byte));
        let cut_off = end.is_none() && head.len() >= HEAD_SIZE && name_end.is_none();
        let (interpreter, rest) = line.split_at(name_end.unwrap_or(line.len()));
        if interpreter.is_empty() || cut_off {
            return Err(Errno::ENOEXEC);
        }
        let argument = trim(rest);
        Ok(Some(Script {
            interpreter,
            argument: (!argument.is_empty()).then_some(argument),
        }))
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t' || byte == 0
}

fn trim(mut line: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = line
        && is_blank(*first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && is_blank(*last)
    {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &[u8]) -> (&[u8], Option<&[u8]>) {
        let script = Script::parse(head).unwrap().unwrap();
        (script.interpreter, script.argument)
    }

    #[test]
    fn everything_behind_the_interpreter_is_one_argument() {
        assert_eq!(parse(b"#!/bin/sh\necho"), (&b"/bin/sh"[..], None));
        assert_eq!(
            parse(b"#! \t/usr/bin/env  python3 -u  \nx"),
            (&b"/usr/bin/env"[..], Some(&b"python3 -u"[..]))
        );
        assert_eq!(parse(b"#!/bin/sh"), (&b"/bin/sh"[..], None));
    }

    #[test]
    fn what_is_no_script_is_left_alone() {
        assert_eq!(Script::parse(b"\x7fELF"), Ok(None));
        assert_eq!(Script::parse(b"#"), Ok(None));
        assert_eq!(Script::parse(b"#!\n/bin/sh"), Err(Errno::ENOEXEC));
        assert_eq!(Script::parse(b"#!   \n"), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_cut_off_path_is_refused_and_a_cut_off_argument_is_not() {
        let mut long = b"#!/".to_vec();
        long.resize(HEAD_SIZE, b'x');
        assert_eq!(Script::parse(&long), Err(Errno::ENOEXEC));
        long[20] = b' ';
        assert!(Script::parse(&long).unwrap().is_some());
    }
}
