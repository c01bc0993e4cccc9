//! Archives as cpio(1) writes them, and as nobody should.

use super::*;

/// An entry with all numbers but these zero.
fn entry(path: &[u8], mode: u32, data: &[u8]) -> Vec<u8> {
    linked(path, mode, data, (1, 0))
}

fn linked(path: &[u8], mode: u32, data: &[u8], (links, inode): (u32, u32)) -> Vec<u8> {
    let (size, name) = (data.len(), path.len() + 1);
    let header = format!(
        "070701{inode:08x}{mode:08x}{0:08X}{0:08x}{links:08x}{0:08x}{size:08x}\
         {0:08x}{0:08x}{1:08x}{2:08x}{name:08x}{0:08x}",
        0, 5, 1
    );
    let mut bytes = header.into_bytes();
    bytes.extend_from_slice(path);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn trailer() -> Vec<u8> {
    entry(TRAILER, 0, b"")
}

fn paths(image: &[u8]) -> Vec<String> {
    let entries = Cpio::new(image).map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| String::from_utf8_lossy(entry.path()).into_owned())
        .collect()
}

fn refused(image: &[u8]) -> String {
    let error = Cpio::new(image).find_map(Result::err);
    error.expect("it is refused").to_string()
}

#[test]
fn every_kind_of_file_is_read() {
    let image = [
        entry(b".", 0o040_755, b""),
        entry(b"./bin", 0o040_755, b""),
        linked(b"bin/a", 0o104_711, b"", (2, 7)),
        linked(b"bin/b", 0o104_711, b"contents", (2, 7)),
        entry(b"/sh", 0o120_777, b"bin/a"),
        entry(b"console", 0o020_600, b""),
        entry(b"disk", 0o060_600, b""),
        entry(b"pipe", 0o010_644, b""),
        entry(b"socket", 0o140_777, b""),
        trailer(),
    ];
    let image = image.concat();
    assert!(is_cpio(&image));
    let entries: Vec<_> = Cpio::new(&image)
        .map(|entry| entry.expect("an entry"))
        .collect();
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(
        kinds,
        [
            CpioKind::Directory,
            CpioKind::Directory,
            CpioKind::File(b""),
            CpioKind::File(b"contents"),
            CpioKind::Symlink(b"bin/a"),
            CpioKind::CharDevice(5, 1),
            CpioKind::BlockDevice(5, 1),
            CpioKind::Fifo,
            CpioKind::Socket,
        ]
    );
    assert_eq!(entries[0].names().count(), 0);
    assert_eq!(entries[1].names().collect::<Vec<_>>(), [b"bin"]);
    assert_eq!(entries[4].names().collect::<Vec<_>>(), [b"sh"]);
    assert_eq!(entries[3].mode, 0o4711);
    assert_eq!(entries[2].link, entries[3].link);
    assert!(entries[2].link.is_some() && entries[4].link.is_none());
}

#[test]
fn archives_follow_each_other_and_zeroes_them() {
    let one = [entry(b"a", 0o100_644, b"12345"), trailer()].concat();
    let two = [entry(b"b", 0o100_644, b""), trailer()].concat();
    let image = [&one[..], &[0; 512], &two, &[0; 4096]].concat();
    assert_eq!(paths(&image), ["a", "b"]);
    assert_eq!(paths(&trailer()), [""; 0]);
    assert!(refused(&[&one[..], b"\x1f\x8b\x08\x00"].concat()).contains("compressed"));
    assert!(refused(&[&one[..], b"garbage"].concat()).contains("cut off"));
    assert!(is_compressed(b"\x28\xb5\x2f\xfd....") && !is_compressed(&one));
}

#[test]
fn what_is_damaged_is_refused_with_its_place() {
    let good = entry(b"a", 0o100_644, b"12345");
    for length in 1..good.len() {
        let error = refused(&good[..length]);
        assert!(error.contains("cut off"), "{length}: {error}");
    }
    assert!(
        refused(&good).contains(&format!("byte {}", good.len())),
        "no trailer"
    );
    let with =
        |path: &[u8], mode, data: &[u8]| refused(&[entry(path, mode, data), trailer()].concat());
    for path in [
        &b".."[..],
        b"a/../b",
        b"../etc/passwd",
        b"/..",
        &[b'x'; 256],
    ] {
        assert!(with(path, 0o100_644, b"").contains("`..`"), "{path:?}");
    }
    for path in [&b""[..], b"a\0b", &[b'/'; 5000]] {
        assert!(
            with(path, 0o100_644, b"").contains("not a path"),
            "{path:?}"
        );
    }
    assert!(with(b"a", 0o030_000, b"").contains("no kind"));
    for target in [&b""[..], b"a\0", &[b'x'; 5000]] {
        assert!(
            with(b"a", 0o120_777, target).contains("target"),
            "{target:?}"
        );
    }
    let mut odd = good.clone();
    odd[7] = b'g';
    assert!(refused(&odd).contains("no number"));
    // As much as a header can say.
    odd = good.clone();
    odd[54..62].copy_from_slice(b"ffffffff");
    assert!(refused(&odd).contains("contents are cut off"));
    odd = good.clone();
    odd[94..102].copy_from_slice(b"00000000");
    assert!(refused(&odd).contains("zero byte"));
    assert!(refused(b"070707").contains("cut off"));
}

#[test]
fn no_bytes_harm_the_reader() {
    let good = [
        entry(b"bin", 0o040_755, b""),
        entry(b"bin/a", 0o100_755, &[7; 300]),
        entry(b"sh", 0o120_777, b"bin/a"),
        trailer(),
    ];
    let good = good.concat();
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        usize::try_from(noise % below as u64).expect("small")
    };
    for _ in 0..20_000 {
        let mut image = good.clone();
        for _ in 0..=random(4) {
            let at = random(image.len());
            image[at] = [b'0', b'f', b'/', b'.', 0, 0xff][random(6)];
        }
        image.truncate(1 + random(image.len()));
        let read = Cpio::new(&image).take(100).map(|entry| match entry {
            Ok(entry) => {
                assert!(entry.names().all(|name| name != b".." && !name.is_empty()));
                1
            }
            Err(error) => {
                // What follows the last part begins at a multiple of four.
                assert!(error.at < image.len() + 4);
                0
            }
        });
        assert!(read.count() <= 12, "it ends");
    }
}
