//! Where QEMU enters an ELF kernel: the note `XEN_ELFNOTE_PHYS32_ENTRY` of the PVH boot protocol.

/// The note's type and its owner's name.
const PHYS32_ENTRY: u32 = 18;
const OWNER: &[u8] = b"Xen\0";
const PT_NOTE: u32 = 4;

/// The physical address of the 32-bit entry, if `elf` has one.
pub(super) fn entry(elf: &[u8]) -> Option<u64> {
    let headers = usize::try_from(read_u64(elf, 0x20)?).ok()?;
    let (size, count) = (read_u16(elf, 0x36)?, read_u16(elf, 0x38)?);
    (0..usize::from(count)).find_map(|index| {
        let header = elf.get(headers + index * usize::from(size)..)?;
        if read_u32(header, 0)? != PT_NOTE {
            return None;
        }
        let start = usize::try_from(read_u64(header, 8)?).ok()?;
        let len = usize::try_from(read_u64(header, 32)?).ok()?;
        find(elf.get(start..)?.get(..len)?)
    })
}

/// Goes through notes: lengths of name and description, type, then both, each padded to four bytes.
fn find(mut notes: &[u8]) -> Option<u64> {
    loop {
        let name_len = usize::try_from(read_u32(notes, 0)?).ok()?;
        let data_len = usize::try_from(read_u32(notes, 4)?).ok()?;
        let kind = read_u32(notes, 8)?;
        let data = 12 + name_len.next_multiple_of(4);
        if kind == PHYS32_ENTRY && notes.get(12..12 + name_len)? == OWNER {
            return match data_len {
                4 => read_u32(notes, data).map(u64::from),
                _ => read_u64(notes, data),
            };
        }
        notes = notes.get(data + data_len.next_multiple_of(4)..)?;
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::find;

    fn note(owner: &[u8], kind: u32, data: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [owner.len(), data.len()] {
            note.extend_from_slice(&u32::try_from(word).expect("short").to_le_bytes());
        }
        note.extend_from_slice(&kind.to_le_bytes());
        for part in [owner, data] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn finds_the_entry_among_others() {
        let mut notes = note(b"GNU\0", 18, &[9; 4]);
        notes.extend(note(b"Xen\0", 6, b"2.6\0\0"));
        notes.extend(note(b"Xen\0", 18, &0x100_0000u32.to_le_bytes()));
        assert_eq!(find(&notes), Some(0x100_0000));
        assert_eq!(find(&notes[..20]), None);
        assert_eq!(find(&note(b"Xen\0", 18, &7u64.to_le_bytes())), Some(7));
    }
}
