//! AArch64: AAPCS64 calling convention.

/// `ret`
pub const RETURN: &[u8] = &0xd65f_03c0_u32.to_le_bytes();

// Bytes into `struct ucontext` (arm64, asm/ucontext.h: the mask is padded to 128 bytes, and
// uc_mcontext aligned to 16) and on into `struct sigcontext` (asm/sigcontext.h): fault_address, x0
// to x30, sp, pc.
pub const STACK_POINTER: usize = 176 + 8 + 31 * 8;
pub const PROGRAM_COUNTER: usize = 176 + 8 + 32 * 8;

// Between `start` and `end`, x0 is the number of accesses still to be made: the exit is a bare
// return.
core::arch::global_asm!(
    r#"
.macro mmap_conformance_guard_function name
    .globl mmap_conformance_guard_\name
    .hidden mmap_conformance_guard_\name
    .type mmap_conformance_guard_\name, @function
    .p2align 4
mmap_conformance_guard_\name:
.endm

// x0: guarded address, x1: private address, x2: count
.macro mmap_conformance_guard_load name, load, store, register, width
    mmap_conformance_guard_function \name
    mov x3, x0
    mov x0, x2
2:  \load \register, [x3], #\width
    \store \register, [x1], #\width
    subs x0, x0, #1
    b.ne 2b
    ret
.endm

.macro mmap_conformance_guard_store name, load, store, register, width
    mmap_conformance_guard_function \name
    mov x3, x0
    mov x0, x2
2:  \load \register, [x1], #\width
    \store \register, [x3], #\width
    subs x0, x0, #1
    b.ne 2b
    ret
.endm

    .pushsection .text.mmap_conformance_guard, "ax", @progbits
    mmap_conformance_guard_function start
    mmap_conformance_guard_load load_8, ldrb, strb, w4, 1
    mmap_conformance_guard_load load_16, ldrh, strh, w4, 2
    mmap_conformance_guard_load load_32, ldr, str, w4, 4
    mmap_conformance_guard_load load_64, ldr, str, x4, 8
    mmap_conformance_guard_store store_8, ldrb, strb, w4, 1
    mmap_conformance_guard_store store_16, ldrh, strh, w4, 2
    mmap_conformance_guard_store store_32, ldr, str, w4, 4
    mmap_conformance_guard_store store_64, ldr, str, x4, 8

    // x0: guarded address, w1: old, w2: new, x3: where the value seen goes
    mmap_conformance_guard_function compare_exchange_32
    mov x4, x0
    mov x0, #1
2:  ldaxr w5, [x4]
    cmp w5, w1
    b.ne 3f
    stlxr w6, w2, [x4]
    cbnz w6, 2b
3:  str w5, [x3]
    mov x0, #0
    ret

    // x0: guarded address, w1: addend, x2: where the value seen goes
    mmap_conformance_guard_function fetch_add_32
    mov x4, x0
    mov x0, #1
2:  ldaxr w5, [x4]
    add w6, w5, w1
    stlxr w7, w6, [x4]
    cbnz w7, 2b
    str w5, [x2]
    mov x0, #0
    ret

    // x0: first byte, x1: end. Lines of both caches from CTR_EL0, as in the Arm ARM, "Cache
    // maintenance for self-modifying code". It may fault on memory that cannot be read, and is then
    // let go by the exit.
    mmap_conformance_guard_function sync
    mrs x3, ctr_el0
    mov x4, #4
    ubfx x5, x3, #16, #4
    lsl x5, x4, x5
    and x6, x3, #15
    lsl x6, x4, x6
    sub x7, x5, #1
    bic x7, x0, x7
2:  cmp x7, x1
    b.hs 3f
    dc cvau, x7
    add x7, x7, x5
    b 2b
3:  dsb ish
    sub x7, x6, #1
    bic x7, x0, x7
4:  cmp x7, x1
    b.hs 5f
    ic ivau, x7
    add x7, x7, x6
    b 4b
5:  dsb ish
    isb

    mmap_conformance_guard_function exit
    ret
    mmap_conformance_guard_function end

    // x0: code, x1: where the stack pointer is kept while the code runs
    mmap_conformance_guard_function execute
    stp x29, x30, [sp, #-112]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    str x1, [sp, #96]
    mov x9, sp
    str x9, [x1]
    blr x0
    mov x0, #0
    b 2f

    mmap_conformance_guard_function execute_exit
    mov x0, #1
2:  ldr x1, [sp, #96]
    str xzr, [x1]
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #112
    ret
    .popsection

.purgem mmap_conformance_guard_store
.purgem mmap_conformance_guard_load
.purgem mmap_conformance_guard_function
"#,
    options(raw)
);
