//! Where the guest's kernel and archive are: next to the program, however it was installed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use host_machine::printing::said;
use initramfs::ArchiveError;

/// The two files that a guest boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The kernel, `kernel.elf`.
    pub kernel: PathBuf,
    /// The archive with PID 1, `initramfs.img`.
    pub initramfs: PathBuf,
}

/// No folder has both files.
#[derive(Debug, thiserror::Error)]
#[error(
    "found no kernel.elf and initramfs.img in {}; install them in one of these folders, \
     or build them with `cargo xtask build-image`", .searched.join(", ")
)]
pub struct ImagesNotFound {
    searched: Vec<String>,
}

/// Folders, relative to that of the program: installed side by side, installed under one prefix,
/// and a checkout's `target/PROFILE` and `target/PROFILE/deps`.
const FOLDERS: [&str; 5] = [
    ".",
    "../share/nacre",
    "../lib/nacre",
    "../image",
    "../../image",
];

/// Finds the images for the running program.
///
/// # Errors
/// [`ImagesNotFound`] lists the folders that were searched.
pub fn locate() -> Result<Images, ImagesNotFound> {
    let program = std::env::current_exe().unwrap_or_default();
    locate_from(program.parent().unwrap_or(Path::new("/")))
}

fn locate_from(folder: &Path) -> Result<Images, ImagesNotFound> {
    let folders = FOLDERS.map(|name| folder.join(name));
    let found = folders.iter().map(|folder| Images {
        kernel: folder.join("kernel.elf"),
        initramfs: folder.join("initramfs.img"),
    });
    found
        .into_iter()
        .find(|images| images.kernel.exists() && images.initramfs.exists())
        .ok_or_else(|| ImagesNotFound {
            searched: folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect(),
        })
}

/// How much of an archive is looked at.
const START: usize = 128;

/// Why an archive is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    /// It cannot be read.
    #[error("cannot read the initramfs archive {}: {}", path.display(), said(.source))]
    Read {
        /// As given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is not an archive, or a damaged one.
    #[error(
        "the initramfs archive {} is broken: {source}; build it again with `cargo xtask build-image`",
        path.display()
    )]
    Broken {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        source: ArchiveError,
    },
}

/// Looks at the start of an archive before a kernel is started that would find it to be none, or cut off. What is in it was
/// checked when it was built, and is by the kernel: no start takes the time for it.
///
/// # Errors
/// [`BadArchive`] names the file.
pub fn check_archive(path: &Path) -> Result<(), BadArchive> {
    let read = |source| BadArchive::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    let mut start = Vec::with_capacity(START);
    let most = u64::try_from(START).unwrap_or(u64::MAX);
    Read::take(&mut file, most)
        .read_to_end(&mut start)
        .map_err(read)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    initramfs::check_start(&start, length).map_err(|source| BadArchive::Broken {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use initramfs::build::Builder;

    use super::{check_archive, locate_from};

    #[test]
    fn a_broken_archive_is_named() {
        let path = std::env::temp_dir().join(format!("nacre-archive-{}", std::process::id()));
        let check = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check_archive(&path).map_err(|error| error.to_string())
        };
        let error = check(&[7; 5000]).unwrap_err();
        assert!(error.contains("is broken") && error.contains("nacre-archive"));
        assert!(check(b"").unwrap_err().contains("too few"));
        let mut builder = Builder::new();
        builder.file("a", 0o644, vec![7; 5000]).unwrap();
        let archive = builder.build().unwrap();
        assert_eq!(check(&archive), Ok(()));
        let half = &archive[..archive.len() / 2];
        assert!(check(half).unwrap_err().contains("cut short"));
        // The rest is not read.
        let mut damaged = archive.to_vec();
        damaged[200..400].fill(0xff);
        assert_eq!(check(&damaged), Ok(()));
        assert_eq!(
            check(b"070701"),
            Ok(()),
            "another kernel's, which ours takes, too"
        );
        fs::remove_file(&path).unwrap();
        assert!(check_archive(&path).is_err());
    }

    #[test]
    fn finds_a_prefix_and_names_where_it_looked() {
        let prefix = std::env::temp_dir().join(format!("nacre-images-{}", std::process::id()));
        let bin = prefix.join("bin");
        let share = prefix.join("share/nacre");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&share).unwrap();
        assert!(
            locate_from(&bin)
                .unwrap_err()
                .to_string()
                .contains("share/nacre")
        );
        fs::write(share.join("kernel.elf"), "k").unwrap();
        fs::write(share.join("initramfs.img"), "i").unwrap();
        assert!(
            locate_from(&bin)
                .unwrap()
                .kernel
                .ends_with("../share/nacre/kernel.elf")
        );
        fs::remove_dir_all(prefix).unwrap();
    }
}
