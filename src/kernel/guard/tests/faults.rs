//! Faults of loads, stores and atomics: which, where, and how far it got.

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE, SIGBUS, SIGSEGV};

use super::super::*;
use super::{
    BUS_ADRERR, Mapping, READ_WRITE, SEGV_MAPERR, assert_exited_well, assert_fault, assert_refused, in_child, page,
    times,
};

/// Bytes before an edge (or, negative, after it) and lengths that reach over it.
fn reaches() -> impl Iterator<Item = (isize, usize)> {
    let far = 2 * page() as isize / 3;
    let distances = (-20..=20).chain([511, 512, 513, 530, far]);
    distances
        .step_by(21 / times(21))
        .flat_map(|distance| (1..20).map(move |over| (distance, distance.max(0) as usize + over)))
        .step_by(19 / times(19))
}

/// Loads and stores around `edge`, where `codes` and `signal` begin.
fn assert_edge(edge: usize, check: impl Fn(Fault, usize)) {
    for (distance, len) in reaches() {
        let at = edge.wrapping_add_signed(-distance);
        let before = distance.max(0) as usize;
        store(at, &vec![0x55; before]).unwrap();

        let mut bytes = vec![0xaa; len];
        let (done, fault) = load_counted(at, &mut bytes).unwrap_err();
        assert_eq!(done, before, "load of {len} bytes");
        check(fault, at + before);
        assert!(bytes[..before].iter().all(|&byte| byte == 0x55));
        assert!(bytes[before..].iter().all(|&byte| byte == 0xaa));
        assert_eq!(load(at, &mut bytes), Err(fault));

        let (done, fault) = store_counted(at, &vec![0x77; len]).unwrap_err();
        assert_eq!(done, before, "store of {len} bytes");
        check(fault, at + before);
        load(at, &mut bytes[..before]).unwrap();
        assert!(bytes[..before].iter().all(|&byte| byte == 0x77));
        assert_eq!(store(at, &bytes), Err(fault));
    }
}

/// Every single access at `at`, which is aligned for all.
fn every_access(at: usize, write: bool) -> Vec<Fault> {
    let mut results = vec![
        store_u8(at, 1).err(),
        store_u16(at, 1).err(),
        store_u32(at, 1).err(),
        store_u64(at, 1).err(),
        compare_exchange_u32(at, 0, 1).err(),
        fetch_add_u32(at, 1).err(),
    ];
    if !write {
        results.push(load_u8(at).err());
        results.push(load_u16(at).err());
        results.push(load_u32(at).err());
        results.push(load_u64(at).err());
    }
    results.into_iter().map(|fault| fault.expect("a fault")).collect()
}

#[test]
fn no_access_without_protection() {
    install().unwrap();
    let memory = Mapping::anonymous(2, READ_WRITE);
    memory.protect(1, PROT_NONE);
    assert_edge(memory.page(1), assert_refused);
    for at in [memory.page(1), memory.page(1) + 24, memory.page(2) - 8] {
        for fault in every_access(at, false) {
            assert_refused(fault, at);
        }
    }
}

#[test]
fn no_store_to_read_only_memory() {
    install().unwrap();
    let memory = Mapping::anonymous(2, READ_WRITE);
    memory.protect(1, PROT_READ);
    let at = memory.page(1) + 16;
    for fault in every_access(at, true) {
        assert_refused(fault, at);
    }
    assert_eq!(load_u64(at), Ok(0));

    let (done, fault) = store_counted(memory.page(1) - 11, &[9; 40]).unwrap_err();
    assert_eq!(done, 11);
    assert_refused(fault, memory.page(1));
    let mut bytes = [1; 40];
    load(memory.page(1) - 11, &mut bytes).unwrap();
    assert_eq!(bytes[..11], [9; 11]);
    assert_eq!(bytes[11..], [0; 29]);
}

#[test]
fn write_only_memory_is_readable_or_refused() {
    install().unwrap();
    let memory = Mapping::anonymous(1, PROT_WRITE);
    let at = memory.addr + 40;
    store_u64(at, 77).unwrap();
    match load_u64(at) {
        Ok(value) => assert_eq!(value, 77),
        Err(fault) => assert_refused(fault, at),
    }
}

#[test]
fn nothing_is_mapped_in_a_hole() {
    let status = in_child(|| {
        install().unwrap();
        let memory = Mapping::anonymous(2, READ_WRITE);
        memory.unmap(1);
        let check = |fault, at| assert_fault(fault, SIGSEGV, SEGV_MAPERR, at);
        let edge = memory.page(1);
        for distance in [0, 1, 8, 13] {
            // No allocation here: it could fill the hole.
            let mut bytes = [0; 20];
            let (done, fault) = load_counted(edge - distance, &mut bytes).unwrap_err();
            check(fault, edge);
            let stored = store_counted(edge - distance, &bytes);
            if done != distance || stored != Err((distance, fault)) {
                return false;
            }
        }
        true
    });
    assert_exited_well(status);
}

#[test]
fn no_page_past_the_end_of_the_file() {
    install().unwrap();
    let memory = Mapping::file(page() / 2, 3, READ_WRITE);
    let check = |fault, at| assert_fault(fault, SIGBUS, BUS_ADRERR, at);
    assert_edge(memory.page(1), check);
    for at in [memory.page(1), memory.page(2) + 24] {
        for fault in every_access(at, false) {
            check(fault, at);
        }
    }
}

#[test]
fn addresses_that_nobody_has() {
    install().unwrap();
    for at in [0, 1, 7, 1 << (usize::BITS - 2), usize::MAX / 2 - 7, usize::MAX - 7] {
        let signals = [SIGSEGV, SIGBUS];
        assert!(signals.contains(&load_u8(at).unwrap_err().signal), "{at:x}");
        let (done, fault) = load_counted(at, &mut [0; 8]).unwrap_err();
        assert_eq!((done, fault.signal), (0, SIGSEGV), "{at:x}");
        let (done, fault) = store_counted(at, &[0; 8]).unwrap_err();
        assert_eq!((done, fault.signal), (0, SIGSEGV), "{at:x}");
    }
}

#[test]
fn faults_in_a_row_do_not_add_up() {
    install().unwrap();
    let memory = Mapping::new(1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for round in 0..times(20_000) {
        let at = memory.addr + round % page();
        assert_refused(load_u8(at).unwrap_err(), at);
        assert_refused(store_u8(at, 1).unwrap_err(), at);
    }
    memory.protect(0, READ_WRITE);
    assert_eq!(load_u64(memory.addr), Ok(0));
}

#[test]
fn each_thread_has_its_own_fault() {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                install().unwrap();
                let memory = Mapping::anonymous(1, PROT_NONE);
                for _ in 0..times(5_000) {
                    assert_refused(load_u32(memory.addr).unwrap_err(), memory.addr);
                }
            });
        }
    });
}

#[test]
fn a_forked_child_is_guarded_too() {
    install().unwrap();
    let memory = Mapping::anonymous(1, PROT_NONE);
    for again in [false, true] {
        let status = in_child(|| {
            let ready = !again || install().is_ok();
            let loaded = load_u64(memory.addr).map_err(|fault| fault.signal);
            let executed = execute(memory.addr).map_err(|fault| fault.signal);
            ready && loaded == Err(SIGSEGV) && executed == Err(SIGSEGV)
        });
        assert_exited_well(status);
    }
}
