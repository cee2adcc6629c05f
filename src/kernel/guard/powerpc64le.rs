//! POWER, little-endian: the ELFv2 calling convention.

/// `blr`
pub const RETURN: &[u8] = &0x4e80_0020_u32.to_le_bytes();

// Bytes into `struct ucontext` (powerpc, asm/ucontext.h: the mask is padded to 128 bytes) and on
// into `struct sigcontext` (asm/sigcontext.h): 64 bytes before gp_regs, which is laid out as
// `struct pt_regs`: r1 is the stack pointer, PT_NIP (asm/ptrace.h) is 32.
pub const STACK_POINTER: usize = 168 + 64 + 8;
pub const PROGRAM_COUNTER: usize = 168 + 64 + 32 * 8;

// Between `start` and `end`, r3 is the number of accesses still to be made: the exit is a bare
// return. Nothing here uses the TOC, so a function's local and global entry points are one.
core::arch::global_asm!(
    r#"
.macro mmap_conformance_guard_function name
    .globl mmap_conformance_guard_\name
    .hidden mmap_conformance_guard_\name
    .type mmap_conformance_guard_\name, @function
    .p2align 4
mmap_conformance_guard_\name:
.endm

// r6: from, r7: to, of which r3 (guarded) and r4 (private) are the source or target; r5: count
.macro mmap_conformance_guard_copy name, from, to, load, store, width
    mmap_conformance_guard_function \name
    mr 6, \from
    mr 7, \to
    mr 3, 5
2:  \load 8, 0(6)
    \store 8, 0(7)
    addi 6, 6, \width
    addi 7, 7, \width
    addi 3, 3, -1
    cmpdi 3, 0
    bne 2b
    blr
.endm

.macro mmap_conformance_guard_saved operation
    .irp n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \operation \n, 32 + 8 * (\n - 14)(1)
    .endr
.endm

    .pushsection .text.mmap_conformance_guard, "ax", @progbits
    mmap_conformance_guard_function start
    mmap_conformance_guard_copy load_8, 3, 4, lbz, stb, 1
    mmap_conformance_guard_copy load_16, 3, 4, lhz, sth, 2
    mmap_conformance_guard_copy load_32, 3, 4, lwz, stw, 4
    mmap_conformance_guard_copy load_64, 3, 4, ld, std, 8
    mmap_conformance_guard_copy store_8, 4, 3, lbz, stb, 1
    mmap_conformance_guard_copy store_16, 4, 3, lhz, sth, 2
    mmap_conformance_guard_copy store_32, 4, 3, lwz, stw, 4
    mmap_conformance_guard_copy store_64, 4, 3, ld, std, 8

    // r3: guarded address, r4: old, r5: new, r6: where the value seen goes
    mmap_conformance_guard_function compare_exchange_32
    mr 7, 3
    li 3, 1
    sync
2:  lwarx 8, 0, 7
    cmpw 8, 4
    bne 3f
    stwcx. 5, 0, 7
    bne 2b
3:  lwsync
    stw 8, 0(6)
    li 3, 0
    blr

    // r3: guarded address, r4: addend, r5: where the value seen goes
    mmap_conformance_guard_function fetch_add_32
    mr 7, 3
    li 3, 1
    sync
2:  lwarx 8, 0, 7
    add 9, 8, 4
    stwcx. 9, 0, 7
    bne 2b
    lwsync
    stw 8, 0(5)
    li 3, 0
    blr

    // r3: first byte, r4: end. 32 bytes is the shortest cache line there has been (Power ISA, book
    // II, dcbst and icbi). It may fault on memory that cannot be read, and is then let go by the
    // exit.
    mmap_conformance_guard_function sync
    clrrdi 5, 3, 5
    mr 6, 5
2:  cmpld 6, 4
    bge 3f
    dcbst 0, 6
    addi 6, 6, 32
    b 2b
3:  sync
4:  cmpld 5, 4
    bge 5f
    icbi 0, 5
    addi 5, 5, 32
    b 4b
5:  sync
    isync

    mmap_conformance_guard_function exit
    blr
    mmap_conformance_guard_function end

    // r3: code, r4: where the stack pointer is kept while the code runs. 32 bytes of frame header,
    // r14 to r31 from 32(r1), the place of the stack pointer at 176(r1). r12 is the address called,
    // which a global entry point reads.
    mmap_conformance_guard_function execute
    mflr 0
    std 0, 16(1)
    mfcr 0
    stw 0, 8(1)
    stdu 1, -192(1)
    std 2, 24(1)
    mmap_conformance_guard_saved std
    std 4, 176(1)
    std 1, 0(4)
    mr 12, 3
    mtctr 12
    bctrl
    li 3, 0
    b 2f

    mmap_conformance_guard_function execute_exit
    li 3, 1
2:  ld 2, 24(1)
    ld 4, 176(1)
    li 5, 0
    std 5, 0(4)
    mmap_conformance_guard_saved ld
    addi 1, 1, 192
    ld 0, 16(1)
    mtlr 0
    lwz 0, 8(1)
    mtcrf 0xff, 0
    blr
    .popsection

.purgem mmap_conformance_guard_saved
.purgem mmap_conformance_guard_copy
.purgem mmap_conformance_guard_function
"#,
    options(raw)
);
