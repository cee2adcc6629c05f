//! RISC-V, 64 bits: the psABI's integer calling convention.

/// `ret`, not compressed, so that it runs on machines without the C extension.
pub const RETURN: &[u8] = &0x0000_8067_u32.to_le_bytes();

// Bytes into `struct ucontext` (riscv, asm/ucontext.h: the mask is padded to 128 bytes, and
// uc_mcontext aligned to 16) and on into `struct user_regs_struct` (asm/ptrace.h): pc, ra, sp.
pub const PROGRAM_COUNTER: usize = 176;
pub const STACK_POINTER: usize = 176 + 2 * 8;

// Between `start` and `end`, a0 is the number of accesses still to be made: the exit is a bare
// return.
core::arch::global_asm!(
    r#"
.option push
.option arch, +a

.macro mmap_conformance_guard_function name
    .globl mmap_conformance_guard_\name
    .hidden mmap_conformance_guard_\name
    .type mmap_conformance_guard_\name, @function
    .p2align 4
mmap_conformance_guard_\name:
.endm

// t0: from, t1: to, of which a0 (guarded) and a1 (private) are the source or target; a2: count
.macro mmap_conformance_guard_copy name, from, to, load, store, width
    mmap_conformance_guard_function \name
    mv t0, \from
    mv t1, \to
    mv a0, a2
2:  \load t2, 0(t0)
    \store t2, 0(t1)
    addi t0, t0, \width
    addi t1, t1, \width
    addi a0, a0, -1
    bnez a0, 2b
    ret
.endm

    .pushsection .text.mmap_conformance_guard, "ax", @progbits
    mmap_conformance_guard_function start
    mmap_conformance_guard_copy load_8, a0, a1, lbu, sb, 1
    mmap_conformance_guard_copy load_16, a0, a1, lhu, sh, 2
    mmap_conformance_guard_copy load_32, a0, a1, lwu, sw, 4
    mmap_conformance_guard_copy load_64, a0, a1, ld, sd, 8
    mmap_conformance_guard_copy store_8, a1, a0, lbu, sb, 1
    mmap_conformance_guard_copy store_16, a1, a0, lhu, sh, 2
    mmap_conformance_guard_copy store_32, a1, a0, lwu, sw, 4
    mmap_conformance_guard_copy store_64, a1, a0, ld, sd, 8

    // a0: guarded address, a1: old, a2: new, a3: where the value seen goes
    mmap_conformance_guard_function compare_exchange_32
    mv t0, a0
    li a0, 1
    sext.w a1, a1
2:  lr.w.aqrl t1, (t0)
    bne t1, a1, 3f
    sc.w.rl t2, a2, (t0)
    bnez t2, 2b
3:  sw t1, 0(a3)
    li a0, 0
    ret

    // a0: guarded address, a1: addend, a2: where the value seen goes
    mmap_conformance_guard_function fetch_add_32
    mv t0, a0
    li a0, 1
    amoadd.w.aqrl t1, a1, (t0)
    sw t1, 0(a2)
    li a0, 0
    ret

    mmap_conformance_guard_function exit
    ret
    mmap_conformance_guard_function end

    // a0: code, a1: where the stack pointer is kept while the code runs
    mmap_conformance_guard_function execute
    addi sp, sp, -112
    sd ra, 0(sp)
    sd s0, 8(sp)
    sd s1, 16(sp)
    sd s2, 24(sp)
    sd s3, 32(sp)
    sd s4, 40(sp)
    sd s5, 48(sp)
    sd s6, 56(sp)
    sd s7, 64(sp)
    sd s8, 72(sp)
    sd s9, 80(sp)
    sd s10, 88(sp)
    sd s11, 96(sp)
    sd a1, 104(sp)
    sd sp, 0(a1)
    jalr ra, 0(a0)
    li a0, 0
    j 2f

    mmap_conformance_guard_function execute_exit
    li a0, 1
2:  ld a1, 104(sp)
    sd zero, 0(a1)
    ld ra, 0(sp)
    ld s0, 8(sp)
    ld s1, 16(sp)
    ld s2, 24(sp)
    ld s3, 32(sp)
    ld s4, 40(sp)
    ld s5, 48(sp)
    ld s6, 56(sp)
    ld s7, 64(sp)
    ld s8, 72(sp)
    ld s9, 80(sp)
    ld s10, 88(sp)
    ld s11, 96(sp)
    addi sp, sp, 112
    ret

    // a0: first byte, a1: end. riscv_flush_icache (259), flags 0: every thread, and every processor
    // this one may move to; fence.i for kernels that lack the call.
    mmap_conformance_guard_function sync
    li a2, 0
    li a7, 259
    ecall
    .4byte 0x0000100f
    ret
    .popsection

.purgem mmap_conformance_guard_copy
.purgem mmap_conformance_guard_function
.option pop
"#,
    options(raw)
);
