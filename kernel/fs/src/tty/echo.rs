//! Where the cursor is, and what echo and output processing put on the screen.

use abi::raw::general as raw;

use super::output::Output;
use super::termios::Termios;

/// The cursor, as far as tabs and erasing need to know.
#[derive(Debug, Default)]
pub(super) struct Screen {
    column: usize,
    /// The column at which the line being edited starts.
    line_start: usize,
    /// Something of the line being edited has been echoed.
    in_line: bool,
}

impl Screen {
    /// The line that was edited is complete.
    pub(super) fn start_line(&mut self) {
        self.in_line = false;
    }

    /// Output processing of one byte (`c_oflag`).
    pub(super) fn output(&mut self, byte: u8, termios: &Termios, to: &mut Output) {
        if !termios.has_output(raw::OPOST) {
            to.push(byte);
            return;
        }
        match byte {
            b'\n' => {
                if termios.has_output(raw::ONLCR) {
                    to.push(b'\r');
                    self.column = 0;
                } else if termios.has_output(raw::ONLRET) {
                    self.column = 0;
                }
                to.push(b'\n');
            }
            b'\r' if termios.has_output(raw::ONOCR) && self.column == 0 => {}
            b'\r' if termios.has_output(raw::OCRNL) => {
                if termios.has_output(raw::ONLRET) {
                    self.column = 0;
                }
                to.push(b'\n');
            }
            b'\r' => {
                self.column = 0;
                to.push(byte);
            }
            b'\t' => {
                let width = 8 - self.column % 8;
                self.column += width;
                if termios.oflag & raw::TABDLY == raw::XTABS {
                    for _ in 0..width {
                        to.push(b' ');
                    }
                } else {
                    to.push(byte);
                }
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                to.push(byte);
            }
            _ => {
                let byte = if termios.has_output(raw::OLCUC) {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                };
                self.column += width_of(byte, termios);
                to.push(byte);
            }
        }
    }

    /// Echoes a typed byte, control characters as `^X` with ECHOCTL.
    pub(super) fn echo(&mut self, byte: u8, termios: &Termios, to: &mut Output) {
        if !self.in_line {
            self.in_line = true;
            self.line_start = self.column;
        }
        if termios.has_local(raw::ECHOCTL) && is_shown_with_caret(byte) {
            to.extend(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.output(byte, termios, to);
        }
    }

    /// Takes `erased`, the last character of a line of which `before` is left, off the screen.
    pub(super) fn rub_out(
        &mut self,
        erased: u8,
        before: &[u8],
        termios: &Termios,
        to: &mut Output,
    ) {
        let width = if erased == b'\t' {
            let start = before
                .iter()
                .fold(self.line_start, |column, byte| match byte {
                    b'\t' => (column / 8 + 1) * 8,
                    byte => column + echo_width(*byte, termios),
                });
            8 - start % 8
        } else {
            echo_width(erased, termios)
        };
        for _ in 0..width {
            if erased == b'\t' {
                to.push(0x08);
            } else {
                to.extend(b"\x08 \x08");
            }
        }
        self.column = self.column.saturating_sub(width);
    }
}

const fn is_shown_with_caret(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn echo_width(byte: u8, termios: &Termios) -> usize {
    if is_shown_with_caret(byte) {
        return if termios.has_local(raw::ECHOCTL) {
            2
        } else {
            0
        };
    }
    width_of(byte, termios)
}

/// Columns of a byte that is shown as it is; continuation bytes of UTF-8 have none.
fn width_of(byte: u8, termios: &Termios) -> usize {
    let is_continuation = termios.has_input(raw::IUTF8) && byte & 0xc0 == 0x80;
    usize::from(byte >= 0x20 && byte != 0x7f && !is_continuation)
}
