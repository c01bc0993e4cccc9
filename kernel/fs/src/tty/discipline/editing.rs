//! Editing of the line that is being typed, in canonical mode: characters, words and the line rubbed out or shown anew.

use abi::raw::general as raw;

use super::Discipline;
use crate::tty::output::Output;

impl Discipline {
    /// Where the last character of the line being edited starts. `None` if there is none, or only what follows the first
    /// byte of one: that is not erased in part.
    pub(super) fn last_character(&self) -> Option<usize> {
        let is_utf8 = self.termios.has_input(raw::IUTF8);
        let is_start = |byte: &u8| !is_utf8 || byte & 0xc0 != 0x80;
        self.edit.iter().rposition(is_start)
    }

    /// Erases the last character; whether there was one.
    pub(super) fn erase_character(&mut self, echo: &mut Output) -> bool {
        let Some(at) = self.last_character() else {
            return false;
        };
        let last = self.edit[at];
        self.edit.truncate(at);
        if self.termios.has_local(raw::ECHO) {
            self.screen.rub_out(last, &self.edit, &self.termios, echo);
        }
        true
    }

    pub(super) fn erase_word(&mut self, echo: &mut Output) {
        // Letters of Latin 1 and the first bytes of UTF-8 characters, as Linux's isalnum() has it.
        let is_word = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || byte == b'_'
                || byte >= 0xc0 && byte != 0xd7 && byte != 0xf7
        };
        let mut in_word = false;
        while let Some(last) = self.last_character() {
            if is_word(self.edit[last]) {
                in_word = true;
            } else if in_word {
                break;
            }
            self.erase_character(echo);
        }
    }

    pub(super) fn kill_line(&mut self, byte: u8, echo: &mut Output) {
        let visually = [raw::ECHO, raw::ECHOE, raw::ECHOK, raw::ECHOKE];
        if visually.iter().all(|flag| self.termios.has_local(*flag)) {
            while self.erase_character(echo) {}
            return;
        }
        if self.edit.is_empty() {
            return;
        }
        self.edit.clear();
        self.echo(byte, echo);
        if self.termios.has_local(raw::ECHO) && self.termios.has_local(raw::ECHOK) {
            self.screen.output(b'\n', &self.termios, echo);
        }
    }

    pub(super) fn reprint(&mut self, byte: u8, echo: &mut Output) {
        self.screen.echo(byte, &self.termios, echo);
        self.screen.output(b'\n', &self.termios, echo);
        for byte in &self.edit {
            self.screen.echo(*byte, &self.termios, echo);
        }
    }
}
