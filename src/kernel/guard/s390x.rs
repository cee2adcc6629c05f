//! IBM Z: the s390x ELF calling convention. The kernel reports si_addr here as the first byte of
//! the page.

/// `br %r14`
pub const RETURN: &[u8] = &[0x07, 0xfe];

// Bytes into `struct ucontext` (asm-generic/ucontext.h: 40 bytes before uc_mcontext) and on into
// `_sigregs` (s390, asm/sigcontext.h): psw.mask, psw.addr, gprs.
pub const PROGRAM_COUNTER: usize = 40 + 8;
pub const STACK_POINTER: usize = 40 + 16 + 15 * 8;

// Between `start` and `end`, r2 is the number of accesses still to be made: the exit is a bare
// return. After a protection exception the PSW is already behind the instruction; the kernel winds
// it back, and it is inside either way.
core::arch::global_asm!(
    r#"
.macro mmap_conformance_guard_function name
    .globl mmap_conformance_guard_\name
    .hidden mmap_conformance_guard_\name
    .type mmap_conformance_guard_\name, @function
    .p2align 4
mmap_conformance_guard_\name:
.endm

// r1: from, r3: to, for a guarded address in r2, a private one in r3, and a count in r4
.macro mmap_conformance_guard_load name, load, store, width
    mmap_conformance_guard_function \name
    lgr %r1, %r2
    lgr %r2, %r4
2:  \load %r5, 0(%r1)
    \store %r5, 0(%r3)
    la %r1, \width(%r1)
    la %r3, \width(%r3)
    brctg %r2, 2b
    br %r14
.endm

.macro mmap_conformance_guard_store name, load, store, width
    mmap_conformance_guard_function \name
    lgr %r1, %r2
    lgr %r2, %r4
2:  \load %r5, 0(%r3)
    \store %r5, 0(%r1)
    la %r1, \width(%r1)
    la %r3, \width(%r3)
    brctg %r2, 2b
    br %r14
.endm

    .pushsection .text.mmap_conformance_guard, "ax", @progbits
    mmap_conformance_guard_function start
    mmap_conformance_guard_load load_8, llgc, stc, 1
    mmap_conformance_guard_load load_16, llgh, sth, 2
    mmap_conformance_guard_load load_32, llgf, st, 4
    mmap_conformance_guard_load load_64, lg, stg, 8
    mmap_conformance_guard_store store_8, llgc, stc, 1
    mmap_conformance_guard_store store_16, llgh, sth, 2
    mmap_conformance_guard_store store_32, llgf, st, 4
    mmap_conformance_guard_store store_64, lg, stg, 8

    // r2: guarded address, r3: old, r4: new, r5: where the value seen goes
    mmap_conformance_guard_function compare_exchange_32
    lgr %r1, %r2
    lghi %r2, 1
    cs %r3, %r4, 0(%r1)
    st %r3, 0(%r5)
    lghi %r2, 0
    br %r14

    // r2: guarded address, r3: addend, r4: where the value seen goes; a loop, as laa came only with
    // the z196
    mmap_conformance_guard_function fetch_add_32
    lgr %r1, %r2
    lghi %r2, 1
    l %r0, 0(%r1)
2:  lr %r5, %r0
    ar %r5, %r3
    cs %r0, %r5, 0(%r1)
    jl 2b
    st %r0, 0(%r4)
    lghi %r2, 0
    br %r14

    mmap_conformance_guard_function exit
    br %r14
    mmap_conformance_guard_function end

    // r2: code, r3: where the stack pointer is kept while the code runs
    mmap_conformance_guard_function execute
    stmg %r6, %r15, 48(%r15)
    aghi %r15, -168
    stg %r3, 160(%r15)
    stg %r15, 0(%r3)
    basr %r14, %r2
    lghi %r2, 0
    j 2f

    mmap_conformance_guard_function execute_exit
    lghi %r2, 1
2:  lg %r3, 160(%r15)
    lghi %r1, 0
    stg %r1, 0(%r3)
    lmg %r6, %r15, 216(%r15)
    br %r14

    // Caches are coherent; code stored through another address than it is run at needs
    // serialization (Principles of Operation, "Conceptual Sequence").
    mmap_conformance_guard_function sync
    bcr 15, %r0
    br %r14
    .popsection

.purgem mmap_conformance_guard_store
.purgem mmap_conformance_guard_load
.purgem mmap_conformance_guard_function
"#,
    options(raw)
);
