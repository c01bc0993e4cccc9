//! The kernel's command line, read as Linux reads its own: what the kernel does not know is PID 1's.
//!
//! `KEY=VALUE` becomes environment, a bare word an argument, everything behind `--` arguments. Words with a dot
//! in their key are for a part of the kernel and are passed on to nobody.

// infallible: start-up
use alloc::vec::Vec;

const DEFAULT_INIT: &str = "/init";
const DEFAULT_CONSOLE: &str = "ttyS0";
/// The environment that Linux gives to PID 1.
const DEFAULT_ENVIRONMENT: [&str; 2] = ["HOME=/", "TERM=linux"];
/// Bare words that are Linux's, and that mean nothing here.
const IGNORED: [&str; 4] = ["ro", "rw", "debug", "nokaslr"];
/// `KEY=` words that are the kernel's.
const IGNORED_KEYS: [&str; 5] = ["root", "panic", "reboot", "loglevel", "mitigations"];

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine<'a> {
    /// PID 1's program.
    pub(crate) init: &'a str,
    /// What stands behind /dev/console: `hvc0` or `ttyS0`.
    pub(crate) console: &'a str,
    /// Whether the log is to have only what an operator must know.
    pub(crate) is_quiet: bool,
    /// What may be used of the memory that there is, as the word says it.
    pub(crate) memory: Option<&'a str>,
    /// Whether CPUs that do not get on are reported.
    pub(crate) has_watchdog: bool,
    /// argv of PID 1, its own name first.
    pub(crate) args: Vec<&'a str>,
    /// envp of PID 1.
    pub(crate) environment: Vec<&'a str>,
}

impl<'a> CommandLine<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut line = Self {
            init: DEFAULT_INIT,
            console: DEFAULT_CONSOLE,
            is_quiet: false,
            memory: None,
            has_watchdog: cfg!(feature = "checks"),
            args: Vec::new(),
            environment: DEFAULT_ENVIRONMENT.to_vec(), // infallible: start-up
        };
        let mut arguments = Vec::new();
        let mut words = Words(text);
        for word in words.by_ref().take_while(|word| *word != "--") {
            line.take(word, &mut arguments);
        }
        arguments.extend(words);
        line.args.push(line.init);
        line.args.extend(arguments);
        line
    }

    fn take(&mut self, word: &'a str, arguments: &mut Vec<&'a str>) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(unquoted(value))),
            None => (word, None),
        };
        match (key, value) {
            ("init", Some(path)) => self.init = path,
            ("console", Some(device)) => {
                self.console = device.split_once(',').map_or(device, |(device, _)| device);
            }
            ("quiet", None) => self.is_quiet = true,
            ("nacre.memory", Some(size)) => self.memory = Some(size),
            ("nacre.watchdog", None) => self.has_watchdog = true,
            (key, Some(_)) if IGNORED_KEYS.contains(&key) => {}
            (key, _) if key.contains('.') => {}
            (key, None) if IGNORED.contains(&key) => {}
            (_, None) => arguments.push(unquoted(word)),
            (key, Some(_)) => {
                let is_same = |old: &&str| old.split_once('=').is_some_and(|(name, _)| name == key);
                self.environment.retain(|old| !is_same(old));
                self.environment.push(unquoted(word));
            }
        }
    }
}

/// A number of bytes, or of KiB, MiB or GiB with `K`, `M` or `G` behind it.
pub(crate) fn size_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The text without the quotes around it.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

/// Words between white space; a double quote protects white space up to the next one.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let mut is_quoted = false;
        let is_end = |character: char| {
            is_quoted ^= character == '"';
            !is_quoted && character.is_ascii_whitespace()
        };
        let end = text.find(is_end).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, size_bytes};

    #[test]
    fn unknown_words_are_for_init() {
        let line = CommandLine::parse("quiet nacre.cpus=4 HOME=/root A=\"b c\" single -- x --y");
        assert_eq!(line.init, "/init");
        assert_eq!(line.args, ["/init", "single", "x", "--y"]);
        assert_eq!(line.environment[..2], ["TERM=linux", "HOME=/root"]);
    }

    #[test]
    fn the_kernels_own_words_stay_here() {
        let line = CommandLine::parse(
            "virtio_mmio.device=4K@0xd0000000:5 console=hvc0,115200 init=/bin/sh panic=-1",
        );
        assert_eq!((line.init, line.console), ("/bin/sh", "hvc0"));
        assert_eq!(line.args, ["/bin/sh"]);
        assert_eq!(line.environment, ["HOME=/", "TERM=linux"]);
    }

    #[test]
    fn sizes_have_units() {
        let line = CommandLine::parse("nacre.memory=64M x");
        assert_eq!(line.memory.and_then(size_bytes), Some(64 << 20));
        assert_eq!(line.args, ["/init", "x"]);
        assert_eq!(size_bytes("4096"), Some(4096));
        assert_eq!(size_bytes("3G"), Some(3 << 30));
        for wrong in ["", "M", "-1K", "1MB", "1.5G", "99999999999999G", "é"] {
            assert_eq!(size_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_empty_line_has_defaults() {
        let line = CommandLine::parse("");
        assert_eq!((line.init, line.console), ("/init", "ttyS0"));
    }

    #[test]
    fn noise_ends_up_in_words() {
        const PIECES: [&str; 14] = [
            "init=", "console=", "quiet", "\"", "=", ",", ".", " ", "--", "-- ", "a", "é", "\t",
            "root",
        ];
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                text.push_str(PIECES[(seed >> 32) as usize % PIECES.len()]);
            }
            let line = CommandLine::parse(&text);
            assert_eq!(line.args[0], line.init, "{text:?}");
            let are_pairs = line.environment.iter().all(|entry| entry.contains('='));
            assert!(are_pairs, "{text:?}");
        }
    }
}
