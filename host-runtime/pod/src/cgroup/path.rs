//! `linux.cgroupsPath`: a path as cgroupfs has it, or systemd's `SLICE:PREFIX:NAME`, which becomes the path that
//! systemd would have made of it.

use std::path::{Component, Path, PathBuf};

use super::CgroupError;

/// The path within a hierarchy, without a slash before it.
pub(super) fn parse(given: &str) -> Result<PathBuf, CgroupError> {
    let wrong = |what| CgroupError::Path {
        path: given.to_owned(),
        what,
    };
    let parts: Vec<_> = given.split(':').collect();
    let path = match parts[..] {
        [path] => PathBuf::from(path.trim_start_matches('/')),
        [slice, prefix, name] if !given.contains('/') => {
            let slice = if slice.is_empty() {
                "system.slice"
            } else {
                slice
            };
            let unit = match (prefix, name) {
                (_, "") => return Err(wrong("names no unit in its slice")),
                (_, name) if name.ends_with(".slice") => name.to_owned(),
                ("", name) => format!("{name}.scope"),
                (prefix, name) => format!("{prefix}-{name}.scope"),
            };
            expand(slice)
                .ok_or_else(|| wrong("names no slice"))?
                .join(unit)
        }
        _ => return Err(wrong("is neither a path nor SLICE:PREFIX:NAME")),
    };
    let is_normal = |path: &Path| {
        let mut parts = path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    match path.as_os_str().is_empty() || !is_normal(&path) || given.contains('\0') {
        true => Err(wrong(
            "has to be below the root of the tree, without `.` and `..`",
        )),
        false => Ok(path),
    }
}

/// The path of a slice: `a-b.slice` is in `a.slice`, `-.slice` is the root.
fn expand(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    if name == "-" {
        return Some(path);
    }
    let mut whole = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !whole.is_empty() {
            whole.push('-');
        }
        whole.push_str(part);
        path.push(format!("{whole}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_paths_are_read() {
        for (given, path) in [
            ("/default/a", "default/a"),
            ("k8s.io/a", "k8s.io/a"),
            ("system.slice:docker:1f", "system.slice/docker-1f.scope"),
            (":cri:x", "system.slice/cri-x.scope"),
            ("-.slice::x", "x.scope"),
            (
                "kubepods-besteffort-pod7.slice:cri-containerd:x",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7.slice/cri-containerd-x.scope",
            ),
        ] {
            assert_eq!(parse(given).expect(given), Path::new(path));
        }
        for given in [
            "",
            "/",
            "/a/../b",
            "a:b",
            "a.slice:b:",
            "a:b:c",
            "a--b.slice:c:d",
            "/a:b:c",
            "a\0",
        ] {
            let said = parse(given).expect_err(given).to_string();
            assert!(said.contains("linux.cgroupsPath"), "{said}");
        }
    }
}
