//! Options that people know from `docker run` and that `nacre run` does not take: what to do in their place.

/// Options with the same answer, and that answer.
const HINTS: &[(&[&str], &str)] = &[
    (
        &["--mount", "--volumes-from", "--tmpfs"],
        "directories of the host are given by -v HOST:GUEST, or HOST:GUEST:ro",
    ),
    (
        &["--rm"],
        "a run leaves nothing behind that would have to be removed; leave it out",
    ),
    (
        &["-d", "--detach"],
        "nacre run stays with its program; put it into the background with the shell's &",
    ),
    (
        &["--network"],
        "it is --net none, --net user, or --net with the name of a network namespace",
    ),
    (
        &["-P", "--publish-all", "--expose"],
        "name each port, with --net user -p HOST:GUEST",
    ),
    (
        &["--dns", "--link"],
        "with --net user the host looks names up; leave it out",
    ),
    (
        &[
            "--privileged",
            "--cap-add",
            "--cap-drop",
            "--security-opt",
            "--device",
        ],
        "the program has its user's rights in a microVM of its own; leave it out",
    ),
    (
        &["--entrypoint"],
        "nacre runs what stands after the options: -- PROGRAM ARGS",
    ),
    (
        &["--image", "--pull", "--platform"],
        "nacre runs from a directory, --rootfs DIR, and knows no images; unpack one there",
    ),
    (
        &["-h", "--hostname"],
        "the guest's name cannot be set; leave it out",
    ),
    (
        &["--env-file"],
        "set variables one by one, with -e NAME=VALUE",
    ),
    (
        &["--restart", "--init", "--runtime", "--read-only"],
        "it is Docker's and has nothing like it here; leave it out",
    ),
];

/// What to do in place of an option that is not known.
pub(super) fn of(option: &str) -> Option<&'static str> {
    let (name, _) = option.split_once('=').unwrap_or((option, ""));
    let hint = HINTS.iter().find(|(options, _)| options.contains(&name));
    hint.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::{ContextKind, ContextValue, ErrorKind};

    use super::super::args::Args;
    use super::{HINTS, of};

    #[test]
    fn no_option_that_is_taken_has_a_hint_and_others_have() {
        for option in HINTS.iter().flat_map(|(options, _)| *options) {
            // The one that means something else here.
            if *option == "-h" {
                continue;
            }
            let words = ["nacre", "run", option, "x", "--", "true"];
            let error = Args::try_parse_from(words).expect_err(option);
            assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{error}");
            let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
                panic!("{error}")
            };
            assert!(of(named).is_some(), "{named}");
        }
        assert_eq!(of("--frob"), None);
        assert!(of("--network=host").is_some());
    }

    #[test]
    fn dockers_short_names_are_taken_where_the_meaning_is_the_same() {
        let words = "nacre run --rootfs / -m 1G -w /etc -v /a:/b -it -e A=1 -u 7 --name x -- true";
        Args::try_parse_from(words.split(' ')).expect("arguments");
    }
}
