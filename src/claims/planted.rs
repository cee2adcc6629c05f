//! Claims that are wrong on purpose: they show that the harness sees what it should.
use crate::claim::{Claim, DAY8, claim, posix};
use crate::input::*;
use crate::kernel::call::*;
use crate::kernel::data::Data;
use crate::kernel::names::*;
use crate::lab::verbs::*;
pub(super) fn claims() -> Vec<Claim> {
    vec![
        claim("planted.fault").states("x").documents([DAY8.at("x")]).basis([posix("x")]).for_all(
            lengths(20),
            |lab, len| {
                let map = lab.map(anonymous(len, READ_WRITE, PRIVATE))?;
                lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
                lab.mprotect(map.start(), map.extent(), READ).must_succeed()?;
                lab.store(map.at(len - 1), &Data::repeat(1, 1)).must_be_forbidden(0)?;
                lab.unmap(map)?;
                lab.load(map.start(), 3).must_be_unmapped(0)
            },
        ),
        claim("planted.child").states("x").documents([DAY8.at("x")]).basis([posix("x")]).for_all(
            windows(20),
            |lab, window| {
                let (path, fd) = lab.new_file(&window.file())?;
                let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
                let child = lab.fork()?;
                let peer = lab.peer()?;
                let grandchild = lab.fork_from(child.id(), false)?;
                child.store(map.at(window.len - 1), &Data::repeat(1, 1)).must_succeed()?;
                lab.load(map.at(window.len - 1), 1).must_hold(&Data::repeat(1, 1))?;
                grandchild.load(map.at(window.len - 1), 1).must_hold(&Data::repeat(1, 1))?;
                let pfd = peer.open(path, libc::O_RDWR)?;
                let pm = peer.map(request(window.len, READ, SHARED, pfd).offset(window.offset))?;
                peer.load(pm.at(window.len - 1), 1).must_hold(&Data::repeat(1, 1))?;
                peer.unguarded()?;
                peer.store(pm.at(window.len - 1), &Data::repeat(1, 1)).must_die_of(libc::SIGSEGV)
            },
        ),
        claim("planted.pipe").states("x").documents([DAY8.at("x")]).basis([posix("x")]).for_all(once(), |lab, ()| {
            let (r, w) = lab.pipe(0)?;
            let child = lab.fork()?;
            let read = child.begin(Call::Read { fd: r, len: 10 });
            read.must_block()?;
            lab.write(w, &"hello".into()).must_return(5_u64)?;
            read.answer().must_hold(&"hello".into())?;
            child.read(r, 5).must_hold(&"x".into())
        }),
        claim("planted.wrong").states("x").documents([DAY8.at("x")]).basis([posix("x")]).for_all(
            windows(20),
            |lab, window| {
                let (_, fd) = lab.new_file(&window.file())?;
                let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
                lab.load(map.start(), window.len).must_hold(&Data::at(window.contents, 0, window.len))
            },
        ),
        claim("planted.hang").states("x").documents([DAY8.at("x")]).basis([posix("x")]).for_all(
            lengths(20),
            |lab, len| {
                let (r, _w) = lab.pipe(0)?;
                if len.get() > 10000 {
                    lab.read(r, len).must_succeed()?;
                }
                Ok(())
            },
        ),
        claim("planted.die").states("x").documents([DAY8.at("x")]).basis([posix("x")]).for_all(
            lengths(20),
            |lab, len| {
                let map = lab.map(anonymous(len, READ_WRITE, PRIVATE))?;
                if len.get() > 10000 {
                    lab.unguarded()?;
                    lab.load(map.end().minus(1), 2).must_succeed()?;
                }
                Ok(())
            },
        ),
    ]
}
