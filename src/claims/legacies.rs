//! What is left of a mapping's file and contents when its name or its processes are gone.

use libc::ENOENT;
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, SHM, claim, linux, posix};
use crate::input::{Edit, Gen, Window, any_size, drawn, edits_within, windows_on_one_file};
use crate::kernel::call::{ActorId, Call};
use crate::kernel::data::Data;
use crate::kernel::names::{READ, READ_WRITE, SHARED};
use crate::kernel::page::Size;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

use super::lifetime::{End, any_end};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![unlinked_file(), data_survives_exit()]
}

fn unlinked_file() -> Claim {
    claim("lifetime.unlinked-file")
        .states("A file unlinked right after open can still be sized, mapped, closed and shared with a child.")
        .documents([DAY8.at("parent and child, listing"), DAY8.at("anonymous")])
        .holds()
        .basis([
            posix("unlink, DESCRIPTION"),
            posix("close, DESCRIPTION, memory mapped file"),
            posix("ftruncate, DESCRIPTION"),
            linux("mmap(2), DESCRIPTION"),
        ])
        .for_all(sizes_and_edits(), |lab, (size, edits)| {
            let (map, mut model) = mapped_after_unlink(lab, size)?;
            for edit in &edits {
                lab.store(map.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut model);
                lab.load(map.start(), model.len()).must_equal(&model)?;
            }
            Ok(())
        })
        .part("shared with children", sizes_and_edits(), |lab, (size, edits)| {
            let (map, mut model) = mapped_after_unlink(lab, size)?;
            let family = [(lab, ActorId(0)), (lab, lab.fork()?.id()), (lab, lab.fork()?.id())];
            for (index, edit) in edits.iter().enumerate() {
                family[(index + 1) % family.len()].store(map.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut model);
                for who in family {
                    who.load(map.start(), model.len()).must_equal(&model)?;
                }
            }
            Ok(())
        })
        .one_in(8)
        .part("one name of two, and then the other", sizes_and_edits(), |lab, (size, edits)| {
            one_by_one(lab, size, &edits)
        })
        .one_in(4)
}

/// Each name goes after a store; the file has its size and contents under the other name, and without any.
fn one_by_one(lab: &Lab, size: Size, edits: &[Edit]) -> Verdict {
    let (first, fd) = lab.new_file(&Data::pattern(2, size))?;
    let second = lab.new_path();
    lab.place().call(Call::Link { from: first, to: second }).prepared()?;
    let map = lab.map(request(size, READ_WRITE, SHARED, fd))?;
    let mut model = Data::pattern(2, size).to_vec();
    for (index, name) in [first, second].into_iter().enumerate() {
        if let Some(edit) = edits.get(index) {
            lab.store(map.at(edit.at), &edit.data).must_succeed()?;
            edit.apply(&mut model);
        }
        lab.unlink(name).must_return(0_u64)?;
        lab.stat(name).must_fail(ENOENT)?;
        if name == first {
            let left = lab.stat(second).stat()?;
            lab.must(left.size as usize == size.get() && left.links == 1, "the other name has all", || {
                left.to_string()
            })?;
        }
        let now = lab.size(fd)?;
        lab.must(now == size, "the file has its size", || format!("{now}"))?;
        lab.pread(fd, size + 1, 0).must_equal(&model)?;
        lab.load(map.start(), size).must_equal(&model)?;
    }
    Ok(())
}

fn sizes_and_edits() -> Gen<(Size, Vec<Edit>)> {
    let strategy = any_size(1, 30).prop_flat_map(|size| (Just(size), edits_within(size, 4)));
    drawn("sizes from one byte to 30 pages, and stores", strategy)
}

fn mapped_after_unlink(lab: &Lab, size: Size) -> Verdict<(Map, Vec<u8>)> {
    let path = lab.new_path();
    let fd = lab.open(path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL)?;
    lab.unlink(path).must_return(0_u64)?;
    lab.stat(path).must_fail(ENOENT)?;
    lab.ftruncate(fd, size).must_return(0_u64)?;
    let grown = lab.size(fd)?;
    lab.must(grown == size, "the file has the size that ftruncate gave it", || format!("{grown}"))?;
    let map = lab.map(request(size, READ_WRITE, SHARED, fd))?;
    lab.close(fd).must_return(0_u64)?;
    lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
    lab.stat(path).must_fail(ENOENT)?;
    Ok((map, vec![0; map.extent().get()]))
}

fn data_survives_exit() -> Claim {
    claim("lifetime.data-survives-exit")
        .states("What a process stored through a shared file mapping is there for a process started after its end, munmap or not.")
        .documents([SHM.at("example"), IPC.at("independent processes")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("_Exit, Consequences of Process Termination"),
            linux("mmap(2), munmap()"),
            linux("mmap(2), The flags argument, MAP_SHARED"),
        ])
        .for_all(writers(), |lab, writers| {
            let path = lab.file(&writers[0].window.file())?;
            let mut model = writers[0].window.file().to_vec();
            for writer in &writers {
                let window = writer.window;
                let actor = if writer.related { lab.fork()? } else { lab.peer()? };
                let fd = actor.open(path, libc::O_RDWR)?;
                let map = actor.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
                if writer.closed {
                    actor.close(fd).prepared()?;
                }
                let view = &model[window.offset.get()..][..window.len.get()];
                actor.load(map.start(), window.len).must_equal(view)?;
                for edit in &writer.edits {
                    actor.store(map.at(edit.at), &edit.data).must_succeed()?;
                    edit.data.fill(&mut model[(window.offset + edit.at).get()..][..edit.data.len()]);
                }
                writer.end.befalls(actor, map)?;
            }
            let reader = lab.peer()?;
            let fd = reader.open(path, libc::O_RDONLY)?;
            let map = reader.map(request(model.len(), READ, SHARED, fd))?;
            reader.load(map.start(), model.len()).must_equal(&model)?;
            reader.read(fd, model.len() + 1).must_equal(&model)
        })
        .one_in(8)
}

/// A process that stores through a mapping and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    window: Window,
    edits: Vec<Edit>,
    end: End,
    related: bool,
    closed: bool,
}

fn writers() -> Gen<Vec<Writer>> {
    let writer = |window: Window| {
        let end = any_end(&[End::Munmap, End::Exit, End::Exit, End::Kill, End::Fault]);
        (edits_within(window.len, 3), end, any::<bool>(), any::<bool>())
            .prop_map(move |(edits, end, related, closed)| Writer { window, edits, end, related, closed })
    };
    let strategy =
        windows_on_one_file(20, 1, 2).prop_flat_map(move |windows| windows.into_iter().map(writer).collect::<Vec<_>>());
    drawn("one or two processes, one after the other, that store through windows on one file and end", strategy)
}
