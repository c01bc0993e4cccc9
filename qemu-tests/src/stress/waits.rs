//! Short boots that look for guests that fall silent: `qemu-tests/driver/waits.c` as PID 1, programs that wait for children,
//! timers and each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::{Jitter, SILENCE_LIMIT, Session};
use crate::archive::{self, Item, Tree};
use crate::programs;
use crate::qemu::{Boot, Configuration};

/// The applets of busybox that its scripts call.
const APPLETS: [&str; 4] = ["sh", "cat", "sleep", "true"];
const BUSYBOX: &str = "/bin/busybox";

/// The program, compiled and packed.
#[derive(Debug)]
pub struct Waits {
    folder: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Waits {
    /// Compiles it for `kernel` into `folder`.
    ///
    /// # Errors
    /// When gcc refuses it or a file cannot be written.
    pub fn build(folder: &Path, kernel: &Path, is_linux: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let source = programs::source_dir().join("driver/waits.c");
        let init = super::compile(&[source], &folder.join("waits"))?;
        let exit = programs::source_dir().join("bench/exit.c");
        let exit = programs::compile(&exit, &folder.join("exit"))?.file;
        let mut tree: Tree = ["dev", "proc", "tmp", "bin"]
            .map(|name| (name.to_owned(), Item::Directory))
            .to_vec();
        let files = [
            ("init", init.as_path()),
            ("bin/exit", exit.as_path()),
            ("bin/busybox", Path::new(BUSYBOX)),
        ];
        for (name, file) in files {
            tree.push((name.to_owned(), Item::File(fs::read(file)?, true)));
        }
        for applet in APPLETS {
            let link = Item::Symlink("busybox".to_owned());
            tree.push((format!("bin/{applet}"), link));
        }
        let initramfs = folder.join("waits.img");
        archive::write(&tree, &initramfs, is_linux)?;
        Ok(Self {
            folder: folder.to_owned(),
            kernel: kernel.to_owned(),
            initramfs,
        })
    }

    /// Boots once; `seed` says when CPUs stand still.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn run(
        &self,
        configuration: Configuration,
        seed: u64,
        jitter: Jitter,
    ) -> anyhow::Result<Result<(), String>> {
        let boot = Boot {
            configuration,
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            command_line: "console=ttyS0 quiet panic=-1 nacre.watchdog".to_owned(),
            counts_instructions: false,
            extra_arguments: jitter.arguments(&self.folder, seed)?,
            silence_limit: SILENCE_LIMIT,
            limit: Duration::from_secs(600),
        };
        let session = Session::run(&boot)?;
        let is_done = session
            .lines
            .iter()
            .any(|line| line.contains("[waits done]"));
        let trouble = match (session.trouble(), is_done) {
            (Some(trouble), _) => trouble,
            (None, false) => format!("the programs did not end\n{}", session.tail()),
            (None, true) => return Ok(Ok(())),
        };
        let log = self
            .folder
            .join(format!("waits-{configuration}-{seed}.log"));
        fs::write(&log, session.lines.join("\n"))?;
        Ok(Err(trouble))
    }
}
