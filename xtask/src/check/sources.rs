//! Rules about source files: a header that says what the file is for, a size that can be read,
//! `unsafe` only where it belongs.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Complaints, allocation};
use crate::shell;
use crate::workspace::Workspace;

/// From this many lines on a file should be split.
const LONG: usize = 400;
/// From this many lines on it must be.
const TOO_LONG: usize = 800;

/// Where `unsafe` may be: the kernel's one crate for it, and one module each of the jail, the two VMMs, the pods' networks and the agent.
const UNSAFE_PLACES: [&str; 8] = [
    "kernel/machine/",
    "host-runtime/jail/src/sys.rs",
    "host-runtime/vmm/src/sys.rs",
    "host-runtime/vmm/src/sys/",
    "host-runtime/qemu/src/sys.rs",
    "host-runtime/net/src/sys.rs",
    "agent/src/sys.rs",
    "agent/src/sys/",
];

/// Looks at every Rust file that git knows or would add.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Complaints> {
    let mut git = std::process::Command::new("git");
    git.args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let files = shell::output(git.current_dir(&workspace.root))?;
    let mut complaints = Vec::new();
    let mut kernel = Vec::new();
    for file in files.lines() {
        let path = workspace.root.join(file);
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        complaints.extend(check_file(file, &text));
        if file.starts_with("kernel/") {
            kernel.push((file, text));
        }
    }
    let kernel = kernel.iter().map(|(file, text)| (*file, text.as_str()));
    complaints.extend(allocation::check(kernel));
    Ok(complaints)
}

fn check_file(file: &str, text: &str) -> Complaints {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{file}: does not open with `//!` and what it is for"
        ));
    }
    let lines = text.lines().count();
    if lines > TOO_LONG {
        complaints.push(format!("{file}: {lines} lines, of at most {TOO_LONG}"));
    } else if lines > LONG && !is_test(file) {
        println!("note: {file}: {lines} lines, better at most {LONG}");
    }
    if !UNSAFE_PLACES.iter().any(|place| file.starts_with(place)) {
        let lines: Vec<&str> = text.lines().collect();
        let is_unsafe = |at: &usize| mentions_unsafe(lines[*at]) && !opens_sys(file, &lines[*at..]);
        if let Some(at) = (0..lines.len()).find(is_unsafe) {
            complaints.push(format!("{file}:{}: `unsafe` does not belong here", at + 1));
        }
    }
    complaints
}

fn is_test(file: &str) -> bool {
    file.contains("/tests/")
        || Path::new(file)
            .file_name()
            .is_some_and(|name| name == "tests.rs")
}

/// Whether `lines` start with the attribute that lets a program's `sys` module in.
fn opens_sys(file: &str, lines: &[&str]) -> bool {
    let crates = [
        "host-runtime/jail/src/",
        "host-runtime/vmm/src/",
        "host-runtime/qemu/src/",
        "host-runtime/net/src/",
        "agent/src/",
    ];
    let has_sys = crates.iter().any(|crate_| file.starts_with(crate_));
    let item = lines.iter().find(|line| line.contains("mod "));
    has_sys && lines[0].starts_with("#[") && item.is_some_and(|item| item.ends_with("mod sys;"))
}

/// Whether the code of `line`, comments and strings left out, has the keyword or lets it in.
fn mentions_unsafe(line: &str) -> bool {
    // Built from two parts, or this file would find itself.
    let lets_in = [
        concat!("allow(un", "safe_code"),
        concat!("expect(un", "safe_code"),
    ];
    if lets_in.iter().any(|attribute| line.contains(attribute)) {
        return true;
    }
    let code = line.split("//").next().unwrap_or_default();
    let outside_strings = code.split('"').step_by(2);
    let is_word_byte = |byte: char| byte.is_alphanumeric() || byte == '_';
    outside_strings
        .flat_map(|part| part.split(|byte: char| !is_word_byte(byte)))
        .any(|word| word == concat!("un", "safe"))
}

#[cfg(test)]
mod tests {
    use super::check_file;

    fn with_header(code: &str) -> String {
        format!("//! A file.\n{code}\n")
    }

    #[test]
    fn wants_a_header() {
        assert_eq!(check_file("a.rs", "fn main() {}").len(), 1);
        assert!(check_file("a.rs", &with_header("fn main() {}")).is_empty());
    }

    #[test]
    fn refuses_very_long_files() {
        assert!(check_file("a.rs", &with_header(&"\n".repeat(700))).is_empty());
        assert_eq!(check_file("a.rs", &with_header(&"\n".repeat(900))).len(), 1);
    }

    #[test]
    fn finds_the_keyword_only_in_code() {
        let keyword = concat!("un", "safe");
        for code in [
            format!("{keyword} {{ f() }}"),
            format!("pub {keyword} fn f()"),
        ] {
            assert_eq!(
                check_file("kernel/fs/src/a.rs", &with_header(&code)).len(),
                1,
                "{code}"
            );
            assert!(check_file("kernel/machine/src/a.rs", &with_header(&code)).is_empty());
            assert!(check_file("agent/src/sys.rs", &with_header(&code)).is_empty());
        }
        for code in [
            format!("// {keyword}"),
            format!("\"{keyword} word\""),
            format!("{keyword}_code"),
        ] {
            assert!(
                check_file("kernel/fs/src/a.rs", &with_header(&code)).is_empty(),
                "{code}"
            );
        }
        let attribute = format!("#![allow({keyword}_code)]");
        assert_eq!(
            check_file("kernel/fs/src/a.rs", &with_header(&attribute)).len(),
            1
        );
    }
}
