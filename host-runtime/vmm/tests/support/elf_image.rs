//! Makes kernel images for tests: a static-PIE with one segment, without a linker.

const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_RELAENT: u64 = 9;

/// A static-PIE with one segment: the code, then a dynamic section with `relocations`.
pub(crate) fn image(code: &[u8], entry: u64, relocations: &[(u64, u32, u64)]) -> Vec<u8> {
    let mut rela = Vec::new();
    for (offset, kind, addend) in relocations {
        rela.extend_from_slice(&offset.to_le_bytes());
        rela.extend_from_slice(&u64::from(*kind).to_le_bytes());
        rela.extend_from_slice(&addend.to_le_bytes());
    }
    let rela_at = u64::try_from(code.len().next_multiple_of(8)).expect("short");
    let rela_length = u64::try_from(rela.len()).expect("short");
    let mut body = code.to_vec();
    body.resize(body.len().next_multiple_of(8), 0);
    body.extend_from_slice(&rela);
    let dynamic_at = u64::try_from(body.len()).expect("short");
    for word in [
        DT_RELA,
        rela_at,
        DT_RELASZ,
        rela_length,
        DT_RELAENT,
        24,
        0,
        0,
    ] {
        body.extend_from_slice(&word.to_le_bytes());
    }
    let body_length = u64::try_from(body.len()).expect("short");
    let body_offset = 64 + 2 * 56;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&3u16.to_le_bytes());
    file.extend_from_slice(&62u16.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&entry.to_le_bytes());
    file.extend_from_slice(&64u64.to_le_bytes());
    file.extend_from_slice(&0u64.to_le_bytes());
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 2, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    let mut header = |kind: u32, at: u64, length: u64, memory: u64| {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&7u32.to_le_bytes());
        for word in [body_offset + at, at, at, length, memory, 0x1000] {
            file.extend_from_slice(&word.to_le_bytes());
        }
    };
    header(1, 0, body_length, body_length + 0x3000);
    header(2, dynamic_at, 64, 64);
    file.extend_from_slice(&body);
    file
}
