//! Memory without a file between processes: who shares it, who gets a copy, and how long it lives.

use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Edit, Freedom, Gen, Inheritance, any_backing, any_inheritance, any_sharing, any_size, drawn, edits_within,
    many_pages, page_counts,
};
use crate::kernel::call::{ActorId, Call};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, page, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{BUS_ADRERR, Lab};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![shared_with_child(), private_copy_on_write(), related_only(), dev_zero(), outlives_creator()]
}

/// Cases with several processes cost a hundred times those with none.
const OF_FAMILIES: usize = 4;

fn shared_with_child() -> Claim {
    claim("anon.shared-with-child")
        .states("A MAP_SHARED|MAP_ANONYMOUS mapping is shared between parent and child.")
        .documents([DAY8.at("anonymous"), IPC.at("anonymous"), MAPIO.at("anonymous")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("fork, DESCRIPTION, memory mappings"),
            linux("mmap(2), MAP_ANONYMOUS"),
            linux("mmap(2), NOTES"),
        ])
        .for_all(families(Backing::Anonymous), |lab, family| played(lab, &family, SHARED))
        .one_in(OF_FAMILIES)
        .part("of each length", page_counts(), |lab, len| {
            played(lab, &Inheritance::of_siblings(Backing::Anonymous, len.in_pages()), SHARED)
        })
}

fn private_copy_on_write() -> Claim {
    claim("anon.private-copy-on-write")
        .states("A MAP_PRIVATE|MAP_ANONYMOUS mapping is copied on write after fork.")
        .documents([WHAT.at("mmap, flags"), DAY8.at("parent and child")])
        .holds()
        .basis([posix("fork, DESCRIPTION, memory mappings"), linux("mmap(2), MAP_PRIVATE"), linux("fork(2), NOTES")])
        .for_all(families(Backing::Anonymous), |lab, family| played(lab, &family, PRIVATE))
        .one_in(OF_FAMILIES)
        .part("of each length", page_counts(), |lab, len| {
            played(lab, &Inheritance::of_siblings(Backing::Anonymous, len.in_pages()), PRIVATE)
        })
}

/// Families that end, unmap and protect beside what they store; first of all, one in which every member stores at an edge.
fn families(backing: Backing) -> Gen<Inheritance> {
    drawn(
        "memory of up to 20 pages, now and then of hundreds, and what up to five processes of a family do with it",
        any_inheritance(Just(backing).boxed(), Freedom::EndsAndMappings),
    )
    .also([3, 2, 130].map(|count| Inheritance::of_siblings(backing, count)))
    .also_long([Inheritance::of_one_child(backing, 2 * many_pages())])
}

fn played(lab: &Lab, family: &Inheritance, sharing: Flags) -> Verdict {
    let (map, _, first) = family.prepare(lab, sharing)?;
    family.story.play(lab, map.start(), first, sharing == SHARED).map(|_| ())
}

fn related_only() -> Claim {
    claim("anon.related-only")
        .states("Anonymous mappings serve only related processes.")
        .documents([MAPIO.at("anonymous"), IPC.at("anonymous, title")])
        .qualified(
            "Two anonymous mappings are never one, and only fork hands one on; \
             but a file without a name (memfd) can be given to an unrelated process by its descriptor.",
        )
        .basis([
            linux("mmap(2), MAP_ANONYMOUS"),
            linux("mmap(2), NOTES"),
            posix("exec, DESCRIPTION, memory mappings"),
            linux("memfd_create(2), DESCRIPTION"),
            linux("unix(7), SCM_RIGHTS"),
        ])
        .part("no two are one", several(4), |lab, (len, edits)| {
            let maps = edits.iter().map(|_| lab.map(anonymous(len, READ_WRITE, SHARED)));
            let maps = maps.collect::<Verdict<Vec<_>>>()?;
            let mut models = vec![vec![0; len.get()]; maps.len()];
            for (index, edits) in edits.iter().enumerate() {
                for edit in edits {
                    lab.store(maps[index].at(edit.at), &edit.data).must_succeed()?;
                    edit.apply(&mut models[index]);
                }
                for (map, model) in maps.iter().zip(&models) {
                    lab.load(map.start(), len).must_equal(model)?;
                }
            }
            Ok(())
        })
        .part("in processes of their own", several(3), |lab, (len, edits)| {
            let inherited = lab.map(anonymous(len, READ_WRITE, SHARED))?;
            let (child, peer) = (lab.fork()?, lab.peer()?);
            let own = [
                (lab.worker(), inherited),
                (child, child.map(anonymous(len, READ_WRITE, SHARED))?),
                (peer, peer.map(anonymous(len, READ_WRITE, SHARED))?),
            ];
            let mut models = vec![vec![0; len.get()]; own.len()];
            for (index, edits) in edits.iter().enumerate() {
                for edit in edits {
                    own[index].0.store(own[index].1.at(edit.at), &edit.data).must_succeed()?;
                    edit.apply(&mut models[index]);
                }
                for ((who, map), model) in own.iter().zip(&models) {
                    who.load(map.start(), len).must_equal(model)?;
                }
                child.load(inherited.start(), len).must_equal(&models[0])?;
            }
            Ok(())
        })
        .one_in(OF_FAMILIES)
        .part("a file without a name, handed over", several(2), |lab, (len, edits)| {
            let fd = lab.memfd(&Data::zeros(len))?;
            let peer = lab.peer()?;
            let mine = lab.map(request(len, READ_WRITE, SHARED, fd))?;
            let theirs = peer.map(request(len, READ_WRITE, SHARED, peer.adopt(fd)?))?;
            let mut model = vec![0; len.get()];
            for (index, edit) in edits.iter().flatten().enumerate() {
                match index % 2 {
                    0 => peer.store(theirs.at(edit.at), &edit.data),
                    _ => lab.store(mine.at(edit.at), &edit.data),
                }
                .must_succeed()?;
                edit.apply(&mut model);
                lab.load(mine.start(), len).must_equal(&model)?;
                peer.load(theirs.start(), len).must_equal(&model)?;
            }
            Ok(())
        })
        .one_in(OF_FAMILIES)
}

/// A length, and stores for each of `count` mappings of that length.
fn several(count: usize) -> Gen<(Size, Vec<Vec<Edit>>)> {
    let strategy = any_size(1, 12)
        .prop_flat_map(move |len| (Just(len), prop::collection::vec(edits_within(len, 2), count..=count)));
    drawn(format!("{count} mappings of one length, up to 12 pages, and stores to each"), strategy)
}

fn dev_zero() -> Claim {
    claim("anon.dev-zero")
        .states("Mapping /dev/zero does the same: zeroed memory, shared with a child under MAP_SHARED.")
        .documents([DAY8.at("anonymous")])
        .holds()
        .basis([
            unspecified("mmap, DESCRIPTION, first list"),
            linux("linux 7.2, drivers/char/mem.c, mmap_zero_prepare()"),
            linux("linux 7.2, mm/shmem.c, shmem_zero_setup()"),
            linux("zero(4), DESCRIPTION"),
        ])
        .part("zeroed", devices(), |lab, (len, sharing, edits)| {
            let fd = Backing::DevZero.open(lab, &Data::zeros(0))?;
            let args = request(len, READ_WRITE, sharing, fd);
            let (map, twin) = (lab.map(args)?, lab.map(args)?);
            let mut model = vec![0; map.extent().get()];
            let zeros = Data::zeros(map.extent());
            lab.load(map.start(), map.extent()).must_hold(&zeros)?;
            for edit in &edits {
                lab.store(map.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut model);
            }
            lab.write(fd, &edits[0].data).must_return(edits[0].data.len() as u64)?;
            lab.read(fd, map.extent()).must_hold(&zeros)?;
            lab.load(map.start(), map.extent()).must_equal(&model)?;
            lab.load(twin.start(), map.extent()).must_hold(&zeros)?;
            lab.store(map.start(), &Data::pattern(1, map.extent())).prepared()?;
            lab.unmap(map)?;
            let again = lab.map(args)?;
            lab.load(again.start(), again.extent()).must_hold(&zeros)?;
            let fd = lab.open_device("/dev/zero", libc::O_RDONLY)?;
            let prot = if sharing == PRIVATE { READ_WRITE } else { READ };
            let map = lab.map(request(len, prot, sharing, fd))?;
            lab.load(map.start(), map.extent()).must_hold(&zeros)
        })
        .part("shared with a child", families(Backing::DevZero), |lab, family| played(lab, &family, SHARED))
        .one_in(OF_FAMILIES)
        .part("copied on write", families(Backing::DevZero), |lab, family| played(lab, &family, PRIVATE))
        .one_in(2 * OF_FAMILIES)
        .part("private at an offset", offsets(), |lab, (len, offset)| {
            let fd = Backing::DevZero.open(lab, &Data::zeros(0))?;
            let map = lab.map(request(len, READ_WRITE, PRIVATE, fd).offset(offset))?;
            lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
            lab.store(map.at(len - 1), &Data::pattern(1, 1)).must_succeed()
        })
        .part("shared at an offset", offsets(), shared_at_an_offset)
}

fn devices() -> Gen<(Size, Flags, Vec<Edit>)> {
    let strategy = (any_size(1, 20), any_sharing())
        .prop_flat_map(|(len, sharing)| (Just(len), Just(sharing), edits_within(len, 3)));
    drawn("lengths from one byte to 20 pages, both sharing types, stores", strategy)
}

fn offsets() -> Gen<(Size, Size)> {
    drawn(
        "lengths from one byte to 12 pages at offsets of 1 to 15 pages",
        (any_size(1, 12), (1_usize..16).prop_map(pages)),
    )
}

/// The object behind is as long as the mapping, and the mapping begins at the offset in it: Linux has nothing behind its last
/// pages. Nobody promises that, and zeros would be as good.
fn shared_at_an_offset(lab: &Lab, (len, offset): (Size, Size)) -> Verdict {
    let fd = Backing::DevZero.open(lab, &Data::zeros(0))?;
    let map = lab.map(request(len, READ_WRITE, SHARED, fd).offset(offset))?;
    let zeros = Expect::Bytes(vec![0; page()]);
    let beyond = Expect::Fault { signal: libc::SIGBUS, code: BUS_ADRERR, at: 0 };
    for index in 0..len.in_pages() {
        let answer = lab.load(map.at(pages(index)), page());
        if pages(index) + offset < map.extent() {
            answer.must_hold(&Data::zeros(page()))?;
        } else {
            lab.fact("the last pages of a shared mapping of /dev/zero at an offset", answer.outcome());
            answer.may(&[zeros.clone(), beyond.clone()])?;
        }
    }
    Ok(())
}

fn outlives_creator() -> Claim {
    claim("anon.outlives-creator")
        .states(
            "Shared memory is carved out of no process and lives on in those that have it when its creator is gone.",
        )
        .documents([SHM.at("intro")])
        .holds()
        .basis([
            posix("_Exit, Consequences of Process Termination"),
            posix("fork, DESCRIPTION, memory mappings"),
            linux("mmap(2), munmap()"),
            linux("shm_overview(7), Persistence"),
        ])
        .for_all(creators(), |lab, Creator { backing, len, end, nested, edits }| {
            let creator = lab.fork()?;
            let fd = backing.open(creator, &Data::zeros(len))?;
            let map = creator.map(request(len, READ_WRITE, SHARED | backing.flags(), fd))?;
            let mut model = vec![0; len.get()];
            let mut edits = edits.into_iter();
            if let Some(edit) = edits.next() {
                creator.store(map.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut model);
            }
            let first = lab.fork_from(creator.id(), true)?;
            let second = lab.fork_from(if nested { first.id() } else { creator.id() }, true)?;
            match end {
                End::Unmaps => creator.munmap(map.start(), map.len).must_return(0_u64)?,
                End::Exits => creator.call(Call::Exit { status: 0 }).must_exit(0)?,
                End::IsKilled => creator.kill()?,
            }
            let heirs: [(&Lab, ActorId); 2] = [(lab, first.id()), (lab, second.id())];
            for (index, edit) in edits.enumerate() {
                heirs[index % 2].store(map.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut model);
                heirs[(index + 1) % 2].load(map.start(), len).must_equal(&model)?;
            }
            heirs.iter().try_for_each(|heir| heir.load(map.start(), len).must_equal(&model))
        })
        .one_in(OF_FAMILIES)
}

/// How the creator of shared memory lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unmaps,
    Exits,
    IsKilled,
}

/// A process that makes shared memory, has two heirs, and lets go of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Creator {
    backing: Backing,
    len: Size,
    end: End,
    /// Whether the second heir is the child of the first.
    nested: bool,
    /// The first by the creator, the others by its heirs in turn.
    edits: Vec<Edit>,
}

fn creators() -> Gen<Creator> {
    let end = prop::sample::select(vec![End::Unmaps, End::Exits, End::IsKilled]);
    let backing = prop_oneof![2 => Just(Backing::Anonymous), 1 => any_backing()];
    let strategy = (backing, any_size(1, 12), end, any::<bool>()).prop_flat_map(|(backing, len, end, nested)| {
        edits_within(len, 5).prop_map(move |edits| Creator { backing, len, end, nested, edits })
    });
    drawn("shared memory of every kind that a process makes, hands on to two others, and lets go of", strategy)
}
