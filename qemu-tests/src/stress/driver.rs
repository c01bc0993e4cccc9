//! Random system calls: `qemu-tests/driver` as PID 1 under QEMU, or as the program of `nacre run` on KVM, with a seed for
//! each boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::{Jitter, SILENCE_LIMIT, Session};
use crate::archive::{self, Item, Tree};
use crate::programs;
use crate::qemu::{Boot, Configuration, Machine};

const SOURCES: [&str; 7] = [
    "main.c",
    "worker.c",
    "arguments.c",
    "structures.c",
    "descriptors.c",
    "health.c",
    "calls.c",
];
/// What may be missing of the free memory at the end, in KiB.
const LOSS_LIMIT: i64 = 3 * 1024;
/// The longest that a boot may take, on a host that does other work, too.
const LIMIT: Duration = Duration::from_secs(1800);

/// The folder of the root in which half of the workers are on KVM: that of virtio-fs.
const SHARE: &str = "/work";

/// The driver, compiled and packed.
#[derive(Debug)]
pub struct Driver {
    folder: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
    program: PathBuf,
    exit: PathBuf,
}

/// Where it runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// QEMU's machine of this kind.
    Qemu(Machine),
    /// `nacre run`, the program at this path.
    Kvm(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Qemu(machine) => machine.fmt(f),
            Self::Kvm(_) => f.write_str("kvm"),
        }
    }
}

/// One boot of it.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The machine.
    pub place: Place,
    /// Its number of CPUs.
    pub cpus: u32,
    /// What the random sequences start from.
    pub seed: u64,
    /// How many calls to make, about.
    pub calls: u64,
    /// Who makes them.
    pub uid: u32,
    /// Whether the CPUs stand still now and then.
    pub jitter: Jitter,
    /// Whether each call is printed before it is made.
    pub is_traced: bool,
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            place,
            cpus,
            seed,
            uid,
            jitter,
            ..
        } = self;
        write!(f, "driver/{place}-{cpus}/uid-{uid}/seed-{seed}{jitter}")
    }
}

impl Driver {
    /// Compiles the driver for `kernel` into `folder`.
    ///
    /// # Errors
    /// When gcc refuses it or a file cannot be written.
    pub fn build(folder: &Path, kernel: &Path, is_linux: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let source_dir = programs::source_dir().join("driver");
        let program = super::compile(
            &SOURCES.map(|source| source_dir.join(source)),
            &folder.join("driver"),
        )?;
        let exit = programs::source_dir().join("bench/exit.c");
        let exit = programs::compile(&exit, &folder.join("exit"))?.file;
        let mut tree: Tree = ["dev", "proc", "tmp", "bin", "sys"]
            .map(|name| (name.to_owned(), Item::Directory))
            .to_vec();
        for (name, file) in [("init", &program), ("bin/exit", &exit)] {
            tree.push((name.to_owned(), Item::File(fs::read(file)?, true)));
        }
        let initramfs = folder.join("driver.img");
        archive::write(&tree, &initramfs, is_linux)?;
        Ok(Self {
            folder: folder.to_owned(),
            kernel: kernel.to_owned(),
            initramfs,
            program,
            exit,
        })
    }

    /// Boots once.
    ///
    /// # Errors
    /// When the machine cannot be started.
    pub fn run(&self, turn: &Turn) -> anyhow::Result<Result<(), String>> {
        let session = match &turn.place {
            Place::Qemu(machine) => Session::run(&self.boot(*machine, turn)?)?,
            Place::Kvm(nacre) => self.on_kvm(nacre, turn)?,
        };
        let log = self.folder.join(format!("{turn}.log").replace('/', "-"));
        fs::write(&log, session.lines.join("\n"))?;
        Ok(match (session.trouble(), loss(&session.lines)) {
            (Some(trouble), _) => Err(trouble),
            (None, None) => Err(format!("the driver did not end\n{}", session.tail())),
            (None, Some(lost)) if lost > LOSS_LIMIT => {
                Err(format!("{lost} KiB of memory are lost\n{}", session.tail()))
            }
            (None, Some(_)) => Ok(()),
        })
    }

    fn boot(&self, machine: Machine, turn: &Turn) -> anyhow::Result<Boot> {
        let settings = settings(turn);
        Ok(Boot {
            configuration: Configuration {
                machine,
                cpus: turn.cpus,
            },
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            command_line: format!(
                "console=ttyS0 quiet panic=-1 nacre.watchdog {}",
                settings.join(" ")
            ),
            counts_instructions: false,
            extra_arguments: turn.jitter.arguments(&self.folder, turn.seed)?,
            silence_limit: SILENCE_LIMIT,
            limit: LIMIT,
        })
    }

    /// As a container's program, with the host's folder as its root.
    fn on_kvm(&self, nacre: &Path, turn: &Turn) -> anyhow::Result<Session> {
        let root = self.folder.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)
                .with_context(|| format!("cannot empty {}", root.display()))?;
        }
        for name in ["dev", "proc", "sys", "tmp", "bin", "work"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy(&self.program, root.join("driver"))?;
        fs::copy(&self.exit, root.join("bin/exit"))?;
        let log = self.folder.join("kvm-console.log");
        fs::write(&log, "")?;
        let mut command = Command::new(nacre);
        command.args(["run", "--memory", "256M", "--cpus", &turn.cpus.to_string()]);
        command.arg("--rootfs").arg(&root).arg("--log").arg(&log);
        command.arg("--kernel").arg(&self.kernel);
        for setting in settings(turn) {
            command.args(["-e", &setting]);
        }
        for setting in [
            format!("DRIVER_SHARE={SHARE}"),
            // A host whose KVM emulates the kernel makes some ten calls a second when others want it, too.
            "DRIVER_SLOWNESS=40".to_owned(),
            "DRIVER_ROUND=1000".to_owned(),
        ] {
            command.args(["-e", &setting]);
        }
        command.args(["--", "/driver"]);
        let mut session = Session::of(&mut command, SILENCE_LIMIT, LIMIT)?;
        let console = fs::read(&log)?;
        let console = String::from_utf8_lossy(&console);
        session.lines.extend(console.lines().map(str::to_owned));
        Ok(session)
    }
}

/// What the driver finds in its environment.
fn settings(turn: &Turn) -> Vec<String> {
    vec![
        format!("DRIVER_SEED={}", turn.seed),
        format!("DRIVER_CALLS={}", turn.calls),
        format!("DRIVER_UID={}", turn.uid),
        format!("DRIVER_TRACE={}", u8::from(turn.is_traced)),
    ]
}

/// The number in `[driver done calls N lost KIB]`.
fn loss(lines: &[String]) -> Option<i64> {
    lines.iter().find_map(|line| {
        let (_, rest) = line.split_once("[driver done calls ")?;
        let (_, lost) = rest.split_once(" lost ")?;
        lost.trim_end_matches(']').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::loss;

    #[test]
    fn reads_what_is_lost() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            loss(&lines("x\n[driver done calls 100 lost -20]")),
            Some(-20)
        );
        assert_eq!(loss(&lines("[driver round 1 calls 100 free 7]")), None);
    }
}
