//! Debian's kernel for clouds, to compare ours with: the package is downloaded and unpacked below
//! the target folder, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::workspace::Workspace;
use crate::{packages, shell};

/// The package that depends on the current kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The kernel's file, downloaded when it is not there.
pub(crate) fn debian(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace.target.join("linux");
    let kernel = folder.join("vmlinux");
    if kernel.is_file() {
        return Ok(kernel);
    }
    shell::step("Downloading Debian's kernel");
    let package = packages::dependency(META_PACKAGE, "linux-image-")?;
    let new = folder.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    packages::download(&package, &new)?;
    let archive = file_of(&new, |name| name.ends_with(".deb"))
        .with_context(|| format!("apt-get downloaded no {package}"))?;
    shell::run(Command::new("dpkg-deb").arg("-x").args([&archive, &new]))?;
    let compressed = file_of(&new.join("boot"), |name| name.starts_with("vmlinuz-"))
        .with_context(|| format!("{package} has no kernel in /boot"))?;
    let elf = unpack(&fs::read(compressed)?)
        .with_context(|| format!("the kernel of {package} is not an ELF file compressed by LZ4"))?;
    fs::write(new.join("vmlinux"), elf)?;
    // The rest is modules that nothing loads.
    for name in ["lib", "usr", "boot"] {
        fs::remove_dir_all(new.join(name))?;
    }
    fs::remove_file(&archive)?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&new, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(kernel)
}

/// The ELF file inside a bzImage (Documentation/arch/x86/boot.rst): LZ4's legacy format, blocks
/// with their length before them, and the length of the whole at the end.
fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    const LEGACY_MAGIC: [u8; 4] = 0x184c_2102u32.to_le_bytes();
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..)?.first_chunk().copied()?));
    // Fields of the setup header: sectors before the protected-mode code, and in that the payload.
    let sectors = usize::from(*image.get(0x1f1)?) + 1;
    let start = sectors * 512 + usize::try_from(word(0x248)?).ok()?;
    let len = usize::try_from(word(0x24c)?).ok()?;
    let payload = image.get(start..)?.get(..len)?;
    let (payload, size) = payload.split_last_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
    let mut blocks = payload.strip_prefix(&LEGACY_MAGIC)?;
    let mut elf = Vec::with_capacity(size);
    while elf.len() < size {
        let (len, rest) = blocks.split_first_chunk::<4>()?;
        let (block, rest) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        unpack_block(block, &mut elf)?;
        blocks = rest;
    }
    (elf.len() == size && elf.starts_with(b"\x7fELF")).then_some(elf)
}

/// Appends what one LZ4 block holds: sequences of a token, literals, and a match further back.
fn unpack_block(mut block: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    loop {
        let token = usize::from(take(&mut block)?);
        let literals = length(token >> 4, &mut block)?;
        out.extend_from_slice(block.split_off(..literals)?);
        if block.is_empty() {
            return Some(());
        }
        let distance = usize::from(u16::from_le_bytes([take(&mut block)?, take(&mut block)?]));
        let len = length(token & 15, &mut block)? + 4;
        let from = out.len().checked_sub(distance)?;
        if distance == 0 || from < start {
            return None;
        }
        // A match may reach into what it appends.
        for at in from..from + len {
            out.push(out[at]);
        }
    }
}

/// A length of the token's four bits, and of further bytes when these are all ones.
fn length(bits: usize, block: &mut &[u8]) -> Option<usize> {
    let mut length = bits;
    let mut is_continued = bits == 15;
    while is_continued {
        let byte = take(block)?;
        length += usize::from(byte);
        is_continued = byte == 255;
    }
    Some(length)
}

fn take(block: &mut &[u8]) -> Option<u8> {
    block.split_off_first().copied()
}

fn file_of(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut wanted = paths.filter(|path| {
        let name = path.file_name().unwrap_or_default();
        is_wanted(&name.to_string_lossy())
    });
    wanted.next()
}

#[cfg(test)]
mod tests {
    use super::unpack_block;

    #[test]
    fn unpacks_literals_and_overlapping_matches() {
        // "ab", then nine bytes from two back, then "c".
        let mut out = Vec::new();
        assert!(unpack_block(b"\x25ab\x02\x00\x10c", &mut out).is_some());
        assert_eq!(out, b"abababababac");
    }

    #[test]
    fn reads_long_lengths() {
        let mut block = vec![0xf0, 5];
        block.extend([7; 20]);
        let mut out = Vec::new();
        assert!(unpack_block(&block, &mut out).is_some());
        assert_eq!(out, [7; 20]);
    }

    #[test]
    fn refuses_a_match_before_the_start() {
        assert!(unpack_block(b"\x10a\x02\x00\x00", &mut Vec::new()).is_none());
        assert!(unpack_block(b"\x10a\x00\x00\x00", &mut Vec::new()).is_none());
    }
}
