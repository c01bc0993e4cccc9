//! The command line that containerd writes: Go's flag style, then one action.

use std::ffi::OsString;
use std::path::PathBuf;

use super::ShimError;

/// What the shim is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Leave a daemon behind and print its address.
    Start,
    /// Tidy up after a daemon that died.
    Delete,
    /// Be the daemon: no action word, the listening socket on descriptor 0.
    Serve,
    /// Print the version.
    Version,
    /// Print what this runtime is and can do, for programs.
    Info,
}

/// The command line, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) namespace: String,
    pub(super) id: String,
    /// containerd's own socket, from which ours is named.
    pub(super) address: String,
    pub(super) bundle: PathBuf,
    pub(super) debug: bool,
    pub(super) action: Action,
}

impl Args {
    /// Reads `-name value`, `-name=value` and `--name` forms; flags that only other shims need are
    /// read and left.
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, ShimError> {
        let mut args = Self {
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: PathBuf::new(),
            debug: false,
            action: Action::Serve,
        };
        let mut words = words.into_iter().map(text);
        while let Some(word) = words.next() {
            let word = word?;
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                args.action = action(&word)?;
                continue;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "debug" => args.debug = inline.is_none_or(|value| value == "true"),
                "v" | "version" => args.action = Action::Version,
                "info" => args.action = Action::Info,
                _ => args.set(name, value(name, inline, &mut words)?)?,
            }
        }
        args.check()?;
        Ok(args)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ShimError> {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "bundle" => self.bundle = value.into(),
            "publish-binary" | "socket" => {}
            _ => return Err(ShimError::Usage(format!("the flag -{name} is not known"))),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ShimError> {
        if matches!(self.action, Action::Version | Action::Info) {
            return Ok(());
        }
        for (flag, value) in [("namespace", &self.namespace), ("id", &self.id)] {
            // Both become parts of paths.
            if value.is_empty() || value.contains(['/', '\0']) || value.starts_with('.') {
                return Err(ShimError::Usage(format!(
                    "-{flag} must name a container, and {value:?} does not"
                )));
            }
        }
        Ok(())
    }
}

fn action(word: &str) -> Result<Action, ShimError> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        _ => Err(ShimError::Usage(format!(
            "the action {word:?} is neither start nor delete"
        ))),
    }
}

fn text(word: OsString) -> Result<String, ShimError> {
    word.into_string()
        .map_err(|word| ShimError::Usage(format!("the argument {} is not UTF-8", word.display())))
}

fn value(
    name: &str,
    inline: Option<String>,
    rest: &mut impl Iterator<Item = Result<String, ShimError>>,
) -> Result<String, ShimError> {
    match inline {
        Some(value) => Ok(value),
        None => rest
            .next()
            .unwrap_or_else(|| Err(ShimError::Usage(format!("the flag -{name} has no value")))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Args};

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_containerd_writes() {
        let args = parse(
            "-namespace default -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 -debug start",
        )
        .unwrap();
        assert_eq!(args.action, Action::Start);
        assert_eq!(
            (&*args.namespace, &*args.id, &*args.address, args.debug),
            ("default", "c1", "/run/c.sock", true)
        );
        let args = parse("--namespace=k8s.io -id=c2 -bundle /b delete").unwrap();
        assert_eq!(args.action, Action::Delete);
        assert_eq!(args.bundle, std::path::Path::new("/b"));
    }

    #[test]
    fn asks_of_the_runtime_need_no_container() {
        // As containerd 2 writes it.
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn names_what_it_cannot_use() {
        assert!(
            parse("-namespace default -id c1 stop")
                .unwrap_err()
                .contains("\"stop\"")
        );
        assert!(
            parse("-namespace default -id ../c1")
                .unwrap_err()
                .contains("../c1")
        );
        assert!(parse("-namespace default").unwrap_err().contains("-id"));
        assert!(parse("-namespace").unwrap_err().contains("no value"));
        assert!(parse("-frob x").unwrap_err().contains("-frob"));
    }
}
