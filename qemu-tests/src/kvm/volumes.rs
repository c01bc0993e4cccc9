//! Directories of the host beside the root: `nacre run -v`.

use std::fs;

use anyhow::ensure;

use super::pods::Pods;

/// Uses one directory twice, to change it and to read it only, and says what came of it.
const SCRIPT: &str = "cd /volumes; cat rw/file; echo new >rw/sub/made; mv rw/file rw/sub/moved; \
    mkdir rw/dir; ln rw/sub/made rw/dir/link; ln -s ../dir rw/sub/way; cat ro/sub/way/link; \
    echo x 2>/dev/null >ro/no || echo refused; mount -o remount,rw /volumes/ro; \
    echo x 2>/dev/null >ro/no || echo refused by the host; rm -f ro/sub/made 2>/dev/null || echo kept; \
    ls rw; ls rw/sub; mv rw/sub/moved /tmp-moved && cat /tmp-moved && rm /tmp-moved; \
    stat -c %d / rw ro | sort -u | wc -l; grep -c ' /volumes/' /proc/mounts";

/// What it says.
const SAID: &str =
    "data\nnew\nrefused\nrefused by the host\nkept\ndir\nsub\nmade\nmoved\nway\ndata\n3\n2\n";

/// Runs it.
pub(super) fn come_and_go(pods: &Pods<'_>) -> anyhow::Result<()> {
    let folder = pods.options.work_dir.join(format!("{}-volume", pods.name));
    fs::create_dir_all(folder.join("sub"))?;
    fs::write(folder.join("file"), "data\n")?;
    let host = folder.display();
    let (rw, ro) = (
        format!("{host}:/volumes/rw"),
        format!("{host}:/volumes/ro:ro"),
    );
    let rootfs = pods.options.busybox.display().to_string();
    let words = [
        "run", "--rootfs", &rootfs, "-v", &rw, "-v", &ro, "--", "sh", "-c", SCRIPT,
    ];
    let said = pods.says(&words);
    let made = fs::read_to_string(folder.join("dir/link"));
    let forbidden = folder.join("no").exists();
    let not_a_directory = format!("{host}/sub/made:/volumes/rw");
    let refused = pods.nacre(&[
        "run",
        "--rootfs",
        &rootfs,
        "-v",
        &not_a_directory,
        "--",
        "true",
    ]);
    fs::remove_dir_all(&folder)?;
    let said = said?;
    ensure!(said == SAID, "it says {said:?}");
    ensure!(
        made? == "new\n" && !forbidden,
        "the host has something else"
    );
    let refused = refused?;
    ensure!(
        refused.code == Some(125) && refused.stderr.contains("not a directory"),
        "a file is taken: {refused:?}"
    );
    pods.is_empty()
}
