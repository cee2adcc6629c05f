//! What the model leaves open, and what it does not: each test shows it outcomes of kernels, right ones and wrong ones.

use mmap_conformance::kernel::call::{ActorId, At, Call, Fd, MapId, MmapArgs, Path};
use mmap_conformance::kernel::data::Data;
use mmap_conformance::kernel::names::{FIXED, Flags, PRIVATE, READ_WRITE, SHARED};
use mmap_conformance::kernel::outcome::Outcome;
use mmap_conformance::kernel::page::{Size, page};
use mmap_conformance::model::{Rule, World};

const WHO: ActorId = ActorId(0);
const FILE: Fd = Fd::Named(1);
/// Where the bytes are that the tests change and look at.
const PLACE: usize = 100;
const OLD: &[u8; 4] = b"oooo";
const NEW: &[u8; 4] = b"wwww";

/// A system of one process, one file and one mapping of it.
struct System(World);

impl System {
    /// The file has this size, and `OLD` everywhere.
    fn with(sharing: Flags, size: usize, wrong: Option<Rule>) -> System {
        let mut world = World::new(16 * page(), 4);
        world.wrong = wrong;
        let mut system = System(world);
        let flags = (libc::O_RDWR | libc::O_CREAT) as u32;
        system.goes_on(&Call::Open { path: Path(1), flags, mode: 0o600, fd: FILE }, &Outcome::Value(3));
        system.write(0, &vec![OLD[0]; size]);
        let flags = sharing | FIXED;
        let args =
            MmapArgs { at: At::Arena(0), len: Size(page()), prot: READ_WRITE, flags, fd: FILE, offset: Size::ZERO };
        system.goes_on(&Call::Mmap { args, map: MapId(1) }, &Outcome::Mapped(16 * page()));
        system
    }

    fn allows(&self, call: &Call, outcome: &Outcome) -> bool {
        self.0.predict(WHO, call).expect("the model speaks of it").expect.allows(outcome)
    }

    /// The kernel did this, and the model takes it.
    fn goes_on(&mut self, call: &Call, outcome: &Outcome) {
        assert!(self.0.wrong.is_some() || self.allows(call, outcome), "{call:?}: {outcome}");
        self.0.apply(WHO, call, outcome);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let data = Data::Literal(bytes.to_vec());
        self.goes_on(&Call::Pwrite { fd: FILE, data, offset: Size(at) }, &Outcome::Value(bytes.len() as u64));
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        let data = Data::Literal(bytes.to_vec());
        self.goes_on(&Call::Store { at: At::Arena(at), data }, &Outcome::DONE);
    }

    /// Whether a load of these bytes is allowed.
    fn may_show(&self, at: usize, bytes: &[u8]) -> bool {
        self.allows(&Call::Load { at: At::Arena(at), len: bytes.len() }, &Outcome::Bytes(bytes.to_vec()))
    }

    fn shows(&mut self, at: usize, bytes: &[u8]) {
        self.goes_on(&Call::Load { at: At::Arena(at), len: bytes.len() }, &Outcome::Bytes(bytes.to_vec()));
    }

    fn may_read(&self, at: usize, bytes: &[u8]) -> bool {
        let call = Call::Pread { fd: FILE, len: bytes.len(), offset: Size(at) };
        self.allows(&call, &Outcome::Bytes(bytes.to_vec()))
    }
}

#[test]
fn an_untouched_private_page_shows_the_file_as_it_is_or_was() {
    let mut system = System::with(PRIVATE, page(), None);
    system.write(PLACE, NEW);
    assert!(system.may_show(PLACE, OLD) && system.may_show(PLACE, NEW));
    assert!(!system.may_show(PLACE, b"wwwx") && !system.may_show(PLACE, &[0; 4]), "no file has held these");
    assert!(!system.may_show(PLACE + 4, NEW), "nobody has written there");
    assert!(system.may_read(PLACE, NEW) && !system.may_read(PLACE, OLD), "read leaves nothing open");
    system.shows(PLACE, OLD);
    assert!(system.may_show(PLACE, NEW), "it may come to be seen later");
}

#[test]
fn a_shared_page_shows_the_file_as_it_is() {
    let mut system = System::with(SHARED, page(), None);
    system.write(PLACE, NEW);
    assert!(system.may_show(PLACE, NEW) && !system.may_show(PLACE, OLD));
}

#[test]
fn a_private_store_settles_its_page() {
    let mut system = System::with(PRIVATE, page(), None);
    system.write(PLACE, NEW);
    system.store(0, b"mine");
    assert!(system.may_show(0, b"mine") && !system.may_show(0, OLD));
    assert!(system.may_show(PLACE, OLD) && system.may_show(PLACE, NEW), "the copy is of one or of the other");
    system.shows(PLACE, OLD);
    assert!(system.may_show(PLACE, OLD) && !system.may_show(PLACE, NEW), "and stays as it is");
    system.write(PLACE, b"late");
    assert!(system.may_show(PLACE, OLD) && !system.may_show(PLACE, b"late"));
}

#[test]
fn dropped_private_changes_leave_nothing_old() {
    let mut system = System::with(PRIVATE, page(), None);
    system.write(PLACE, NEW);
    let (at, len, advice) = (At::Arena(0), Size(page()), libc::MADV_DONTNEED as u32);
    system.goes_on(&Call::Madvise { at, len, advice }, &Outcome::DONE);
    assert!(system.may_show(PLACE, NEW) && !system.may_show(PLACE, OLD));
}

#[test]
fn a_page_that_the_file_lost_comes_back_as_zeros() {
    let mut system = System::with(PRIVATE, page(), None);
    for len in [0, page()] {
        system.goes_on(&Call::Ftruncate { fd: FILE, len: Size(len) }, &Outcome::DONE);
    }
    assert!(system.may_show(PLACE, &[0; 4]) && !system.may_show(PLACE, OLD));
}

#[test]
fn the_tail_of_the_last_page_is_zero_until_it_is_stored_to() {
    let mut system = System::with(SHARED, PLACE, None);
    assert!(system.may_show(PLACE, &[0; 4]) && !system.may_show(PLACE, OLD));
    system.store(PLACE, NEW);
    assert!(system.may_show(PLACE, NEW), "it is in memory");
    assert!(system.may_show(PLACE, &[0; 4]), "writing the page back clears it");
    assert!(!system.may_show(PLACE, OLD));
    assert!(system.may_read(PLACE, b"") && !system.may_read(PLACE, NEW), "the file does not hold it");
}

#[test]
fn what_a_file_gains_is_zero_or_what_was_stored_in_its_tail() {
    let mut system = System::with(SHARED, PLACE, None);
    system.store(PLACE, NEW);
    system.goes_on(&Call::Ftruncate { fd: FILE, len: Size(page()) }, &Outcome::DONE);
    assert!(system.may_read(PLACE, NEW) && system.may_read(PLACE, &[0; 4]) && !system.may_read(PLACE, OLD));
    assert!(!system.may_read(PLACE + 4, NEW), "nobody has stored there");
    system.shows(PLACE, &[0; 4]);
    assert!(system.may_read(PLACE, &[0; 4]) && !system.may_read(PLACE, NEW), "both see one page");
}

#[test]
fn a_smaller_file_has_zeros_in_its_tail() {
    let mut system = System::with(SHARED, page(), None);
    system.goes_on(&Call::Ftruncate { fd: FILE, len: Size(PLACE) }, &Outcome::DONE);
    assert!(system.may_show(PLACE, &[0; 4]) && !system.may_show(PLACE, OLD));
}

#[test]
fn both_rules_can_be_planted_as_wrong() {
    let mut private = System::with(PRIVATE, page(), Some(Rule::PrivateUntouched));
    private.write(PLACE, NEW);
    assert!(!private.may_show(PLACE, OLD) && !private.may_show(PLACE, NEW));
    let tail = System::with(SHARED, PLACE, Some(Rule::TailZero));
    assert!(!tail.may_show(PLACE, &[0; 4]));
}
