//! Stripping the kernel: an ELF file that is only loaded needs no sections. The linker puts
//! everything that is loaded first, so what is left is a prefix of the file.

use anyhow::{Context, bail};

const MAGIC: [u8; 4] = *b"\x7fELF";
const HEADER_LEN: usize = 64;
/// Offsets in the ELF64 header: program headers' offset, sections' offset, program header size
/// and count, section header count and the index of the section names.
const E_PHOFF: usize = 32;
const E_SHOFF: usize = 40;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;
const E_SHNUM: usize = 60;
const E_SHSTRNDX: usize = 62;
/// Offsets in a program header: the segment's place in the file and its length there.
const P_OFFSET: usize = 8;
const P_FILESZ: usize = 32;

/// The part of the 64-bit little-endian ELF `file` that its program headers name.
pub(crate) fn strip(file: &[u8]) -> anyhow::Result<Vec<u8>> {
    if file.get(..4) != Some(&MAGIC) || file.len() < HEADER_LEN {
        bail!("the linker did not write an ELF file");
    }
    let table = read_u64(file, E_PHOFF)?;
    let entry_len = usize::from(read_u16(file, E_PHENTSIZE)?);
    let count = usize::from(read_u16(file, E_PHNUM)?);
    let mut end = table + entry_len * count;
    for index in 0..count {
        let header = table + entry_len * index;
        end = end.max(read_u64(file, header + P_OFFSET)? + read_u64(file, header + P_FILESZ)?);
    }
    let mut stripped = file
        .get(..end)
        .context("a segment lies beyond the file")?
        .to_vec();
    stripped[E_SHOFF..E_SHOFF + 8].fill(0);
    stripped[E_SHNUM..E_SHNUM + 2].fill(0);
    stripped[E_SHSTRNDX..E_SHSTRNDX + 2].fill(0);
    Ok(stripped)
}

fn read_u16(file: &[u8], at: usize) -> anyhow::Result<u16> {
    let bytes = file.get(at..at + 2).context("the ELF file is cut short")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

fn read_u64(file: &[u8], at: usize) -> anyhow::Result<usize> {
    let bytes = file.get(at..at + 8).context("the ELF file is cut short")?;
    Ok(usize::try_from(u64::from_le_bytes(bytes.try_into()?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_program_headers_name() {
        let mut file = vec![0u8; 1000];
        file[..4].copy_from_slice(&MAGIC);
        file[E_PHOFF] = 64;
        file[E_SHOFF] = 200;
        file[E_PHENTSIZE] = 56;
        file[E_PHNUM] = 1;
        file[E_SHNUM] = 5;
        file[64 + P_OFFSET] = 128;
        file[64 + P_FILESZ] = 100;
        let stripped = strip(&file).expect("good file");
        assert_eq!(stripped.len(), 228);
        assert_eq!((stripped[E_SHOFF], stripped[E_SHNUM]), (0, 0));
    }

    #[test]
    fn refuses_broken_files() {
        assert!(strip(b"").is_err());
        assert!(strip(&[0; 64]).is_err());
        let mut file = vec![0u8; 128];
        file[..4].copy_from_slice(&MAGIC);
        file[E_PHOFF] = 64;
        file[E_PHENTSIZE] = 56;
        file[E_PHNUM] = 2;
        assert!(strip(&file).is_err());
    }
}
