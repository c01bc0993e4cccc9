//! Lines, echo and signals, compared with what Linux's N_TTY does.

use super::*;
use std::vec::Vec;

struct Typed {
    discipline: Discipline,
    echo: Output,
    outcomes: Vec<Outcome>,
}

fn typing(discipline: Discipline, keys: &[u8]) -> Typed {
    let mut typed = Typed {
        discipline,
        echo: Output::new(1 << 16),
        outcomes: Vec::new(),
    };
    for key in keys {
        let outcome = typed.discipline.receive(*key, &mut typed.echo);
        typed.outcomes.push(outcome);
    }
    typed
}

fn take(discipline: &mut Discipline, max: usize) -> collections::Vec<u8> {
    let mut taken = collections::Vec::try_with_capacity(max).unwrap();
    discipline.take(max, &mut taken);
    taken
}

fn raw_mode() -> Discipline {
    let mut discipline = Discipline::new();
    let mut termios = discipline.termios;
    termios.lflag = 0;
    termios.iflag = 0;
    discipline.set_termios(&termios);
    discipline
}

#[test]
fn a_line_becomes_readable_with_its_end() {
    let mut typed = typing(Discipline::new(), b"ls -l");
    assert!(!typed.discipline.has_input() && typed.discipline.available() == 0);
    assert_eq!(
        typed.discipline.receive(b'\r', &mut typed.echo),
        Outcome::Readable
    );
    assert_eq!(typed.echo.to_vec(), b"ls -l\r\n");
    assert_eq!(typed.discipline.available(), 6);
    assert_eq!(take(&mut typed.discipline, 4), b"ls -");
    assert_eq!(take(&mut typed.discipline, 100), b"l\n");
    assert!(!typed.discipline.has_input());
}

#[test]
fn reads_stop_at_the_end_of_a_line() {
    let mut typed = typing(Discipline::new(), b"one\ntwo\n");
    assert_eq!(take(&mut typed.discipline, 100), b"one\n");
    assert_eq!(take(&mut typed.discipline, 100), b"two\n");
}

#[test]
fn end_of_file_ends_a_read_and_is_not_read() {
    let mut typed = typing(Discipline::new(), b"abc\x04\x04x\n");
    assert_eq!(take(&mut typed.discipline, 100), b"abc");
    assert_eq!(take(&mut typed.discipline, 100), b"");
    assert_eq!(take(&mut typed.discipline, 100), b"x\n");
    let mut exact = typing(Discipline::new(), b"abc\x04");
    assert_eq!(take(&mut exact.discipline, 3), b"abc");
    assert!(!exact.discipline.has_input());
}

#[test]
fn erasing_rubs_out_what_was_echoed() {
    let mut typed = typing(Discipline::new(), b"ab\x7f\x01\x7f");
    assert_eq!(typed.echo.to_vec(), b"ab\x08 \x08^A\x08 \x08\x08 \x08");
    typed.discipline.receive(b'\n', &mut typed.echo);
    assert_eq!(take(&mut typed.discipline, 100), b"a\n");

    let typed = typing(Discipline::new(), b"a\t\x7f");
    assert_eq!(typed.echo.to_vec(), b"a\t\x08\x08\x08\x08\x08\x08\x08");

    let mut words = typing(Discipline::new(), b"one two, \x17\n");
    assert_eq!(take(&mut words.discipline, 100), b"one \n");
    let mut killed = typing(Discipline::new(), b"gone\x15kept\n");
    assert_eq!(take(&mut killed.discipline, 100), b"kept\n");
}

#[test]
fn utf8_is_erased_by_character() {
    let mut discipline = Discipline::new();
    discipline.termios.iflag |= raw::IUTF8;
    let mut typed = typing(discipline, "aé\x7f\n".as_bytes());
    assert_eq!(take(&mut typed.discipline, 100), b"a\n");
    assert_eq!(typed.echo.to_vec(), "aé\x08 \x08\r\n".as_bytes());
}

#[test]
fn signal_characters_flush_and_signal() {
    for (key, signal, shown) in [
        (3, SIGINT, b"^C"),
        (0x1c, SIGQUIT, b"^\\"),
        (0x1a, SIGTSTP, b"^Z"),
    ] {
        let typed = typing(Discipline::new(), &[b'x', b'\n', b'y', key]);
        assert_eq!(typed.outcomes.last(), Some(&Outcome::Signal(signal)));
        assert!(typed.echo.to_vec().ends_with(shown));
        assert!(!typed.discipline.has_input());
    }
    let mut quiet = Discipline::new();
    quiet.termios.lflag &= !raw::ISIG;
    let mut typed = typing(quiet, b"a\x03\n");
    assert_eq!(take(&mut typed.discipline, 9), b"a\x03\n");
}

#[test]
fn the_next_byte_can_be_taken_literally() {
    let mut typed = typing(Discipline::new(), b"\x16\x03\x16\x7f\n");
    assert_eq!(take(&mut typed.discipline, 9), b"\x03\x7f\n");
}

#[test]
fn raw_mode_passes_everything() {
    let mut typed = typing(raw_mode(), b"\x03\r\x7f\x04");
    assert!(typed.echo.is_empty());
    assert_eq!(take(&mut typed.discipline, 3), b"\x03\r\x7f");
    assert_eq!(take(&mut typed.discipline, 3), b"\x04");
}

#[test]
fn half_a_line_survives_a_change_of_mode() {
    let mut typed = typing(Discipline::new(), b"half");
    typed.discipline.set_termios(&raw_mode().termios);
    assert_eq!(take(&mut typed.discipline, 2), b"ha");
    typed.discipline.set_termios(&Termios::default());
    assert!(typed.discipline.has_input());
    assert_eq!(take(&mut typed.discipline, 9), b"lf");
}

#[test]
fn input_without_end_is_bounded() {
    let mut typed = typing(Discipline::new(), &[b'a'; INPUT_MAX * 2]);
    assert_eq!(
        typed.discipline.receive(b'\n', &mut typed.echo),
        Outcome::Readable
    );
    assert_eq!(take(&mut typed.discipline, INPUT_MAX * 2).len(), INPUT_MAX);
    let typed = typing(raw_mode(), &[b'a'; INPUT_MAX - 1]);
    assert_eq!(typed.discipline.available(), INPUT_MAX - 1);
    assert!(!typed.discipline.accepts());
}

#[test]
fn complete_lines_fill_the_queue_but_one_line_can_always_be_ended() {
    let mut typed = typing(Discipline::new(), &[b'a'; INPUT_MAX - 2]);
    typed.discipline.receive(b'\n', &mut typed.echo);
    assert!(!typed.discipline.accepts());
    assert_eq!(take(&mut typed.discipline, INPUT_MAX).len(), INPUT_MAX - 1);
    assert!(typed.discipline.accepts());
    let typed = typing(Discipline::new(), &[b'a'; INPUT_MAX * 2]);
    assert!(typed.discipline.accepts());
}

#[test]
fn stop_and_start_are_not_input() {
    let typed = typing(Discipline::new(), b"\x13");
    assert!(typed.discipline.is_stopped);
    let mut typed = typing(typed.discipline, b"\x11a\n");
    assert!(!typed.discipline.is_stopped);
    assert_eq!(take(&mut typed.discipline, 9), b"a\n");
}

#[test]
fn output_processing_follows_the_flags() {
    let mut discipline = Discipline::new();
    let mut output = Output::new(100);
    b"a\nb"
        .iter()
        .for_each(|byte| discipline.process_output(*byte, &mut output));
    assert_eq!(output.to_vec(), b"a\r\nb");
    discipline.termios.oflag |= raw::XTABS;
    output.clear();
    b"\tx"
        .iter()
        .for_each(|byte| discipline.process_output(*byte, &mut output));
    assert_eq!(output.to_vec(), b"       x");
    discipline.termios.oflag = 0;
    output.clear();
    discipline.process_output(b'\n', &mut output);
    assert_eq!(output.to_vec(), b"\n");
}
