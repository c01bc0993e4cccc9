//! Round trips, reproducibility, and broken images: whatever happens to the bytes, the reader
//! answers with an error or with entries that are safe to use.

use crate::build::{Builder, Image};
use crate::header::HEADER_LEN;
use crate::{Archive, ArchiveError, Kind, PAGE_SIZE};

/// A tree with every kind of entry, a file of several pages and an empty one.
fn sample() -> Image {
    let mut builder = Builder::new().mtime_s(1_700_000_000);
    builder
        .file("/init", 0o755, vec![7; 2 * PAGE_SIZE + 5])
        .expect("init");
    builder.directory("/tmp", 0o1777).expect("tmp");
    builder
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\n".to_vec(),
        )
        .expect("passwd");
    builder
        .file("/etc/empty", 0o600, Vec::new())
        .expect("empty");
    builder.symlink("/bin/sh", "../init").expect("sh");
    builder.owner("/etc/empty", 5, 6).expect("owner");
    builder.build().expect("build")
}

/// Reads everything that the reader offers, so that a bad offset would panic.
fn walk(archive: Archive<'_>) -> usize {
    let mut total = 0;
    for entry in archive.entries() {
        assert_eq!(entry.data().as_ptr().addr() % PAGE_SIZE, 0);
        assert_eq!(entry.pages().len() % PAGE_SIZE, 0);
        total += entry.data().len() + entry.pages().len() + entry.target().len();
        total += archive
            .children(entry)
            .map(|child| child.name().len())
            .sum::<usize>();
        let found = entry
            .parent()
            .child(entry.name())
            .map(|found| found.index());
        assert!(entry.index() == 0 || found == Some(entry.index()));
    }
    total
}

#[test]
fn reads_back_what_was_written() {
    let image = sample();
    let archive = Archive::new(&image).expect("valid");
    let init = archive.lookup("/init").expect("init");
    assert_eq!(
        (init.kind(), init.mode(), init.len()),
        (Kind::File, 0o755, 2 * PAGE_SIZE + 5)
    );
    assert!(init.data().iter().all(|byte| *byte == 7));
    assert!(init.pages()[init.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(init.pages().len(), 3 * PAGE_SIZE);
    let sh = archive.lookup("bin/sh").expect("sh");
    assert_eq!(
        (sh.kind(), sh.target(), sh.parent().name()),
        (Kind::Symlink, "../init", "bin")
    );
    let empty = archive.lookup("/etc//empty").expect("empty");
    assert_eq!((empty.uid(), empty.gid(), empty.data().len()), (5, 6, 0));
    assert_eq!(archive.lookup("/tmp").expect("tmp").mode(), 0o1777);
    assert!(archive.lookup("/etc/nothing").is_none());
    assert!(archive.lookup("/init/below").is_none());
    assert_eq!(archive.mtime_s(), 1_700_000_000);
    let names: Vec<_> = archive
        .children(archive.root())
        .map(|entry| entry.name())
        .collect();
    assert_eq!(names, ["bin", "etc", "init", "tmp"]);
    assert!(walk(archive) > 0);
}

#[test]
fn gives_the_same_bytes_in_any_order() {
    let mut other = Builder::new().mtime_s(1_700_000_000);
    other.symlink("/bin/sh", "../init").expect("sh");
    other.file("/etc/empty", 0o600, Vec::new()).expect("empty");
    other.owner("/etc/empty", 5, 6).expect("owner");
    other
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\n".to_vec(),
        )
        .expect("passwd");
    other
        .file("/init", 0o755, vec![7; 2 * PAGE_SIZE + 5])
        .expect("init");
    other.directory("/tmp", 0o1777).expect("tmp");
    assert_eq!(
        sample().as_slice(),
        other.build().expect("build").as_slice()
    );
}

#[test]
fn refuses_what_cannot_be_in_an_archive() {
    let mut builder = Builder::new();
    builder.file("/a", 0o644, Vec::new()).expect("a");
    for path in [
        "/a/b", "/a", "", "/", "/x/../y", "/x//y", "/./x", "/nul\0", "/x/",
    ] {
        assert!(builder.file(path, 0o644, Vec::new()).is_err(), "{path:?}");
    }
    assert!(
        builder
            .file(&format!("/{}", "n".repeat(256)), 0o644, Vec::new())
            .is_err()
    );
    assert!(builder.file("/mode", 0o10000, Vec::new()).is_err());
    assert!(builder.symlink("/l", "").is_err());
    assert!(builder.directory("/a", 0o755).is_err());
    assert!(builder.owner("/none", 0, 0).is_err());
}

#[test]
fn names_the_fault_of_a_broken_header() {
    let image = sample();
    let broken = |at: usize, byte: u8| {
        let mut copy = image.clone();
        copy[at] = byte;
        Archive::new(&copy).map(|_| ()).expect_err("broken")
    };
    assert_eq!(broken(0, b'X'), ArchiveError::BadMagic);
    assert_eq!(broken(8, 2), ArchiveError::UnknownVersion { version: 2 });
    assert_eq!(broken(12, 9), ArchiveError::UnknownChecksum { policy: 9 });
    assert_eq!(broken(23, 0xff), ArchiveError::BadHeader);
    assert_eq!(broken(HEADER_LEN + 1, 0xee), ArchiveError::BadChecksum);
    let short = Archive::new(&image[..10]).map(|_| ()).expect_err("short");
    assert_eq!(short, ArchiveError::TooShort { len: 10 });
    let cut = image.len() - PAGE_SIZE;
    let truncated = Archive::new(&image[..cut]).map(|_| ()).expect_err("cut");
    assert_eq!(
        truncated,
        ArchiveError::Truncated {
            expected: image.len(),
            len: cut
        }
    );
    let moved = Archive::new(&image[1..]).map(|_| ()).expect_err("moved");
    assert_eq!(moved, ArchiveError::Misaligned);
}

#[test]
fn takes_an_image_with_room_behind_it() {
    let mut image = sample();
    let len = image.len();
    image.resize(len + 3 * PAGE_SIZE, 0xaa);
    let archive = Archive::new(&image).expect("valid");
    assert_eq!(archive.image_len(), len);
}

/// With the checksum off, every single-byte change is either refused or harmless.
#[test]
fn survives_every_single_byte_change_of_the_index() {
    let mut image = sample();
    image[12] = 0;
    let end = image.len().min(2 * PAGE_SIZE);
    let mut refused = 0;
    for at in 0..end {
        for flip in [0x01, 0x80, 0xff] {
            image[at] ^= flip;
            match Archive::new(&image) {
                Ok(archive) => drop(walk(archive)),
                Err(_) => refused += 1,
            }
            image[at] ^= flip;
        }
    }
    assert!(refused > 100, "only {refused} changes were refused");
}

/// Random damage in many places at once, from a fixed seed.
#[test]
fn survives_random_damage() {
    let original = sample();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).expect("64-bit host")
    };
    for _ in 0..20_000 {
        let mut image = original.clone();
        image[12] = 0;
        for _ in 0..1 + next() % 4 {
            let at = next() % (PAGE_SIZE / 4);
            image[at] = u8::try_from(next() & 0xff).expect("masked");
        }
        if let Ok(archive) = Archive::new(&image) {
            walk(archive);
        }
    }
}

#[test]
fn survives_every_length() {
    let image = sample();
    for len in 0..image.len() {
        assert!(Archive::new(&image[..len]).is_err(), "{len}");
    }
}
