//! Builds the image a second time, from a copy of the sources in another folder, and compares.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use qemu_tests::Report;

use crate::build::Image;
use crate::shell;
use crate::workspace::Workspace;

/// Copies the sources, builds there, and notes whether the bytes are the same.
pub(crate) fn test(workspace: &Workspace, image: &Image) -> anyhow::Result<Report> {
    shell::step("Building the image again in another folder");
    let copy = workspace.target.join("reproduce/another folder");
    copy_sources(workspace, &copy)?;
    let mut command = shell::cargo();
    command.args(["xtask", "build-image"]).current_dir(&copy);
    shell::run(&mut command)?;
    let mut report = Report::default();
    for file in [&image.kernel, &image.archive] {
        let name = file.file_name().context("an image file has no name")?;
        let again = copy.join("target/image").join(name);
        let is_same = fs::read(file)? == fs::read(&again)?;
        let result = if is_same {
            Ok(())
        } else {
            Err(format!(
                "{} differs from {}",
                file.display(),
                again.display()
            ))
        };
        report.note(format_args!("reproducible {}", name.display()), result);
    }
    Ok(report)
}

fn copy_sources(workspace: &Workspace, copy: &Path) -> anyhow::Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    for file in shell::output(git.current_dir(&workspace.root))?.lines() {
        let (from, to) = (workspace.root.join(file), copy.join(file));
        if from.is_file() {
            fs::create_dir_all(to.parent().context("a source file has no folder")?)?;
            fs::copy(&from, &to).with_context(|| format!("cannot copy {file}"))?;
        }
    }
    Ok(())
}
