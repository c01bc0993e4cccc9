//! Infallible allocation in the kernel's crates: what a user can make grow must be able to fail, so the
//! collections at hand are those of `nacre-collections`, and alloc's are refused.
//!
//! A line may allocate infallibly when it says why: `// infallible: REASON`, on it or just above it.
//! Test code may.

use super::Complaints;

/// Where the fallible collections are made.
const COLLECTIONS: [&str; 2] = ["kernel/collections/", "kernel/machine/src/heap/"];

/// What allocates and cannot fail, as it stands in code.
const INFALLIBLE: [&str; 29] = [
    "alloc::vec",
    "alloc::string",
    "alloc::collections",
    "alloc::format",
    "Arc::new(",
    "Arc::new_cyclic(",
    "Arc::from(",
    "Arc::default(",
    "Rc::new(",
    "Box::new(",
    "Box::from(",
    "Box::pin(",
    "Vec::with_capacity(",
    "String::from(",
    "vec![",
    "format!(",
    ".to_vec()",
    ".to_owned()",
    ".to_string()",
    ".into_boxed_slice()",
    ".into_std()",
    "::into_std",
    ".collect()",
    ".collect::<",
    ".extend_from_slice(",
    ".concat()",
    "alloc::borrow",
    "Arc::make_mut(",
    "handle_alloc_error(",
];

/// The names that a `use alloc::{…}` may not bring in.
const MODULES: [&str; 4] = ["vec", "string", "collections", "format"];

/// The places in `text`, a file of the kernel: line numbers from 1, and what stands there.
fn places(text: &str) -> Vec<(usize, &'static str)> {
    let mut places = Vec::new();
    let mut is_excused = false;
    let mut in_use = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]")
            || line.contains("not(target_os = \"none\")")
        {
            // What follows in a file is tests, or a double for them.
            let rest = text.lines().skip(at + 1);
            if rest
                .take(3)
                .any(|line| line.trim_end().ends_with('{') && line.contains("mod "))
            {
                break;
            }
        }
        let excuse = line
            .split_once("// infallible: ")
            .map(|(_, reason)| reason.trim());
        let has_excuse = excuse.is_some_and(|reason| reason.len() > 5);
        let code = code_of(line);
        in_use |= code.trim_start().starts_with("use alloc::{");
        if !is_excused && !has_excuse {
            let what = INFALLIBLE.into_iter().find(|what| holds(&code, what));
            let imported = || {
                MODULES
                    .into_iter()
                    .find(|name| in_use && imports(&code, name))
            };
            places.extend(what.or_else(imported).map(|what| (at + 1, what)));
        }
        in_use &= !code.contains(';');
        is_excused = has_excuse && code.trim().is_empty();
    }
    places
}

/// `line` without its strings and comments.
fn code_of(line: &str) -> String {
    let mut code: String = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    if let Some(comment) = code.find("//") {
        code.truncate(comment);
    }
    code
}

/// Whether `code` has `what` as words of its own: `try_format!(` is not `format!(`.
fn holds(code: &str, what: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    code.match_indices(what).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| code.as_bytes()[at]);
        let after = code.as_bytes().get(at + what.len()).copied();
        let starts = what.starts_with('.') || !before.is_some_and(is_word);
        let ends = !what.ends_with(char::is_alphanumeric) || !after.is_some_and(is_word);
        starts && ends
    })
}

/// Whether `code`, a line of `use alloc::{…}`, names the module.
fn imports(code: &str, module: &str) -> bool {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .any(|word| word == module)
}

/// Complains of each place in the kernel's files, which are `(path, text)`.
pub(crate) fn check<'f>(files: impl Iterator<Item = (&'f str, &'f str)>) -> Complaints {
    files
        .filter(|(path, _)| is_checked(path))
        .flat_map(|(path, text)| {
            let complain = move |(line, what)| format!("{path}:{line}: `{what}` cannot fail");
            places(text).into_iter().map(complain)
        })
        .collect()
}

/// Whether `path` is a kernel crate's code; not for tests and the doubles that tests use.
fn is_checked(path: &str) -> bool {
    let in_kernel = path.strip_prefix("kernel/");
    let Some((_, rest)) = in_kernel.and_then(|path| path.split_once('/')) else {
        return false;
    };
    let is_test = rest.contains("tests/")
        || ["tests.rs", "testing.rs", "host.rs", "fake.rs"]
            .iter()
            .any(|end| rest.ends_with(end));
    let is_collection = COLLECTIONS.iter().any(|folder| path.starts_with(folder));
    rest.starts_with("src/") && !is_test && !is_collection
}

#[cfg(test)]
mod tests {
    use super::{check, places};

    fn found(code: &str) -> Vec<usize> {
        places(code).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn finds_what_cannot_fail() {
        for line in [
            "use alloc::vec::Vec;",
            "use alloc::{sync::Arc, vec::Vec};",
            "let x = Arc::new(1);",
            "let x = vec![1];",
            "f(&format!(\"{x}\"));",
            "let x: Vec<u8> = y.iter().collect();",
        ] {
            assert_eq!(found(line), [1], "{line}");
        }
        for line in [
            "use alloc::sync::Arc;",
            "use alloc::{boxed::Box, sync::Arc};",
            "let x = try_format!(\"{y}\")?;",
            "// Box::new(1)",
            "let x = \"vec![\";",
            "let x = MyArc::new(1);",
            "let x = y.iter().try_collect()?;",
        ] {
            assert!(found(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn lets_reasons_and_tests_be() {
        let code = "let a = Box::new(1); // infallible: start-up only\n\
                    // infallible: start-up only\nlet b = Box::new(2);\nlet c = Box::new(3);\n\
                    let d = Box::new(4); // infallible:\n\
                    #[cfg(test)]\nmod tests {\nfn f() { Box::new(5); }\n}\n";
        assert_eq!(found(code), [4, 5]);
    }

    #[test]
    fn tests_and_the_collections_themselves_are_not_looked_at() {
        let complaints = |path: &str| check([(path, "Box::new(1);")].into_iter()).len();
        assert_eq!(complaints("kernel/fs/src/a.rs"), 1);
        assert_eq!(complaints("kernel/machine/src/boot/bare.rs"), 1);
        for path in [
            "kernel/fs/src/a/tests.rs",
            "kernel/collections/src/set.rs",
            "kernel/machine/src/heap/vec.rs",
            "agent/src/main.rs",
        ] {
            assert_eq!(complaints(path), 0, "{path}");
        }
    }
}
