//! Where the guest's kernel and archive are: next to the program, however it was installed.

use std::path::{Path, PathBuf};

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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::locate_from;

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
