//! Accesses that do not fault transfer what they should, and nothing else.

use std::sync::Barrier;

use libc::PROT_NONE;

use super::super::*;
use super::{Mapping, READ_WRITE, page, times};

/// `len` bytes, no two neighbours alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn every_width_stores_and_loads_its_bytes() {
    install().unwrap();
    let memory = Mapping::anonymous(1, READ_WRITE);
    let at = memory.addr + 8;
    store_u64(at, u64::MAX).unwrap();

    store_u8(at, 0x12).unwrap();
    assert_eq!(load_u8(at), Ok(0x12));
    assert_eq!(load_u8(at + 1), Ok(0xff));
    store_u16(at, 0x3456).unwrap();
    assert_eq!(load_u16(at), Ok(0x3456));
    assert_eq!(load_u16(at + 2), Ok(0xffff));
    store_u32(at, 0x789a_bcde).unwrap();
    assert_eq!(load_u32(at), Ok(0x789a_bcde));
    assert_eq!(load_u32(at + 4), Ok(u32::MAX));
    store_u64(at, 0x0123_4567_89ab_cdef).unwrap();
    assert_eq!(load_u64(at), Ok(0x0123_4567_89ab_cdef));

    let mut bytes = [0; 8];
    load(at, &mut bytes).unwrap();
    assert_eq!(u64::from_ne_bytes(bytes), 0x0123_4567_89ab_cdef);
    assert_eq!((load_u64(at - 8), load_u64(at + 8)), (Ok(0), Ok(0)));
}

#[test]
fn bulk_transfers_exactly_the_bytes_asked_for() {
    install().unwrap();
    let memory = Mapping::anonymous(1, READ_WRITE);
    let lengths = [0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 511, 512, 513, 1050];
    for offset in (0..16).step_by(16 / times(16)) {
        for len in lengths {
            let at = memory.addr + 64 + offset;
            store(memory.addr, &[0xee; 2048]).unwrap();
            let bytes = pattern(len + 1);
            // The private side is unaligned by one.
            store(at, &bytes[1..]).unwrap();

            let mut all = [0; 2048];
            load(memory.addr, &mut all).unwrap();
            let (before, rest) = all.split_at(64 + offset);
            assert!(before.iter().all(|&byte| byte == 0xee));
            assert_eq!(rest[..len], bytes[1..]);
            assert!(rest[len..].iter().all(|&byte| byte == 0xee));

            let mut back = vec![0xdd; len + 3];
            load(at, &mut back[1..=len]).unwrap();
            assert_eq!(back[1..=len], bytes[1..]);
            assert_eq!((back[0], back[len + 1]), (0xdd, 0xdd));
        }
    }
}

#[test]
fn bulk_crosses_pages() {
    install().unwrap();
    let memory = Mapping::file(4 * page(), 4, READ_WRITE);
    let bytes = pattern(3 * page());
    store(memory.addr + 17, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    load(memory.addr + 17, &mut back).unwrap();
    assert_eq!(back, bytes);
}

#[test]
fn atomics_return_what_they_saw() {
    install().unwrap();
    let memory = Mapping::anonymous(1, READ_WRITE);
    let at = memory.addr + 4;
    let old = 0x8000_0001;
    store_u32(at, old).unwrap();
    assert_eq!(compare_exchange_u32(at, 5, 6), Ok(old));
    assert_eq!(load_u32(at), Ok(old));
    assert_eq!(compare_exchange_u32(at, old, 0xffff_fffe), Ok(old));
    assert_eq!(fetch_add_u32(at, 3), Ok(0xffff_fffe));
    assert_eq!(load_u32(at), Ok(1));
    assert_eq!((load_u32(at - 4), load_u32(at + 4)), (Ok(0), Ok(0)));
}

#[test]
fn no_access_is_wider_than_it_says() {
    install().unwrap();
    let memory = Mapping::anonymous(2, READ_WRITE);
    memory.protect(1, PROT_NONE);
    let edge = memory.page(1);
    for (width, value) in [(8, u64::MAX), (4, 0), (2, u64::MAX), (1, 0)] {
        let at = edge - width;
        let seen = match width {
            1 => store_u8(at, value as u8).and_then(|()| load_u8(at)).map(u64::from),
            2 => store_u16(at, value as u16).and_then(|()| load_u16(at)).map(u64::from),
            4 => store_u32(at, value as u32).and_then(|()| load_u32(at)).map(u64::from),
            _ => store_u64(at, value).and_then(|()| load_u64(at)),
        };
        assert_eq!(seen, Ok(value & u64::MAX >> (64 - 8 * width)));
    }
    // Each store left alone what the wider ones before it had written.
    let mut bytes = [1; 8];
    load(edge - 8, &mut bytes).unwrap();
    assert_eq!(bytes, [0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0]);
    assert_eq!(fetch_add_u32(edge - 4, 0), load_u32(edge - 4));
    assert_eq!(compare_exchange_u32(edge - 4, 1, 2), load_u32(edge - 4));
}

#[test]
fn additions_of_several_threads_all_count() {
    let memory = Mapping::anonymous(1, READ_WRITE);
    let (at, each) = (memory.addr, if FAST { 200_000 } else { 100 });
    let start = Barrier::new(2);
    let start = &start;
    std::thread::scope(|scope| {
        for add in [true, false] {
            scope.spawn(move || {
                install().unwrap();
                start.wait();
                for _ in 0..each {
                    if add {
                        fetch_add_u32(at, 1).unwrap();
                        continue;
                    }
                    let mut old = load_u32(at).unwrap();
                    loop {
                        let seen = compare_exchange_u32(at, old, old + 1).unwrap();
                        if seen == old {
                            break;
                        }
                        old = seen;
                    }
                }
            });
        }
    });
    // The fallback's child writes back a value that its parent may have left behind by then.
    if FAST {
        assert_eq!(load_u32(at), Ok(2 * each));
    }
}
