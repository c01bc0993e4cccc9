//! `cargo xtask build-image`: the kernel and the archive that a microVM starts from.
//!
//! The same sources give the same bytes, twice and from any folder: paths are remapped, links
//! have no build id, and the archive's entries are sorted and dated 0.

mod agent;
mod elf;
mod host;
mod kernel;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use initramfs::Archive;
use initramfs::build::Builder;

use crate::shell;
use crate::workspace::Workspace;

pub(crate) use host::build as host_tools;
use kernel::Variant;

/// The most that kernel and archive may take together, in bytes.
const IMAGE_LIMIT: u64 = 4 * 1024 * 1024;

/// The folders that the agent mounts something on; the archive is read-only, so they are in it.
const MOUNT_POINTS: [(&str, u32); 6] = [
    ("/dev", 0o755),
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/root", 0o700),
];

/// The two files that make a microVM.
#[derive(Debug)]
pub(crate) struct Image {
    /// The stripped kernel.
    pub(crate) kernel: PathBuf,
    /// The archive with the agent as `/init`.
    pub(crate) archive: PathBuf,
}

/// Builds the image and prints its sizes.
pub(crate) fn image(workspace: &Workspace) -> anyhow::Result<Image> {
    let kernel = kernel::build(workspace, Variant::Release)?;
    let agent = agent::build(workspace)?;
    shell::step("Writing the archive");
    let archive = workspace.image_dir().join("initramfs.img");
    write_archive(&agent, &archive)?;
    let image = Image { kernel, archive };
    image.check_size(workspace)?;
    Ok(image)
}

/// Builds the kernel with the feature `checks` and returns its path.
pub(crate) fn checked_kernel(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    kernel::build(workspace, Variant::Checks)
}

impl Image {
    fn check_size(&self, workspace: &Workspace) -> anyhow::Result<()> {
        let mut total = 0;
        for path in [&self.kernel, &self.archive] {
            let len = fs::metadata(path)?.len();
            println!("{:>9} bytes  {}", len, workspace.display(path));
            total += len;
        }
        println!("{total:>9} bytes  together, of at most {IMAGE_LIMIT}");
        if total > IMAGE_LIMIT {
            bail!("the image is {} bytes too large", total - IMAGE_LIMIT);
        }
        Ok(())
    }
}

/// Writes the archive: the agent as `/init`, the folders it mounts on, and nothing else.
fn write_archive(agent: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut builder = Builder::new();
    for (path, mode) in MOUNT_POINTS {
        builder.directory(path, mode)?;
    }
    let bytes = fs::read(agent).with_context(|| format!("cannot read {}", agent.display()))?;
    builder.file("/init", 0o755, bytes)?;
    let image = builder.build()?;
    // Whoever starts from it looks at its first bytes only.
    Archive::new(&image)?;
    write(archive, &image)
}

/// Writes a file of the image by way of a new file, so that a microVM which has the old one
/// mapped keeps it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = path.parent().context("an image file has no folder")?;
    fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;

    use super::{IMAGE_LIMIT, Image};
    use crate::workspace::Workspace;

    #[test]
    fn the_limit_is_for_both_files_together() {
        let dir = std::env::temp_dir().join(format!("nacre-image-size-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a folder");
        let (kernel, archive) = (dir.join("kernel.elf"), dir.join("initramfs.img"));
        let workspace = Workspace {
            root: PathBuf::from("/"),
            target: dir.clone(),
        };
        let check = |archive_len: u64| {
            for (path, len) in [(&kernel, IMAGE_LIMIT - 100), (&archive, archive_len)] {
                let file = File::create(path).expect("a file");
                file.set_len(len).expect("a sparse file");
            }
            let (kernel, archive) = (kernel.clone(), archive.clone());
            Image { kernel, archive }.check_size(&workspace)
        };
        let (fits, exceeds) = (check(100), check(101));
        std::fs::remove_dir_all(&dir).expect("removed");
        assert!(fits.is_ok(), "{fits:?}");
        let error = exceeds.expect_err("one byte too many").to_string();
        assert_eq!(error, "the image is 1 bytes too large");
    }
}
