//! The guest test programs: compiled by the host's gcc, statically unless their first line says
//! otherwise (`// flags: …`), and scripts for busybox's shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// A program that runs on the host first and then in the guest.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name: the source's without the suffix.
    pub name: String,
    /// The file to put into the guest as `/tests/NAME`.
    pub file: PathBuf,
    /// Whether it needs the dynamic linker and the C library.
    pub is_dynamic: bool,
}

/// The folder of this crate's sources.
#[must_use]
pub fn source_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Builds every program whose name contains `filter` into `out`, sorted by name.
///
/// # Errors
/// When gcc cannot be started or refuses a program.
pub fn build(out: &Path, filter: Option<&str>) -> anyhow::Result<Vec<Program>> {
    let dir = source_dir().join("programs");
    let mut programs = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let source = entry?.path();
        let name = stem(&source);
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        match source.extension().and_then(|suffix| suffix.to_str()) {
            Some("c") => programs.push(compile(&source, &out.join(&name))?),
            Some("sh") => programs.push(Program {
                name,
                file: source,
                is_dynamic: false,
            }),
            _ => {}
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Compiles `source` to `binary`, unless that is newer.
///
/// # Errors
/// When gcc cannot be started or refuses the program.
pub fn compile(source: &Path, binary: &Path) -> anyhow::Result<Program> {
    let text = fs::read_to_string(source)?;
    let flags = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("// flags:"));
    let program = Program {
        name: stem(source),
        file: binary.to_owned(),
        is_dynamic: flags.is_some_and(|flags| !flags.contains("static")),
    };
    if is_newer(binary, &[source, &source.with_file_name("test.h")]) {
        return Ok(program);
    }
    fs::create_dir_all(binary.parent().context("a program has no folder")?)?;
    let output = Command::new("gcc")
        .args([
            "-O1",
            "-std=gnu17",
            "-Wall",
            "-Wno-unused-result",
            "-pthread",
            // The programs make wrong calls on purpose.
            "-Wno-stringop-overflow",
            "-Wno-stringop-overread",
            "-Wno-nonnull",
        ])
        .args(flags.unwrap_or("-static").split_whitespace())
        .arg("-o")
        .args([binary, source])
        .output()
        .context("cannot start gcc")?;
    if !output.status.success() {
        bail!("gcc: {}", String::from_utf8_lossy(&output.stderr));
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Whether `file` is there and newer than all of `sources` that are there.
fn is_newer(file: &Path, sources: &[&Path]) -> bool {
    let time = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let Some(built) = time(file) else {
        return false;
    };
    sources
        .iter()
        .filter_map(|source| time(source))
        .all(|changed| changed < built)
}
