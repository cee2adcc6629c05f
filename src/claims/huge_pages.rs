//! MAP_HUGETLB and the sizes of huge pages.
//!
//! They are the machine's: a case takes its turn, takes few, and gives them back. Where there are none, that is what is shown.

use libc::{EINVAL, ENOENT, ENOMEM};
use proptest::prelude::*;

use crate::claim::{Claim, Depends, WHAT, claim, linux};
use crate::input::patchwork::beyond_the_file;
use crate::input::{Backing, Gen, any_sharing, any_size, drawn, each, reach};
use crate::kernel::data::Data;
use crate::kernel::lock;
use crate::kernel::machine::{self, Pool};
use crate::kernel::names::{Flags, HUGETLB, NORESERVE, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, page, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![hugetlb(), huge_2mb()]
}

fn hugetlb() -> Claim {
    claim("flag.hugetlb")
        .states("MAP_HUGETLB makes a mapping of huge pages.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_HUGETLB; NOTES, Huge page mappings; ERRORS, ENOMEM"),
            linux("fs/hugetlbfs/inode.c, hugetlb_file_setup(): reserved by mmap, so an empty pool is ENOMEM"),
            linux("mm/mmap.c, ksys_mmap_pgoff(): EINVAL for a file that is not on hugetlbfs"),
        ])
        .part("where there are free ones", asks(), made_of_huge_pages)
        .one_in(8)
        .depends_on([Depends::Machine, Depends::Privilege, Depends::HugePages])
        .part("one more than there are", asks(), refused_beyond_the_pool)
        .one_in(8)
        .depends_on([Depends::Machine, Depends::Privilege, Depends::HugePages])
        .part("not reserved, and none there", any_ask(), none_when_touched)
        .one_in(8)
        .depends_on([Depends::Machine, Depends::Privilege, Depends::HugePages])
        .part("not of a file elsewhere", elsewhere(), refused_for_files)
}

fn huge_2mb() -> Claim {
    claim("flag.huge-2mb")
        .states("MAP_HUGE_2MB, together with MAP_HUGETLB, chooses pages of 2 MiB.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_HUGE_2MB"),
            linux("mm/mmap.c, ksys_mmap_pgoff(): EINVAL for a size that the machine does not have"),
        ])
        .part("2 MiB", any_ask(), |lab, ask| of_size(lab, 21, ask))
        .one_in(8)
        .depends_on([Depends::Machine, Depends::Privilege, Depends::HugePages])
        .part(
            "every power of two",
            each("sizes of 4 KiB to 16 GiB", 12..=34_u32).and(each("both", [SHARED, PRIVATE])),
            |lab, (log, sharing)| of_size(lab, log, Ask { count: 1, short: Size(0), sharing }),
        )
        .depends_on([Depends::Machine, Depends::Privilege, Depends::HugePages])
        .part("without MAP_HUGETLB the bits mean nothing", ordinary(), ordinary_pages)
        .one_in(8)
}

/// So many huge pages, less some bytes.
#[derive(Clone, Copy)]
struct Ask {
    count: usize,
    short: Size,
    sharing: Flags,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} huge pages less {}, {:?}", self.count, self.short, self.sharing)
    }
}

fn any_ask() -> Gen<Ask> {
    let short = prop_oneof![2 => Just(Size(0)), 1 => Just(pages(1)), 1 => (0..reach()).prop_map(Size)];
    drawn(
        "a few huge pages, less some bytes",
        (1..3_usize, short, any_sharing()).prop_map(|(count, short, sharing)| Ask { count, short, sharing }),
    )
}

fn asks() -> Gen<Ask> {
    any_ask()
        .also([Ask { count: 1, short: Size(0), sharing: PRIVATE }, Ask { count: 1, short: pages(1), sharing: SHARED }])
}

impl Ask {
    fn args(&self, size: usize, flags: Flags) -> crate::kernel::call::MmapArgs {
        anonymous(Size(size * self.count) - self.short, READ_WRITE, self.sharing).and(flags)
    }
}

/// The pages of the default size; a skip where this machine has none, having shown that they are refused.
fn default_pool(lab: &Lab) -> Verdict<Pool> {
    if let Some(pool) = machine::default_huge_size().and_then(machine::huge_pool) {
        return Ok(pool);
    }
    if machine::huge_sizes().is_empty() && std::path::Path::new("/sys/kernel/mm").exists() {
        lab.mmap(anonymous(page(), READ_WRITE, PRIVATE).and(HUGETLB)).must_fail_with_any(&[ENOENT, EINVAL])?;
        return lab.lacking(Lack::Machine);
    }
    lab.lacking(Lack::Proc)
}

/// A mapping of huge pages, if there are as many; where there were, and still are, it must not be refused.
fn take(lab: &Lab, ask: Ask, flags: Flags, pool: Pool) -> Verdict<Map> {
    let (answer, map) = lab.try_map(ask.args(pool.size, flags));
    if let Some(map) = map {
        return Ok(map);
    }
    let enough = |pool: Option<Pool>| pool.is_some_and(|pool| pool.left >= ask.count);
    let were_there = enough(Some(pool)) && enough(machine::huge_pool(pool.size));
    let must_succeed = were_there && !machine::is_in_a_control_group();
    answer.checked(&if must_succeed { Expect::Success } else { Expect::Refused(ENOMEM) })?;
    lab.lacking(Lack::HugePages)
}

/// More than this is not cleared for the sake of a case.
const SMALL: usize = 32 << 20;

fn made_of_huge_pages(lab: &Lab, ask: Ask) -> Verdict {
    let _turn = lock::turn();
    let pool = default_pool(lab)?;
    let map = take(lab, ask, HUGETLB, pool)?;
    must_be_huge(lab, map, ask, pool.size)
}

/// Aligned, of that page size, usable up to the end of the last huge page, and unmapped by whole huge pages only.
fn must_be_huge(lab: &Lab, map: Map, ask: Ask, size: usize) -> Verdict {
    let aligned = map.address.is_multiple_of(size);
    let page_size = lab.smaps(map.start(), "KernelPageSize")?;
    let expected = format!("{} kB", size >> 10);
    let whole = Size(size * ask.count);
    let usable = if whole.get() <= SMALL { use_all(lab, map, whole, size) } else { Ok(()) };
    // A part of a huge page cannot be unmapped, nor can one be cut (mmap(2), NOTES).
    let part = lab.munmap(map.start(), page()).must_fail(EINVAL);
    let middle = lab.munmap(map.at(page()), whole - page()).must_fail(EINVAL);
    // Given back before anything is judged: the clean-up of a case knows only ordinary pages.
    lab.munmap(map.start(), whole).must_succeed()?;
    usable.and(part).and(middle)?;
    lab.must(aligned, "the address is a multiple of the huge page's size", || "it is not".into())?;
    lab.must(page_size == expected, "the page size of the mapping is that of the huge pages", || page_size.clone())?;
    lab.load(map.start(), 1).must_be_unmapped(0)
}

/// Zeros at first, and every page keeps what is stored to it.
fn use_all(lab: &Lab, map: Map, whole: Size, size: usize) -> Verdict {
    for at in (0..whole.get()).step_by(size) {
        lab.load(map.at(at), page()).checked(&Expect::Bytes(vec![0; page()]))?;
        lab.load(map.at(at + size - page()), page()).checked(&Expect::Bytes(vec![0; page()]))?;
        lab.store(map.at(at), &Data::pattern(1, 100)).checked(&Expect::Success)?;
        lab.store(map.at(at + size - 100), &Data::pattern(3, 100)).checked(&Expect::Success)?;
    }
    for at in (0..whole.get()).step_by(size) {
        lab.load(map.at(at), 100).must_hold(&Data::pattern(1, 100))?;
        lab.load(map.at(at + size - 100), 100).must_hold(&Data::pattern(3, 100))?;
    }
    Ok(())
}

fn refused_beyond_the_pool(lab: &Lab, ask: Ask) -> Verdict {
    let _turn = lock::turn();
    let pool = default_pool(lab)?;
    let more = Ask { count: pool.left + ask.count, short: Size::ZERO, ..ask };
    let (answer, map) = lab.try_map(more.args(pool.size, HUGETLB));
    if let Some(map) = map {
        lab.munmap(map.start(), map.len).prepared()?;
    }
    if machine::huge_pool(pool.size) != Some(pool) {
        // Somebody outside of this suite takes or gives pages at the same time.
        return lab.lacking(Lack::HugePages);
    }
    answer.must_fail(ENOMEM)
}

/// With MAP_NORESERVE the mapping is made all the same, and the touch is SIGBUS.
fn none_when_touched(lab: &Lab, ask: Ask) -> Verdict {
    let _turn = lock::turn();
    let pool = default_pool(lab)?;
    if pool.size > SMALL {
        return lab.lacking(Lack::HugePages);
    }
    let map = lab.map(ask.args(pool.size, HUGETLB | NORESERVE))?;
    let touched = lab.store(map.start(), &Data::repeat(1, 1));
    lab.munmap(map.start(), pool.size * ask.count).prepared()?;
    let none = pool.left == 0 && machine::huge_pool(pool.size) == Some(pool);
    lab.fact("a huge page that was not reserved", touched.outcome());
    let expect = if none { beyond_the_file() } else { Expect::AnyOf(vec![Expect::Success, beyond_the_file()]) };
    touched.checked(&expect)?;
    lab.must(true, "mapped without reserve; where none is free, touching it is SIGBUS", String::new)
}

fn elsewhere() -> Gen<(Backing, (Size, Flags))> {
    let backing = prop::sample::select(vec![Backing::File, Backing::Memfd, Backing::DevZero]);
    drawn("files that are not on hugetlbfs", (backing, (any_size(1, 4), any_sharing())))
}

fn refused_for_files(lab: &Lab, (backing, (len, sharing)): (Backing, (Size, Flags))) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(2, len))?;
    let args = request(len, READ_WRITE, sharing, fd);
    lab.mmap(args.and(HUGETLB)).must_fail(EINVAL)?;
    lab.mmap(args.and(Flags::huge(21))).must_fail(EINVAL)?;
    lab.map(args).map(drop)
}

fn of_size(lab: &Lab, log: u32, ask: Ask) -> Verdict {
    let _turn = lock::turn();
    let (size, sizes) = (1_usize << log, machine::huge_sizes());
    if let Some(pool) = machine::huge_pool(size) {
        let map = take(lab, ask, Flags::huge(log), pool)?;
        return must_be_huge(lab, map, ask, size);
    }
    let answer = lab.mmap(ask.args(size.max(page() * 2), Flags::huge(log)));
    if sizes.is_empty() { answer.must_fail_with_any(&[EINVAL, ENOENT, ENOMEM]) } else { answer.must_fail(EINVAL) }
}

fn ordinary() -> Gen<(u32, (Size, Flags))> {
    drawn("the bits of any size, and ordinary lengths", (1..64_u32, (any_size(1, 6), any_sharing())))
}

fn ordinary_pages(lab: &Lab, (log, (len, sharing)): (u32, (Size, Flags))) -> Verdict {
    let bits = Flags(Flags::huge(log).0 & !HUGETLB.0);
    let map = lab.map(anonymous(len, READ_WRITE, sharing).and(bits))?;
    lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
    let size = lab.smaps(map.start(), "KernelPageSize")?;
    lab.must(size == format!("{} kB", page() >> 10), "its pages are ordinary ones", || size.clone())?;
    lab.munmap(map.start(), page()).must_succeed()
}
