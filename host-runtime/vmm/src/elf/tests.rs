//! Kernel images made by hand: right ones, and every way of being broken that has a sentence.

use super::*;

#[path = "../../tests/support/elf_image.rs"]
mod elf_image;
use elf_image::image;

#[test]
fn an_image_is_laid_out_and_relocated() {
    let file = image(&[0x90; 24], 4, &[(8, R_X86_64_RELATIVE, 0x10)]);
    let mut image = KernelImage::parse(&file).expect("it is right");
    assert_eq!(image.entry, 4);
    assert_eq!(image.memory_size, 0x4000);
    image.relocate(0xffff_ffff_8000_0000);
    assert_eq!(u64_at(&image.bytes, 8), Ok(0xffff_ffff_8000_0010));
    assert_eq!(image.bytes[7], 0x90);
}

#[test]
fn pages_that_no_relocation_changes_may_be_mapped() {
    let segment = |vaddr, offset, file_size| Segment {
        kind: PT_LOAD,
        offset,
        vaddr,
        file_size,
        memory_size: file_size,
    };
    let piece = |at: u64, offset: u64, pages: u64| Piece {
        at: at * PAGE,
        offset: offset * PAGE,
        length: pages * PAGE,
    };
    let loads = [
        segment(0, 0, 20 * PAGE + 7),
        // Not at the same place of a page as in the file.
        segment(30 * PAGE, 31 * PAGE + 8, 100 * PAGE),
        segment(200 * PAGE + 16, 140 * PAGE + 16, 100 * PAGE),
    ];
    // The word at the end of page 219 reaches into page 220.
    let relocations = [(220 * PAGE - 4, 0), (290 * PAGE, 0)];
    assert_eq!(
        unchanged(loads.iter(), &relocations),
        [piece(0, 0, 20), piece(201, 141, 18), piece(221, 161, 69)]
    );
    assert!(unchanged([segment(0, 0, 15 * PAGE)].iter(), &[]).is_empty());
}

#[test]
fn what_is_not_elf_is_named() {
    assert_eq!(KernelImage::parse(b"#!/bin/sh\n"), Err(KernelFault::NotElf));
    assert_eq!(KernelImage::parse(b"\x7fE"), Err(KernelFault::NotElf));
    let mut file = image(&[0; 8], 0, &[]);
    file[4] = 1;
    assert_eq!(KernelImage::parse(&file), Err(KernelFault::WrongMachine));
    let mut file = image(&[0; 8], 0, &[]);
    file[16] = 2;
    assert_eq!(KernelImage::parse(&file), Err(KernelFault::NotPie(2)));
}

#[test]
fn every_truncation_is_refused() {
    let file = image(&[0x90; 24], 4, &[(8, R_X86_64_RELATIVE, 0x10)]);
    for length in 0..file.len() {
        assert!(
            KernelImage::parse(&file[..length]).is_err(),
            "{length} bytes were accepted"
        );
    }
}

#[test]
fn foreign_relocations_and_entries_are_refused() {
    let file = image(&[0; 24], 0, &[(8, 6, 0)]);
    assert_eq!(KernelImage::parse(&file), Err(KernelFault::Relocation(6)));
    let file = image(&[0; 24], 0, &[(0x10_0000, R_X86_64_RELATIVE, 0)]);
    assert_eq!(
        KernelImage::parse(&file),
        Err(KernelFault::Truncated("a relocated word"))
    );
    let file = image(&[0; 24], 0x10_0000, &[]);
    assert!(matches!(
        KernelImage::parse(&file),
        Err(KernelFault::Malformed(_))
    ));
}

#[test]
fn segments_at_one_place_are_refused() {
    let mut file = image(&[0x90; 24], 4, &[]);
    // The second program header, once the dynamic section's, loads what the first does.
    file[64 + 56] = 1;
    assert_eq!(
        KernelImage::parse(&file),
        Err(KernelFault::Malformed(
            "its segments overlap or are not in order"
        ))
    );
}

#[test]
fn changed_bytes_never_panic() {
    let file = image(&[0x90; 24], 4, &[(8, R_X86_64_RELATIVE, 0x10)]);
    for at in 0..file.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[at] = value;
            if let Ok(mut image) = KernelImage::parse(&changed) {
                image.relocate(0xffff_ffff_8000_0000);
            }
        }
    }
}
