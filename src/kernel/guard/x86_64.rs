//! x86-64: one access per instruction, System V calling convention.

/// `ret`
pub const RETURN: &[u8] = &[0xc3];

// Bytes into `struct ucontext` (asm-generic/ucontext.h: 40 bytes before uc_mcontext) and on into
// `struct sigcontext` (x86, asm/sigcontext.h): r8 to r15, di, si, bp, bx, dx, ax, cx, sp, ip.
pub const STACK_POINTER: usize = 40 + 15 * 8;
pub const PROGRAM_COUNTER: usize = 40 + 16 * 8;

// Between `start` and `end`, r8 is the number of accesses still to be made. It cannot be rax, the
// register of the result, because cmpxchg takes that one for itself.
core::arch::global_asm!(
    r#"
.macro mmap_conformance_guard_function name
    .globl mmap_conformance_guard_\name
    .hidden mmap_conformance_guard_\name
    .type mmap_conformance_guard_\name, @function
    .p2align 4
mmap_conformance_guard_\name:
.endm

// rdi: guarded address, rsi: private address, rdx: count
.macro mmap_conformance_guard_copy name, from, to, register, width
    mmap_conformance_guard_function \name
    mov r8, rdx
2:  mov \register, [\from]
    mov [\to], \register
    add \from, \width
    add \to, \width
    dec r8
    jnz 2b
    mov rax, r8
    ret
.endm

    .pushsection .text.mmap_conformance_guard, "ax", @progbits
    mmap_conformance_guard_function start
    mmap_conformance_guard_copy load_8, rdi, rsi, cl, 1
    mmap_conformance_guard_copy load_16, rdi, rsi, cx, 2
    mmap_conformance_guard_copy load_32, rdi, rsi, ecx, 4
    mmap_conformance_guard_copy load_64, rdi, rsi, rcx, 8
    mmap_conformance_guard_copy store_8, rsi, rdi, cl, 1
    mmap_conformance_guard_copy store_16, rsi, rdi, cx, 2
    mmap_conformance_guard_copy store_32, rsi, rdi, ecx, 4
    mmap_conformance_guard_copy store_64, rsi, rdi, rcx, 8

    // rdi: guarded address, esi: old, edx: new, rcx: where the value seen goes
    mmap_conformance_guard_function compare_exchange_32
    mov r8d, 1
    mov eax, esi
    lock cmpxchg [rdi], edx
    mov [rcx], eax
    xor eax, eax
    ret

    // rdi: guarded address, esi: addend, rdx: where the value seen goes
    mmap_conformance_guard_function fetch_add_32
    mov r8d, 1
    lock xadd [rdi], esi
    mov [rdx], esi
    xor eax, eax
    ret

    mmap_conformance_guard_function exit
    mov rax, r8
    ret
    mmap_conformance_guard_function end

    // rdi: code, rsi: where the stack pointer is kept while the code runs
    mmap_conformance_guard_function execute
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rsi
    mov [rsi], rsp
    // Zeroed memory is "add [rax], al": let it fault, not write.
    xor eax, eax
    call rdi
    xor eax, eax
    jmp 2f

    mmap_conformance_guard_function execute_exit
    mov eax, 1
    cld
2:  pop rsi
    mov qword ptr [rsi], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    // Code stored through another address than it is run at needs a serializing instruction
    // (Intel SDM 3A, "Self-Modifying Code"); cpuid is the one that every processor has.
    mmap_conformance_guard_function sync
    mov r8, rbx
    xor eax, eax
    cpuid
    mov rbx, r8
    ret
    .popsection

.purgem mmap_conformance_guard_copy
.purgem mmap_conformance_guard_function
"#,
    options(raw)
);

// Where a signal enters: not every kernel aligns the stack for the handler (qemu-user 7.2 is 8 bytes off), and compiled code
// relies on it.
#[cfg(not(guard_forked))]
core::arch::global_asm!(
    r#"
    .pushsection .text.mmap_conformance_guard_enter, "ax", @progbits
    .globl mmap_conformance_guard_enter
    .hidden mmap_conformance_guard_enter
    .type mmap_conformance_guard_enter, @function
mmap_conformance_guard_enter:
    push rbp
    mov rbp, rsp
    and rsp, -16
    call {handler}
    mov rsp, rbp
    pop rbp
    ret
    .popsection
"#,
    handler = sym super::backend::handler,
);

#[cfg(not(guard_forked))]
unsafe extern "C" {
    /// The way into the handler of faults.
    pub fn mmap_conformance_guard_enter(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut core::ffi::c_void,
    );
}
