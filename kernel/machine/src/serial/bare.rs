//! A 16550 UART at the usual place, its receive interrupt on line 4.

use crate::heap::{AllocError, try_arc};

use super::Receiver;
use crate::interrupt;
use crate::x86::port;

const DATA: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = 0x3f9;
const FIFO_CONTROL: u16 = 0x3fa;
const MODEM_CONTROL: u16 = 0x3fc;
const LINE_STATUS: u16 = 0x3fd;
const GSI: u32 = 4;

const RECEIVE_INTERRUPT: u8 = 1;
const FIFO_ON: u8 = 1;
/// DTR, RTS, and OUT2, which lets interrupts out.
const MODEM_READY: u8 = 0b1011;
const RECEIVED: u8 = 1;
/// What a port without a device reads as.
const NOTHING_THERE: u8 = 0xff;
/// Bytes taken in one interrupt at most, so that no device can hold the CPU.
const MOST: usize = 64;

/// Calls `receive`, with interrupts off, with the bytes that arrive.
///
/// # Errors
/// [`AllocError`].
pub fn start_input(receive: Receiver) -> Result<(), AllocError> {
    let drain = move || {
        let mut bytes = [0; MOST];
        let mut len = 0;
        while len < MOST {
            let status = port::in8(LINE_STATUS);
            if status == NOTHING_THERE || status & RECEIVED == 0 {
                break;
            }
            bytes[len] = port::in8(DATA);
            len += 1;
        }
        if len > 0 {
            receive(&bytes[..len]);
        }
    };
    interrupt::register(GSI, try_arc(drain)?)?;
    port::out8(FIFO_CONTROL, FIFO_ON);
    port::out8(MODEM_CONTROL, MODEM_READY);
    port::out8(INTERRUPT_ENABLE, RECEIVE_INTERRUPT);
    Ok(())
}
