//! What there is in sysfs: a fixed tree, of which one part is there once for each CPU, and the texts of its files.

use abi::Result;
use collections::{String, TryFromIterator as _, Vec, try_format};

use crate::metadata::FileKind;

/// Between the numbers of a node below one CPU's directory and below the next one's.
const NUMBERS_A_CPU: u64 = 1 << 16;

/// One entry of the tree: its number, its name, what it is.
pub(super) struct Node {
    pub(super) ino: u64,
    pub(super) name: &'static str,
    /// There is one for each CPU, its number behind the name.
    pub(super) is_each_cpu: bool,
    pub(super) body: Body,
}

pub(super) enum Body {
    Directory(&'static [Node]),
    /// Text made when it is read; the argument is the CPU whose directory it is in.
    Text(fn(usize) -> Result<String>),
}

const fn directory(ino: u64, name: &'static str, entries: &'static [Node]) -> Node {
    Node {
        ino,
        name,
        is_each_cpu: false,
        body: Body::Directory(entries),
    }
}

const fn text(ino: u64, name: &'static str, make: fn(usize) -> Result<String>) -> Node {
    Node {
        ino,
        name,
        is_each_cpu: false,
        body: Body::Text(make),
    }
}

impl Node {
    /// Its number below `cpu`'s directory.
    pub(super) fn number(&self, cpu: usize) -> u64 {
        self.ino + cpu as u64 * NUMBERS_A_CPU
    }

    pub(super) fn kind(&self) -> FileKind {
        match self.body {
            Body::Directory(_) => FileKind::Directory,
            Body::Text(_) => FileKind::Regular,
        }
    }

    /// Its name, that of `cpu` if there is one for each.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn name(&self, cpu: usize) -> Result<String> {
        Ok(if self.is_each_cpu {
            try_format!("{}{cpu}", self.name)?
        } else {
            try_format!("{}", self.name)?
        })
    }
}

/// One package, in which each CPU is a core: what /proc/cpuinfo says, too.
const CPU: Node = Node {
    ino: 30,
    name: "cpu",
    is_each_cpu: true,
    body: Body::Directory(&[directory(
        31,
        "topology",
        &[
            text(32, "core_id", |cpu| Ok(try_format!("{cpu}\n")?)),
            text(33, "physical_package_id", zero),
            text(34, "die_id", zero),
            text(35, "thread_siblings_list", |cpu| {
                Ok(try_format!("{cpu}\n")?)
            }),
            text(36, "thread_siblings", |cpu| mask(&[cpu])),
            text(37, "core_cpus_list", |cpu| Ok(try_format!("{cpu}\n")?)),
            text(38, "core_cpus", |cpu| mask(&[cpu])),
            text(39, "core_siblings_list", cpu_list),
            text(40, "core_siblings", all_cpus),
            text(41, "package_cpus_list", cpu_list),
            text(42, "package_cpus", all_cpus),
        ],
    )]),
};

pub(super) static ROOT: Node = directory(
    1,
    "",
    &[
        directory(2, "block", &[]),
        directory(3, "bus", &[]),
        directory(4, "class", &[]),
        directory(
            5,
            "dev",
            &[directory(6, "block", &[]), directory(7, "char", &[])],
        ),
        directory(
            8,
            "devices",
            &[directory(
                9,
                "system",
                &[
                    directory(
                        10,
                        "cpu",
                        &[
                            CPU,
                            text(11, "online", cpu_list),
                            text(12, "possible", cpu_list),
                            text(13, "present", cpu_list),
                            text(14, "kernel_max", kernel_max),
                        ],
                    ),
                    // All memory is equally far.
                    directory(
                        20,
                        "node",
                        &[
                            directory(
                                21,
                                "node0",
                                &[
                                    text(22, "cpulist", cpu_list),
                                    text(23, "cpumap", all_cpus),
                                    text(24, "distance", |_| Ok(try_format!("10\n")?)),
                                ],
                            ),
                            text(25, "has_cpu", zero),
                            text(26, "has_memory", zero),
                            text(27, "online", zero),
                            text(28, "possible", zero),
                        ],
                    ),
                ],
            )],
        ),
        directory(15, "firmware", &[]),
        directory(16, "fs", &[directory(17, "cgroup", &[])]),
        directory(18, "kernel", &[]),
        directory(19, "module", &[]),
    ],
);

fn zero(_: usize) -> Result<String> {
    Ok(try_format!("0\n")?)
}

fn cpu_list(_: usize) -> Result<String> {
    Ok(match machine::cpu::count() {
        1 => try_format!("0\n")?,
        count => try_format!("0-{}\n", count - 1)?,
    })
}

fn all_cpus(_: usize) -> Result<String> {
    let all = Vec::try_from_iterator(0..machine::cpu::count())?;
    mask(&all)
}

/// CPUs as a mask of hexadecimal words of 32, the highest first.
fn mask(cpus: &[usize]) -> Result<String> {
    let words = machine::cpu::count().div_ceil(32);
    let mut text = String::new();
    for word in (0..words).rev() {
        let of_word = cpus.iter().filter(|cpu| **cpu / 32 == word);
        let bits = of_word.fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32));
        let end = if word == 0 { "\n" } else { "," };
        // The digits that its CPUs need in the first word, eight in the others.
        let count = machine::cpu::count() - word * 32;
        let width = count.min(32).div_ceil(4);
        text.try_push_str(&try_format!("{bits:0width$x}{end}")?)?;
    }
    Ok(text)
}

fn kernel_max(_: usize) -> Result<String> {
    Ok(try_format!("{}\n", machine::cpu::MAX_CPUS - 1)?)
}
