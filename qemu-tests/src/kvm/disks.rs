//! Disks: the same commands on a loop device of the host and on a disk of a microVM, with the same file behind them, must
//! say the same and leave the same in the file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::bad_input::nothing_left;
use super::process::{self, Ended};
use super::{Options, WORK, on_host};
use crate::{Report, diff};

/// What is tried; `$1` is a disk and `$2` one that is only to be read.
const SCRIPT: &str = r#"
for disk in $1 $2; do
    for what in getsize64 getsz getss getro; do blockdev --$what $disk; done
    stat -c '%F %s' $disk
    sha256sum < $disk
    dd if=$disk bs=512 iflag=direct skip=70 count=9 2>/dev/null | sha256sum
done
printf hello | dd of=$1 bs=1 seek=70001 conv=notrunc 2>/dev/null
dd if=$1 bs=1 skip=69999 count=9 2>/dev/null | od -c
yes | head -c 100000 | dd of=$1 bs=7000 seek=3 conv=notrunc,fsync 2>/dev/null || echo dd $?
dd if=/dev/zero of=$1 bs=64k seek=15 2>&1 | grep -o 'No space left.*'
dd if=/dev/zero of=$2 bs=512 count=1 conv=notrunc 2>&1 | grep -o 'Operation not.*'
wc -c < $1
blockdev --flushbufs $1; echo flushed $?
sync
sha256sum < $1
"#;

/// Bytes of the two disks: the first one's last page is not whole.
const SIZES: [u64; 2] = [(1 << 20) + 1536, 256 << 10];

/// Runs the tests.
pub(super) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let what = "disks: work";
    if !options.wants(what) {
        return Ok(());
    }
    let name = options.name(what);
    match options.machine.why_not() {
        Some(reason) => report.skip(name, reason),
        None => match compare(options)? {
            Some(result) => report.note(name, result.and_then(|()| nothing_left(options))),
            None => report.skip(name, "the host has no loop devices for it"),
        },
    }
    Ok(())
}

/// A loop device, detached when it goes.
struct Loop(String);

impl Loop {
    fn attach(image: &Path, is_read_only: bool) -> Option<Self> {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show"]);
        if is_read_only {
            command.arg("--read-only");
        }
        let done = command.arg(image).output().ok()?;
        let name = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        (done.status.success() && !name.is_empty()).then_some(Self(name))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// The two sides; nothing where the host cannot play its own.
fn compare(options: &Options) -> anyhow::Result<Option<Result<(), String>>> {
    let host_images = images(options, "host")?;
    let guest_images = images(options, "guest")?;
    let host = {
        let [first, second] = &host_images;
        let (Some(first), Some(second)) = (Loop::attach(first, false), Loop::attach(second, true))
        else {
            return Ok(None);
        };
        // Where the host's side begins.
        let work = options.busybox.join(WORK);
        fs::create_dir_all(&work)?;
        let lines = play(on_host(&options.busybox), &first.0, &second.0);
        fs::remove_dir(&work)?;
        lines?
    };
    let mut command = options.command(&options.nacre);
    command.arg("run").arg("--rootfs").arg(&options.busybox);
    command.arg("--disk").arg(&guest_images[0]);
    command
        .arg("--disk")
        .arg(format!("{}:ro", guest_images[1].display()));
    command.arg("--");
    let guest = play(command, "/dev/vda", "/dev/vdb")?;
    let difference = diff::lines(&host, &guest);
    for (host, guest) in host_images.iter().zip(&guest_images) {
        ensure!(
            fs::read(host)? == fs::read(guest)?,
            "{} differs",
            guest.display()
        );
        fs::remove_file(host)?;
        fs::remove_file(guest)?;
    }
    Ok(Some(match difference.is_empty() {
        true => in_use(options),
        false => Err(difference),
    }))
}

/// The files of one side's disks, filled the same for both.
fn images(options: &Options, side: &str) -> anyhow::Result<[PathBuf; 2]> {
    let make = |number: usize| -> anyhow::Result<PathBuf> {
        let path = options.work_dir.join(format!("{side}-{number}.img"));
        let size = usize::try_from(SIZES[number])?;
        let bytes: Vec<u8> = (0..size)
            .map(|at| (at / 509 + number).to_le_bytes()[0])
            .collect();
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    Ok([make(0)?, make(1)?])
}

fn play(mut command: Command, first: &str, second: &str) -> anyhow::Result<Vec<String>> {
    command.args(["sh", "-c", SCRIPT, "sh", first, second]);
    let Ended {
        code,
        stdout,
        stderr,
    } = process::run(command, b"")?;
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    lines.extend(stderr.lines().map(|line| format!("stderr: {line}")));
    lines.push(format!("exit {code:?}"));
    Ok(lines)
}

/// A disk that somebody else writes to is refused before anything boots.
fn in_use(options: &Options) -> Result<(), String> {
    let refused = || -> anyhow::Result<Ended> {
        let path = options.work_dir.join("in-use.img");
        fs::write(&path, [0; 512])?;
        let held = File::open(&path)?;
        held.lock()?;
        let mut command = options.command(&options.nacre);
        command.arg("run").arg("--rootfs").arg(&options.busybox);
        command.arg("--disk").arg(&path).args(["--", "true"]);
        let ended = process::run(command, b"")?;
        fs::remove_file(&path)?;
        Ok(ended)
    };
    let ended = refused().map_err(|error| format!("{error:#}"))?;
    super::bad_input::judge(
        &ended,
        &[super::bad_input::OWN_FAILURE],
        "another pod has it",
    )
}
