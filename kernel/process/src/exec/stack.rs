//! The stack that a new program finds: argc, argv, envp, the auxiliary vector, and the strings they
//! point to (System V ABI, "Initial Stack and Register State").

use abi::{Errno, Result};
use collections::Vec;
use zerocopy::IntoBytes;

use super::strings::Strings;

/// Types of auxiliary vector entries.
#[allow(missing_docs, reason = "getauxval(3) documents each name")]
pub mod aux {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const EXECFN: u64 = 31;
    pub const MINSIGSTKSZ: u64 = 51;
}

/// What goes onto the stack.
#[derive(Debug)]
pub struct Contents<'a> {
    /// argv.
    pub args: &'a Strings,
    /// envp.
    pub env: &'a Strings,
    /// AT_EXECFN: the path that was executed.
    pub path: &'a [u8],
    /// AT_RANDOM.
    pub random: [u8; 16],
    /// The other entries, without those that point into the stack and without AT_NULL.
    pub aux: &'a [(u64, u64)],
}

/// The bytes for the top of the stack.
#[derive(Debug, PartialEq, Eq)]
pub struct Built {
    /// To be written so that it ends at the top.
    pub bytes: Vec<u8>,
    /// The stack pointer: where `bytes` begins; 16-aligned, argc there.
    pub sp: u64,
    /// Where the argument strings are.
    pub args: (u64, u64),
    /// Where the environment strings are.
    pub env: (u64, u64),
    /// The auxiliary vector.
    pub auxv: Vec<u8>,
}

/// Lays out `contents` below `top` (16-aligned).
///
/// # Errors
/// `ENOMEM`; `E2BIG` when it does not fit below `top`.
pub fn build(top: u64, contents: &Contents<'_>) -> Result<Built> {
    const PLATFORM: &[u8] = b"x86_64\0";
    let Contents {
        args, env, path, ..
    } = contents;
    // Upwards: random bytes, platform, arguments, environment, path, eight bytes of nothing.
    let strings_len =
        16 + PLATFORM.len() + args.bytes().len() + env.bytes().len() + path.len() + 1 + 8;
    let random_at = top.checked_sub(strings_len as u64).ok_or(Errno::E2BIG)?;
    let platform_at = random_at + 16;
    let args_at = platform_at + PLATFORM.len() as u64;
    let env_at = args_at + args.bytes().len() as u64;
    let path_at = env_at + env.bytes().len() as u64;

    let mut auxv = Vec::new();
    let pointing = [
        (aux::RANDOM, random_at),
        (aux::PLATFORM, platform_at),
        (aux::EXECFN, path_at),
    ];
    let entries = contents
        .aux
        .iter()
        .chain(&pointing)
        .chain(&[(aux::NULL, 0)]);
    auxv.try_reserve((contents.aux.len() + 4) * 16)?;
    for (kind, value) in entries {
        auxv.try_extend_from_slice(kind.as_bytes())?;
        auxv.try_extend_from_slice(value.as_bytes())?;
    }
    let words_len = (1 + args.count() + 1 + env.count() + 1) * 8 + auxv.len();
    let sp = random_at
        .checked_sub(words_len as u64)
        .ok_or(Errno::E2BIG)?
        & !15;

    let mut bytes = Vec::new();
    let total = usize::try_from(top - sp).map_err(|_| Errno::E2BIG)?;
    bytes.try_reserve_exact(total)?;
    bytes.try_extend_from_slice((args.count() as u64).as_bytes())?;
    push_pointers(&mut bytes, args, args_at)?;
    push_pointers(&mut bytes, env, env_at)?;
    bytes.try_extend_from_slice(&auxv)?;
    bytes.try_resize(total - strings_len, 0)?;
    bytes.try_extend_from_slice(&contents.random)?;
    for part in [PLATFORM, args.bytes(), env.bytes(), path] {
        bytes.try_extend_from_slice(part)?;
    }
    bytes.try_resize(total, 0)?;
    Ok(Built {
        bytes,
        sp,
        args: (args_at, env_at),
        env: (env_at, path_at),
        auxv,
    })
}

fn push_pointers(bytes: &mut Vec<u8>, strings: &Strings, mut at: u64) -> Result<()> {
    for string in strings.iter() {
        bytes.try_extend_from_slice(at.as_bytes())?;
        at += string.len() as u64 + 1;
        sched::cond_resched();
    }
    bytes.try_extend_from_slice(0u64.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const TOP: u64 = 0x7fff_0000_0000;

    fn built(args: &[&str], env: &[&str]) -> Built {
        let contents = Contents {
            args: &Strings::from_list(args).unwrap(),
            env: &Strings::from_list(env).unwrap(),
            path: b"/bin/program",
            random: [7; 16],
            aux: &[(aux::PAGESZ, 4096)],
        };
        build(TOP, &contents).unwrap()
    }

    fn word(stack: &Built, at: u64) -> u64 {
        let offset = usize::try_from(at - stack.sp).unwrap();
        u64::from_ne_bytes(stack.bytes[offset..offset + 8].try_into().unwrap())
    }

    fn string(stack: &Built, at: u64) -> &[u8] {
        let offset = usize::try_from(at - stack.sp).unwrap();
        stack.bytes[offset..]
            .split(|byte| *byte == 0)
            .next()
            .unwrap()
    }

    #[test]
    fn a_program_finds_its_arguments_and_environment() {
        let stack = built(&["prog", "", "two"], &["A=1", "B=2"]);
        assert_eq!(stack.sp % 16, 0);
        assert_eq!(stack.sp + stack.bytes.len() as u64, TOP);
        assert_eq!(word(&stack, stack.sp), 3);
        let strings: Vec<&[u8]> = [8, 16, 24, 40, 48]
            .map(|at| string(&stack, word(&stack, stack.sp + at)))
            .to_vec();
        assert_eq!(strings, [&b"prog"[..], b"", b"two", b"A=1", b"B=2"]);
        assert_eq!(word(&stack, stack.sp + 32), 0);
        assert_eq!(word(&stack, stack.sp + 56), 0);
    }

    #[test]
    fn the_auxiliary_vector_ends_with_null_and_points_to_its_strings() {
        let stack = built(&["prog"], &[]);
        let mut at = stack.sp + 8 * 4;
        let mut found = Vec::new();
        loop {
            let (kind, value) = (word(&stack, at), word(&stack, at + 8));
            match kind {
                aux::NULL => break,
                aux::EXECFN => assert_eq!(string(&stack, value), b"/bin/program"),
                aux::PLATFORM => assert_eq!(string(&stack, value), b"x86_64"),
                aux::RANDOM => assert_eq!(string(&stack, value)[..16], [7; 16]),
                _ => {}
            }
            found.push(kind);
            at += 16;
        }
        assert_eq!(
            found,
            [aux::PAGESZ, aux::RANDOM, aux::PLATFORM, aux::EXECFN]
        );
    }

    #[test]
    fn every_count_keeps_the_alignment() {
        for count in 0..9 {
            let stack = built(&vec!["x"; count], &["Y=1"]);
            assert_eq!(stack.sp % 16, 0);
            assert_eq!(word(&stack, stack.sp), count as u64);
        }
    }

    #[test]
    fn no_room_is_too_big() {
        let contents = Contents {
            args: &Strings::from_list(["x"]).unwrap(),
            env: &Strings::new(),
            path: b"x",
            random: [0; 16],
            aux: &[],
        };
        assert_eq!(build(32, &contents), Err(Errno::E2BIG));
    }
}
