//! Flags that are checked, and flags that are not: MAP_SHARED_VALIDATE, MAP_SYNC, MAP_STACK, and the sharing types.

use libc::{EEXIST, EINVAL, EOPNOTSUPP, O_RDONLY};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, Depends, SHM, WHAT, claim, linux, posix};
use crate::input::{
    Backing, Edit, Gen, Request, Window, any_request, any_sharing, any_size, any_window, content_seed, drawn, each,
    edits_within,
};
use crate::kernel::call::{At, MmapArgs, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{
    ANONYMOUS, DENYWRITE, DROPPABLE, EXECUTABLE, FIXED, FIXED_NOREPLACE, Flags, NONBLOCK, NONE, NORESERVE, POPULATE,
    PRIVATE, READ, READ_WRITE, SHARED, SHARED_VALIDATE, STACK, SYNC, UNINITIALIZED, WRITE,
};
use crate::kernel::page::{Size, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![shared_validate(), sync(), stack(), only_with_sharing()]
}

fn shared_validate() -> Claim {
    claim("flag.shared-validate")
        .states("MAP_SHARED_VALIDATE is a MAP_SHARED that checks its flags: an unknown one is EOPNOTSUPP, where MAP_SHARED ignores it.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_SHARED_VALIDATE"),
            linux("mm/mmap.c, do_mmap(): flags outside LEGACY_MAP_MASK are refused for files, before access rights"),
        ])
        .part("as MAP_SHARED", stores(), |lab, stores| shared_as_ever(lab, &stores))
        .part("in other processes", stores().and(drawn("flags of bits 21 to 25", unknown())), by_others_as_well)
        .one_in(16)
        .part("flags that are known", stores().and(drawn("known flags", known())), known_flags_are_taken)
        .part("unknown flags", requests().and(drawn("flags of bits 21 to 25", unknown())), unknown_flags_are_refused)
        .part("MAP_SHARED and MAP_PRIVATE take any flag", stores().and(drawn("flags of bits 21 to 25, and such as have no effect", ignored())), others_ignore_them)
        .part("not for anonymous memory", any_request(), |lab, wanted| {
            let args = anonymous(wanted.len, wanted.prot, SHARED_VALIDATE);
            lab.mmap(args).must_fail(EINVAL)?;
            lab.map(args.sharing(SHARED)).map(drop)
        })
}

fn sync() -> Claim {
    claim("flag.sync")
        .states("MAP_SYNC works only together with MAP_SHARED_VALIDATE, and only on DAX files; any other file is refused.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_SYNC"),
            linux("mm/mmap.c, do_mmap(): unknown unless the file's operations allow it"),
            linux("include/linux/dax.h, daxdev_mapping_supported(): ext4 and xfs refuse it without DAX, whatever the sharing type"),
            linux("proc_pid_smaps(5), VmFlags, sf"),
        ])
        .part("memory files and /dev/zero", requests(), never_on_memory)
        .part("files", stores(), |lab, stores| on_files_with_dax_alone(lab, &stores))
        .depends_on([Depends::FileSystem])
        .part("with MAP_SHARED and MAP_PRIVATE", stores().and(each("both", [SHARED, PRIVATE])), refused_or_ignored)
        .depends_on([Depends::FileSystem])
}

fn stack() -> Claim {
    claim("flag.stack")
        .states("MAP_STACK has no effect on Linux at present.")
        .documents([WHAT.at("mmap, flags")])
        .qualified(
            "Contents and rights are the same as without it; but since Linux 6.8, and 6.7 by a later correction, it keeps \
             transparent huge pages away (VmFlags nh), which mmap(2) does not yet say.",
        )
        .basis([
            linux("mmap(2), MAP_STACK"),
            linux("commit c4608d1bf7c6: MAP_STACK becomes VM_NOHUGEPAGE"),
            linux("commit 7190b3c8bd2b: only where transparent huge pages are configured"),
        ])
        .part("contents and rights", any_request(), the_same_as_without)
        .part("huge pages are kept away", any_request(), at_most_huge_pages_are_kept_away)
        .one_in(8)
        .part("where they are, no huge page is made", each("4 MiB and more", [4_usize, 6]), no_huge_page)
        .depends_on([Depends::Release])
}

fn only_with_sharing() -> Claim {
    claim("flag.anonymous-only-with-sharing")
        .states("MAP_ANONYMOUS goes together with MAP_SHARED or MAP_PRIVATE.")
        .documents([DAY8.at("anonymous"), SHM.at("mmap, flags")])
        .holds()
        .basis([
            posix("mmap, ERRORS, [EINVAL] (flags)"),
            linux("mmap(2), ERRORS, EINVAL (flags)"),
            linux("mm/mmap.c, do_mmap(): MAP_DROPPABLE is a third type, since 6.11"),
        ])
        .part("with either", lengths_and_sharing(), with_either)
        .part("with neither", any_request().and(each("types that are none", none_of_them())), with_neither)
        .part("with MAP_DROPPABLE", any_request(), droppable_is_left_open)
}

/// A window on a file, and stores through it.
#[derive(Clone)]
struct Stores {
    window: Window,
    edits: Vec<Edit>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}; {:?}", self.window, self.edits)
    }
}

fn stores() -> Gen<Stores> {
    let strategy = any_window(12)
        .prop_flat_map(|window| edits_within(window.len, 2).prop_map(move |edits| Stores { window, edits }));
    drawn("windows on files of one byte to 12 pages, and stores through them", strategy)
}

impl Stores {
    fn args(&self, lab: &Lab) -> Verdict<(Path, MmapArgs)> {
        let (path, fd) = lab.new_file(&self.window.file())?;
        Ok((path, request(self.window.len, READ_WRITE, SHARED, fd).offset(self.window.offset)))
    }

    /// The stores are seen through the mapping, and reach the file if it is shared, and only then.
    fn must_arrive(&self, lab: &Lab, map: Map, args: MmapArgs) -> Verdict {
        let mut view = self.window.view().to_vec();
        lab.load(map.start(), map.len).must_equal(&view)?;
        for edit in &self.edits {
            lab.store(map.at(edit.at), &edit.data).must_succeed()?;
            edit.apply(&mut view);
        }
        lab.load(map.start(), map.len).must_equal(&view)?;
        let expected = if args.flags.is_shared() { view } else { self.window.view().to_vec() };
        lab.pread(args.fd, map.len, self.window.offset).must_equal(&expected)
    }
}

fn shared_as_ever(lab: &Lab, stores: &Stores) -> Verdict {
    let (path, args) = stores.args(lab)?;
    let args = args.sharing(SHARED_VALIDATE);
    stores.must_arrive(lab, lab.map(args)?, args)?;
    let rdonly = lab.open(path, O_RDONLY)?;
    lab.mmap(args.fd(rdonly)).must_fail(libc::EACCES)?;
    lab.map(args.fd(rdonly).prot(READ)).map(drop)
}

/// Who has forked or has nothing in common with the worker shares by it too, and is refused what is unknown.
fn by_others_as_well(lab: &Lab, (stores, flags): (Stores, Flags)) -> Verdict {
    let (path, args) = stores.args(lab)?;
    let args = args.sharing(SHARED_VALIDATE);
    for (index, who) in [lab.fork()?, lab.peer()?].into_iter().enumerate() {
        let args = args.fd(who.open(path, libc::O_RDWR)?);
        who.mmap(args.and(flags)).must_fail(EOPNOTSUPP)?;
        let map = who.map(args)?;
        let data = Data::at(3 + index as u32, 0, map.len);
        who.store(map.start(), &data).must_succeed()?;
        lab.pread(lab.open(path, O_RDONLY)?, map.len, stores.window.offset).must_hold(&data)?;
    }
    Ok(())
}

/// What every kernel with MAP_SHARED_VALIDATE knows. MAP_LOCKED is left out, since it may be refused for the limit.
fn known() -> BoxedStrategy<Flags> {
    prop::sample::subsequence(
        vec![NORESERVE, POPULATE, NONBLOCK, STACK, UNINITIALIZED, DENYWRITE, EXECUTABLE, FIXED],
        1..4,
    )
    .prop_map(joined)
    .boxed()
}

fn joined(flags: Vec<Flags>) -> Flags {
    flags.into_iter().fold(Flags::default(), |all, flag| all | flag)
}

fn known_flags_are_taken(lab: &Lab, (stores, flags): (Stores, Flags)) -> Verdict {
    let (_, args) = stores.args(lab)?;
    let args = args.sharing(SHARED_VALIDATE).and(flags);
    let args = if flags.has(FIXED) { args.hint(At::Arena(pages(9).get())) } else { args };
    stores.must_arrive(lab, lab.map(args)?, args)
}

/// What mappings take that do not check their flags (mmap(2), MAP_DENYWRITE and MAP_EXECUTABLE).
fn ignored() -> BoxedStrategy<Flags> {
    let old = prop::sample::subsequence(vec![DENYWRITE, EXECUTABLE], 1..=2).prop_map(joined);
    prop_oneof![2 => unknown(), 1 => old].boxed()
}

/// Bits that are in the list of no architecture and no release.
fn unknown() -> BoxedStrategy<Flags> {
    let bits: Vec<Flags> = (21..26_u32).map(|bit| Flags(1 << bit)).collect();
    prop::sample::subsequence(bits, 1..=5).prop_map(joined).boxed()
}

/// Requests for mappings of anything that has a descriptor.
fn requests() -> Gen<Request> {
    let backing = prop::sample::select(vec![Backing::File, Backing::Memfd, Backing::DevZero]);
    let strategy = (backing, content_seed(), any_size(0, 6), any_size(1, 6), 0..4_usize).prop_map(
        |(backing, contents, size, len, offset)| {
            let offset = if backing == Backing::DevZero { Size::ZERO } else { pages(offset) };
            Request { backing, contents, size, len, prot: READ_WRITE, sharing: SHARED, offset }
        },
    );
    drawn("shared mappings of files, memory files and /dev/zero", strategy)
}

/// EOPNOTSUPP, in the company of known flags, and before a missing right is found.
fn unknown_flags_are_refused(lab: &Lab, (wanted, flags): (Request, Flags)) -> Verdict {
    let args = wanted.prepare(lab)?.sharing(SHARED_VALIDATE);
    lab.mmap(args.and(flags)).must_fail(EOPNOTSUPP)?;
    lab.mmap(args.and(flags | NORESERVE)).must_fail(EOPNOTSUPP)?;
    lab.mmap(args.and(flags).fixed(At::Arena(pages(9).get()))).must_fail(EOPNOTSUPP)?;
    if wanted.backing == Backing::File {
        let rdonly = lab.open(lab.file(&Data::pattern(2, pages(1)))?, O_RDONLY)?;
        lab.mmap(args.and(flags).fd(rdonly).prot(WRITE)).must_fail(EOPNOTSUPP)?;
    }
    // Younger than the list of what is known by custom; but what is in the way is found first.
    let at = At::Arena(pages(9).get());
    lab.mmap(args.hint(at).and(FIXED_NOREPLACE)).must_fail(EEXIST)?;
    let at = lab.hole(pages(9), wanted.len);
    lab.mmap(args.hint(at).and(FIXED_NOREPLACE)).must_fail(EOPNOTSUPP)?;
    lab.map(args).map(drop)
}

fn others_ignore_them(lab: &Lab, (stores, flags): (Stores, Flags)) -> Verdict {
    for sharing in [PRIVATE, SHARED] {
        let (_, args) = stores.args(lab)?;
        let args = args.sharing(sharing).and(flags);
        stores.must_arrive(lab, lab.map(args)?, args)?;
    }
    Ok(())
}

fn never_on_memory(lab: &Lab, wanted: Request) -> Verdict {
    let wanted = if wanted.backing == Backing::File { Request { backing: Backing::Memfd, ..wanted } } else { wanted };
    let args = wanted.prepare(lab)?.sharing(SHARED_VALIDATE);
    for prot in [NONE, READ, WRITE, READ_WRITE] {
        lab.mmap(args.prot(prot).and(SYNC)).must_fail(EOPNOTSUPP)?;
    }
    lab.map(args).map(drop)
}

/// Whether a file's contents are accessed without a page cache (statx(2), STATX_ATTR_DAX).
fn is_dax(path: Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    const DAX: StatxAttributes = StatxAttributes::from_bits_retain(0x0020_0000);
    let file = statx(CWD, path.to_string(), AtFlags::empty(), StatxFlags::BASIC_STATS);
    file.is_ok_and(|file| file.stx_attributes.contains(DAX))
}

fn on_files_with_dax_alone(lab: &Lab, stores: &Stores) -> Verdict {
    let (path, args) = stores.args(lab)?;
    let args = args.sharing(SHARED_VALIDATE).and(SYNC);
    if !is_dax(path) {
        lab.mmap(args.prot(READ)).must_fail(EOPNOTSUPP)?;
        return lab.mmap(args).must_fail(EOPNOTSUPP);
    }
    let map = lab.map(args)?;
    stores.must_arrive(lab, map, args)?;
    let flags = lab.smaps(map.start(), "VmFlags")?;
    lab.must(flags.split(' ').any(|flag| flag == "sf"), "VmFlags has sf", || flags.clone())
}

/// mmap(2) says that it is ignored; on ext4 and xfs it reaches the file system, which refuses it.
fn refused_or_ignored(lab: &Lab, (stores, sharing): (Stores, Flags)) -> Verdict {
    let (_, args) = stores.args(lab)?;
    let args = args.sharing(sharing).and(SYNC);
    let (answer, map) = lab.try_map(args);
    lab.fact("MAP_SYNC without MAP_SHARED_VALIDATE, on a file", if map.is_some() { "ignored" } else { "refused" });
    answer.checked(&Expect::AnyOf(vec![Expect::Success, Expect::Refused(EOPNOTSUPP)]))?;
    if let Some(map) = map {
        stores.must_arrive(lab, map, args)?;
    }
    lab.must(true, "refused with EOPNOTSUPP, or ignored", String::new)?;
    let map = lab.map(anonymous(stores.window.len, READ_WRITE, sharing).and(SYNC))?;
    lab.load(map.start(), map.len).must_hold(&Data::zeros(map.len))
}

fn the_same_as_without(lab: &Lab, wanted: Request) -> Verdict {
    let args = wanted.prepare(lab)?;
    let map = lab.map(args.and(STACK))?;
    let view = wanted.view();
    let len = view.len();
    if len > 0 && wanted.prot.has(READ) && !wanted.prot.has(WRITE) {
        lab.store(map.start(), &Data::repeat(1, 1)).must_be_forbidden(0)?;
    }
    lab.mprotect(map.start(), map.len, READ_WRITE).must_succeed()?;
    lab.load(map.start(), len).must_equal(&view)?;
    lab.store(map.start(), &Data::pattern(1, len)).must_succeed()?;
    lab.load(map.start(), len).must_hold(&Data::pattern(1, len))?;
    // It does not grow, as memory with MAP_GROWSDOWN does.
    let placed = lab.map(args.fixed(At::Arena(pages(9).get())).and(STACK))?;
    lab.hole(pages(8), pages(1));
    lab.load(placed.start().minus(1), 1).must_be_unmapped(0)
}

fn flags_of(lab: &Lab, map: Map) -> Verdict<Vec<String>> {
    Ok(lab.smaps(map.start(), "VmFlags")?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// In all that the kernel tells of the mapping, at most one thing is other than without the flag.
fn at_most_huge_pages_are_kept_away(lab: &Lab, wanted: Request) -> Verdict {
    let args = wanted.prepare(lab)?;
    let mut with = flags_of(lab, lab.map(args.and(STACK))?)?;
    let without = flags_of(lab, lab.map(args)?)?;
    let kept_away = with.iter().any(|flag| flag == "nh");
    lab.fact("MAP_STACK keeps transparent huge pages away", kept_away);
    with.retain(|flag| flag != "nh" || without.contains(flag));
    lab.must(with == without, "VmFlags are those of a mapping without MAP_STACK, but for nh", || with.join(" "))
}

fn no_huge_page(lab: &Lab, mebibytes: usize) -> Verdict {
    let map = lab.map(anonymous(Size(mebibytes << 20), READ_WRITE, PRIVATE).and(STACK))?;
    if !flags_of(lab, map)?.iter().any(|flag| flag == "nh") {
        return lab.lacking(crate::kernel::outcome::Lack::Release);
    }
    lab.touch(map.start(), map.len, true).prepared()?;
    let huge = lab.smaps(map.start(), "AnonHugePages")?;
    lab.must(huge == "0 kB", "no transparent huge page lies in it", || huge.clone())
}

fn lengths_and_sharing() -> Gen<(Size, Flags)> {
    drawn("lengths, and either type", (any_size(1, 20), any_sharing()))
}

fn with_either(lab: &Lab, (len, sharing): (Size, Flags)) -> Verdict {
    let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
    lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
    lab.store(map.start(), &Data::pattern(1, map.extent())).must_succeed()?;
    lab.load(map.start(), map.extent()).must_hold(&Data::pattern(1, map.extent()))
}

/// No type at all, that of files alone, and numbers that stand for none.
fn none_of_them() -> Vec<Flags> {
    (0..16).map(Flags).filter(|kind| ![SHARED, PRIVATE, DROPPABLE].contains(kind)).collect()
}

fn with_neither(lab: &Lab, (wanted, kind): (Request, Flags)) -> Verdict {
    let args = wanted.prepare(lab)?;
    lab.mmap(args.sharing(kind).and(ANONYMOUS)).must_fail(EINVAL)?;
    lab.map(args.and(ANONYMOUS)).map(drop)
}

/// Memory that the kernel may take back under pressure, where there is such a thing: then it is zero again.
fn droppable_is_left_open(lab: &Lab, wanted: Request) -> Verdict {
    let made = lab.aside(|| {
        let (answer, map) = lab.try_map(anonymous(wanted.len, READ_WRITE, DROPPABLE));
        let refused = [Expect::Refused(EINVAL), Expect::Refused(EOPNOTSUPP)];
        answer.checked(&Expect::AnyOf([Expect::Success].into_iter().chain(refused).collect()))?;
        if let Some(map) = map {
            lab.load(map.start(), map.extent()).checked(&Expect::Bytes(vec![0; map.extent().get()]))?;
        }
        Ok(map.is_some())
    })?;
    lab.fact("MAP_DROPPABLE", if made { "known" } else { "unknown" });
    lab.must(true, "zeros, or refused", String::new)
}
