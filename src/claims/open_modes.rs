//! How a file was opened, and what may then be asked of a mapping of it.

use libc::{EACCES, O_RDONLY, O_RDWR, O_WRONLY};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, Depends, IPC, MAPIO, claim, linux, posix};
use crate::input::patchwork::forbidden;
use crate::input::{
    Backing, Edit, Gen, Range, Window, all_prots, any_window, drawn, each, edits_within, page_range, reach,
};
use crate::kernel::call::{At, Fd, MmapArgs, Path};
use crate::kernel::data::Data;
use crate::kernel::machine;
use crate::kernel::names::{Flags, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED, SHARED_VALIDATE, WRITE};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, page, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![shared_write(), private_write(), refused(), implies_read(), write_only()]
}

fn shared_write() -> Claim {
    claim("perm.shared-write-needs-write")
        .states("A shared, writable mapping of a file that was opened O_RDONLY is refused with EACCES.")
        .documents([DAY8.at("note 3"), IPC.at("question 2"), MAPIO.at("notes")])
        .holds()
        .basis([
            posix("mmap, ERRORS, [EACCES]"),
            linux("mmap(2), ERRORS, EACCES"),
            posix("mprotect, ERRORS, [EACCES]"),
            linux("mprotect(2), ERRORS, EACCES"),
        ])
        .part("by mmap", writes(), |lab, write| shared_write_is_refused(lab, &write))
        .part("by mprotect, range by range", later_writes(), later_write_is_refused)
        .part("by mprotect, from a writable mapping on", later_writes(), write_is_refused_behind_a_writable_mapping)
        .part("in a child and in a program of its own", writes(), |lab, write| other_processes_are_refused(lab, &write))
        .one_in(32)
}

fn private_write() -> Claim {
    claim("perm.private-write-over-rdonly")
        .states("The same request with MAP_PRIVATE leads to a bus error.")
        .documents([DAY8.at("note 3")])
        .refuted(
            "The mapping is made, and stores stay private. SIGBUS comes from pages wholly beyond the end of the file, whatever \
             mode it was opened with; probably the author's file was empty.",
        )
        .basis([
            posix("mmap, DESCRIPTION, prot and MAP_PRIVATE"),
            posix("mmap, DESCRIPTION, end of an object"),
            linux("mmap(2), ERRORS, EACCES; Signals, SIGBUS"),
        ])
        .part("stores stay private", writes(), |lab, write| private_stores_work(lab, &write))
        .part("SIGBUS beyond the end of the file, in any mode", windows_beyond(), beyond_the_end_in_any_mode)
        .depends_on([Depends::FileSystem])
}

fn refused() -> Claim {
    claim("perm.rdonly-read-write-refused")
        .states("PROT_READ|PROT_WRITE over a descriptor that was opened O_RDONLY is refused.")
        .documents([IPC.at("question 2"), IPC.at("question 4"), MAPIO.at("notes")])
        .qualified("Refused (EACCES) for MAP_SHARED and MAP_SHARED_VALIDATE; with MAP_PRIVATE it is allowed, and stores stay private.")
        .basis([posix("mmap, ERRORS, [EACCES]; DESCRIPTION, prot"), linux("mmap(2), ERRORS, EACCES")])
        .part("shared", writes(), |lab, write| {
            let fd = write.open(lab, O_RDONLY)?.1;
            for sharing in [SHARED, SHARED_VALIDATE] {
                lab.mmap(write.args(READ_WRITE, sharing, fd)).must_fail(EACCES)?;
            }
            Ok(())
        })
        .part("private", writes(), |lab, write| private_stores_work(lab, &write))
}

fn implies_read() -> Claim {
    claim("perm.mapping-implies-read")
        .states("Making a mapping implies a read of the file, so the file must be open for reading.")
        .documents([DAY8.at("note 3"), IPC.at("mmap, fd"), IPC.at("question 4")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, prot: open for reading, whatever the protection"),
            posix("mmap, ERRORS, [EACCES]"),
            linux("mmap(2), ERRORS, EACCES"),
        ])
        .part("O_WRONLY", writes().and(any_ask()), |lab, (write, ask)| {
            write_only_descriptor_is_refused(lab, &write, ask)
        })
        .part("anonymous memory takes no notice of it", writes().and(any_ask()), |lab, (write, ask)| {
            anonymous_memory_ignores_it(lab, &write, ask)
        })
}

fn write_only() -> Claim {
    claim("perm.write-only-prot")
        .states("mmap fails when prot is PROT_WRITE alone.")
        .documents([IPC.at("question 4"), MAPIO.at("notes")])
        .refuted(
            "Over O_RDWR it succeeds, and stores reach the file. It fails only where the open mode forbids it: O_RDONLY with \
             MAP_SHARED, O_WRONLY always.",
        )
        .basis([posix("mmap, DESCRIPTION, prot"), linux("mmap(2), DESCRIPTION, prot; VERSIONS")])
        .part("over O_RDWR", writes(), |lab, write| {
            let (_, fd) = lab.new_file(&write.window.file())?;
            for sharing in [SHARED, SHARED_VALIDATE, PRIVATE] {
                let map = lab.map(write.args(WRITE, sharing, fd))?;
                write.must_arrive(lab, map, fd, sharing)?;
                lab.pwrite(fd, &write.window.file(), 0).prepared()?;
            }
            Ok(())
        })
        .part("where the mode forbids it", writes(), |lab, write| {
            let (path, rdonly) = write.open(lab, O_RDONLY)?;
            lab.mmap(write.args(WRITE, SHARED, rdonly)).must_fail(EACCES)?;
            let wronly = lab.open(path, O_WRONLY)?;
            for sharing in [SHARED, PRIVATE, SHARED_VALIDATE] {
                lab.mmap(write.args(WRITE, sharing, wronly)).must_fail(EACCES)?;
            }
            let map = lab.map(write.args(WRITE, PRIVATE, rdonly))?;
            write.must_arrive(lab, map, rdonly, PRIVATE)
        })
}

/// A window on a file, and what is stored through it.
#[derive(Clone)]
struct Write {
    window: Window,
    edits: Vec<Edit>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}; {:?}", self.window, self.edits)
    }
}

fn writes() -> Gen<Write> {
    let strategy = any_window(20)
        .prop_flat_map(|window| edits_within(window.len, 3).prop_map(move |edits| Write { window, edits }));
    drawn("windows on files of one byte to 20 pages, and stores through them", strategy)
}

impl Write {
    /// A new file, open in this mode.
    fn open<'l>(&self, who: impl Calls<'l>, mode: i32) -> Verdict<(Path, Fd)> {
        let path = who.file(&self.window.file())?;
        Ok((path, who.open(path, mode)?))
    }

    fn args(&self, prot: Prot, sharing: Flags, fd: Fd) -> MmapArgs {
        request(self.window.len, prot, sharing, fd).offset(self.window.offset)
    }

    /// The stores succeed through this mapping, are seen there, and reach the file if it is shared, and only then.
    fn must_arrive<'l>(&self, who: impl Calls<'l>, map: Map, fd: Fd, sharing: Flags) -> Verdict {
        let mut view = self.window.view().to_vec();
        for edit in &self.edits {
            who.store(map.at(edit.at), &edit.data).must_succeed()?;
            edit.apply(&mut view);
        }
        let mut file = self.window.file().to_vec();
        if sharing.is_shared() {
            file[self.window.offset.get()..][..view.len()].copy_from_slice(&view);
        }
        who.pread(fd, file.len(), 0).must_equal(&file)?;
        who.mprotect(map.start(), map.len, READ).prepared()?;
        who.load(map.start(), map.len).must_equal(&view)
    }
}

/// Refused over O_RDONLY in every company; the same over O_RDWR works, and so does the same without PROT_WRITE.
fn shared_write_is_refused(lab: &Lab, write: &Write) -> Verdict {
    let (path, rdonly) = write.open(lab, O_RDONLY)?;
    for sharing in [SHARED, SHARED_VALIDATE] {
        for prot in [WRITE, READ_WRITE] {
            lab.mmap(write.args(prot, sharing, rdonly)).must_fail(EACCES)?;
        }
        let map = lab.map(write.args(READ, sharing, rdonly))?;
        lab.load(map.start(), map.len).must_hold(&write.window.view())?;
    }
    let rdwr = lab.open(path, O_RDWR)?;
    // That another descriptor may write changes nothing for this one.
    lab.mmap(write.args(READ_WRITE, SHARED, rdonly)).must_fail(EACCES)?;
    let map = lab.map(write.args(READ_WRITE, SHARED, rdwr))?;
    write.must_arrive(lab, map, rdonly, SHARED)
}

fn other_processes_are_refused(lab: &Lab, write: &Write) -> Verdict {
    let (path, rdonly) = write.open(lab, O_RDONLY)?;
    let map = lab.map(write.args(READ, SHARED, rdonly))?;
    let child = lab.fork()?;
    child.mmap(write.args(READ_WRITE, SHARED, rdonly)).must_fail(EACCES)?;
    child.mprotect(map.start(), map.len, READ_WRITE).must_fail(EACCES)?;
    child.store(map.start(), &Data::repeat(1, 1)).must_be_forbidden(0)?;
    let peer = lab.peer()?;
    let fd = peer.open(path, O_RDONLY)?;
    peer.mmap(write.args(READ_WRITE, SHARED, fd)).must_fail(EACCES)?;
    let map = peer.map(write.args(READ_WRITE, PRIVATE, fd))?;
    write.must_arrive(peer, map, fd, PRIVATE)
}

/// A mapping of whole pages, and a range of them whose rights are to change.
fn later_writes() -> Gen<(usize, Range)> {
    let few = prop_oneof![5 => 1..5_usize, 2 => 5..=20_usize];
    let strategy = few.prop_flat_map(|count| page_range(count).prop_map(move |range| (count, range)));
    let range = |first, count| Range { at: pages(first), len: pages(count) };
    drawn("mappings of pages, and ranges of them", strategy).also([
        (1, range(0, 1)),
        (3, range(0, 3)),
        (3, range(0, 1)),
        (3, range(1, 1)),
        (3, range(2, 1)),
    ])
}

/// Neither now nor when the descriptor is closed; what is refused changes neither rights nor contents.
fn later_write_is_refused(lab: &Lab, (count, range): (usize, Range)) -> Verdict {
    let data = Data::pattern(2, pages(count));
    let path = lab.file(&data)?;
    let rdonly = lab.open(path, O_RDONLY)?;
    let map = lab.map(request(pages(count), READ, SHARED, rdonly))?;
    for prot in [READ_WRITE, WRITE] {
        lab.mprotect(map.at(range.at), range.len, prot).must_fail(EACCES)?;
    }
    lab.mprotect(map.at(range.at), range.len, NONE).must_succeed()?;
    lab.mprotect(map.at(range.at), range.len, READ_WRITE).must_fail(EACCES)?;
    lab.load(map.at(range.at), 1).must_be_forbidden(0)?;
    lab.mprotect(map.at(range.at), range.len, READ).must_succeed()?;
    lab.close(rdonly).prepared()?;
    let rdwr = lab.open(path, O_RDWR)?;
    lab.mprotect(map.at(range.at), range.len, READ_WRITE).must_fail(EACCES)?;
    for number in 0..count {
        for at in [0, page() - 1] {
            let answer = lab.store(map.at(pages(number) + at), &Data::repeat(1, 1));
            answer.checked(&forbidden())?;
        }
    }
    lab.load(map.start(), map.len).must_hold(&data)?;
    lab.pread(rdwr, map.len, 0).must_hold(&data)
}

/// Of two mappings side by side the first may be written: it gets the right, and the call is refused at the second.
fn write_is_refused_behind_a_writable_mapping(lab: &Lab, (count, range): (usize, Range)) -> Verdict {
    let data = Data::pattern(2, pages(count));
    let (path, rdwr) = lab.new_file(&data)?;
    let rdonly = lab.open(path, O_RDONLY)?;
    let base = At::Arena(pages(9).get());
    let len = pages(count);
    let first = lab.map(request(len, READ, SHARED, rdwr).fixed(base))?;
    let second = lab.map(request(len, READ, SHARED, rdonly).fixed(base.plus(len)))?;
    // From the range's beginning in the first mapping to its end in the second.
    let span = len - range.at + range.end();
    lab.mprotect(first.at(range.at), span, READ_WRITE).must_fail(EACCES)?;
    for number in 0..count {
        let at = pages(number);
        lab.store(second.at(at), &Data::repeat(1, 1)).checked(&forbidden())?;
    }
    // Linux changes mapping by mapping, in order (mm/mprotect.c, do_mprotect_pkey).
    lab.store(first.at(len - 1), &Data::repeat(1, 1)).must_succeed()?;
    lab.load(second.at(len - 1), 1).must_equal(&[1])
}

fn private_stores_work(lab: &Lab, write: &Write) -> Verdict {
    let (path, rdonly) = write.open(lab, O_RDONLY)?;
    let map = lab.map(write.args(READ_WRITE, PRIVATE, rdonly))?;
    write.must_arrive(lab, map, rdonly, PRIVATE)?;
    // What lies behind the end of the file in its last page can be stored to as well.
    let tail = write.window.len;
    lab.mprotect(map.start(), map.len, READ_WRITE).must_succeed()?;
    if !tail.is_whole() {
        lab.store(map.at(tail), &Data::repeat(1, (map.extent() - tail).get())).must_succeed()?;
    }
    let shared = lab.map(write.args(READ, SHARED, lab.open(path, O_RDWR)?))?;
    lab.load(shared.start(), shared.len).must_hold(&write.window.view())
}

fn windows_beyond() -> Gen<(Window, usize, Size)> {
    drawn("windows on files, and pages beyond their end", (any_window(12), 1..4_usize, (0..reach()).prop_map(Size)))
}

fn beyond_the_end_in_any_mode(lab: &Lab, (window, more, place): (Window, usize, Size)) -> Verdict {
    if machine::directory_in_huge_pages() {
        // Where the end lies then is a matter of fault.beyond-end-of-file.
        return lab.lacking(Lack::FileSystem);
    }
    let path = lab.file(&window.file())?;
    let first = window.size.round_up();
    let len = first + pages(more) - window.offset;
    let at = (first - window.offset) + pages(more - 1) + place;
    for (mode, prot, sharing) in [
        (O_RDONLY, READ_WRITE, PRIVATE),
        (O_RDWR, READ_WRITE, PRIVATE),
        (O_RDWR, READ_WRITE, SHARED),
        (O_RDONLY, READ, SHARED),
    ] {
        let fd = lab.open(path, mode)?;
        let map = lab.map(request(len, prot, sharing, fd).offset(window.offset))?;
        if prot.has(WRITE) {
            lab.store(map.at(at), &Data::repeat(1, 1)).must_be_beyond_the_file(0)?;
        }
        lab.load(map.at(at), 1).must_be_beyond_the_file(0)?;
        lab.load(map.start(), (window.size - window.offset).get()).must_hold(&Data::at(
            window.contents,
            window.offset,
            window.size - window.offset,
        ))?;
    }
    Ok(())
}

/// Rights and sharing type to ask for.
fn any_ask() -> Gen<(Prot, Flags)> {
    each("every combination of rights", all_prots()).and(each("every sharing type", [SHARED, PRIVATE, SHARED_VALIDATE]))
}

fn write_only_descriptor_is_refused(lab: &Lab, write: &Write, (prot, sharing): (Prot, Flags)) -> Verdict {
    let (path, wronly) = write.open(lab, O_WRONLY)?;
    lab.mmap(write.args(prot, sharing, wronly)).must_fail(EACCES)?;
    let rdonly = lab.open(path, O_RDONLY)?;
    let map = lab.map(write.args(READ, sharing, rdonly))?;
    lab.load(map.start(), map.len).must_hold(&write.window.view())?;
    lab.mmap(write.args(NONE, sharing, wronly)).must_fail(EACCES)
}

fn anonymous_memory_ignores_it(lab: &Lab, write: &Write, (prot, sharing): (Prot, Flags)) -> Verdict {
    let (_, wronly) = write.open(lab, O_WRONLY)?;
    // MAP_SHARED_VALIDATE is for files alone.
    let sharing = if sharing == SHARED_VALIDATE { SHARED } else { sharing };
    let len = write.window.len;
    let flags = sharing | Backing::Anonymous.flags();
    let map = lab.map(request(len, prot, flags, wronly))?;
    lab.mprotect(map.start(), len, READ_WRITE).must_succeed()?;
    lab.load(map.start(), len).must_hold(&Data::zeros(len))?;
    lab.map(request(len, prot, flags, NO_FD)).map(drop)
}
