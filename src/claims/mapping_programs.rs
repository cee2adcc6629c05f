//! The documents' programs that pass a string on through a mapping.

use libc::{EINVAL, ENOENT, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, SEEK_END};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, WHAT, claim, linux, posix};
use crate::input::*;
use crate::kernel::call::{At, Call, Path, Segment, Width};
use crate::kernel::data::{Data, Excerpt};
use crate::kernel::names::{Flags, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::answer::Answer;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![write_string(), fork_variable(), server_client(), parent_child_string(), anonymous_string(), two_programs()]
}

fn write_string() -> Claim {
    let too_long = (1..3000_usize, 0.0..1.0_f64, 0..1000_u32).prop_map(|(size, share, seed)| {
        let size = Size(size.min(reach() - 1));
        let room = (pages(1) - size).get() - 1;
        (Text::Drawn(seed, size + (share * room.min(reach()) as f64) as usize), size)
    });
    claim("program.write-string")
        .states("A program creates a file, gives it a size, maps it, stores a string, unmaps and closes: the file holds the string.")
        .documents([DAY8.at("listing 1"), WHAT.at("listing")])
        .holds()
        .basis([
            posix("ftruncate, DESCRIPTION"),
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("mmap, DESCRIPTION, end of an object"),
            linux("mmap(2), MAP_SHARED"),
        ])
        .part("a string that fits", notes().also([Note::of("abc", 4)]), |lab, note| {
            let path = note.file_or_none(lab)?;
            let writer = lab.peer()?;
            stores_a_string(writer, path, note.text, note.size)?;
            ends(writer)?;
            file_must_hold(lab, path, &note.new_file())
        })
        .one_in(4)
        .part("a string that does not", drawn("strings longer than the file, yet within its last page", too_long).also([(Text::Said("this is a test for mmap\n"), Size(20))]), |lab, (text, size)| {
            let (path, writer) = (lab.new_path(), lab.peer()?);
            stores_a_string(writer, path, text, size)?;
            ends(writer)?;
            file_must_hold(lab, path, &text.string().to_vec()[..size.get()])
        })
        .one_in(4)
}

fn fork_variable() -> Claim {
    let drawn_values = (any::<[u32; 4]>(), any_sharing(), any_size(0, 3)).prop_map(|(values, sharing, at)| Values {
        values,
        sharing,
        at: at.get() / 4 * 4,
    });
    let values = [100, 1000, 0, 2000];
    let named = [SHARED, PRIVATE].map(|sharing| Values { values, sharing, at: 0 });
    claim("program.fork-variable")
        .states("The child sets an int in the mapping to 2000 and a variable to 1000; the parent then sees 2000 and 100 with MAP_SHARED, 0 and 100 with MAP_PRIVATE.")
        .documents([DAY8.at("parent and child")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("fork, DESCRIPTION, memory mappings"),
            linux("fork(2), DESCRIPTION"),
        ])
        .for_all(drawn("a variable and an int in a mapping, before and after; the sharing type", drawn_values).also(named), |lab, values| {
            a_variable_and_a_mapping(lab, &values)
        })
        .one_in(4)
}

fn server_client() -> Claim {
    claim("program.server-client")
        .states("A server stores a greeting and ends; a client that runs later maps the file and prints it.")
        .documents([SHM.at("example")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("_Exit, Consequences of Process Termination"),
            linux("munmap(2), DESCRIPTION"),
        ])
        .for_all(notes().also([Note::of("hello share memory ipc", 1024)]), |lab, note| greets_and_ends(lab, &note))
        .one_in(8)
}

fn parent_child_string() -> Claim {
    let strings = any_text(1).prop_map(|text| match text {
        Text::Drawn(seed, len) => Text::Drawn(seed, len.min(pages(1) - 1)),
        said => said,
    });
    let strings = drawn("strings that fit into one page", strings).also([Text::Said("i am parent process")]);
    claim("program.parent-child-string")
        .states("The child stores a string in the mapping of a file; the parent waits for it and prints the string.")
        .documents([IPC.at("mmap example, listing"), MAPIO.at("first listing")])
        .holds()
        .basis([
            posix("fork, DESCRIPTION, memory mappings"),
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("mmap, ERRORS, [EINVAL]"),
            linux("mmap(2), NOTES"),
        ])
        .part("a file with room", notes().also([Note::of("nihao a, son!!!", 64)]), |lab, note| {
            let path = note.old_file(lab)?;
            lab.truncate(path, note.size).prepared()?;
            child_tells_parent(lab, path, note.text, |answer, text| answer.must_equal(&text))?;
            file_must_hold(lab, path, &note.new_file())
        })
        .one_in(4)
        .part("an empty file", once(), |lab, ()| {
            let fd = lab.open(lab.file(&Data::zeros(0))?, O_RDWR)?;
            lab.lseek(fd, 0, SEEK_END).must_return(0_u64)?;
            lab.mmap(request(0, READ_WRITE, SHARED, fd)).must_fail(EINVAL)
        })
        .part("a file of one byte", strings, |lab, text| {
            let path = lab.file(&Data::zeros(1))?;
            child_tells_parent(lab, path, text, |answer, text| {
                // What lies behind the end of the file is for all who have the page, until the page is written out and the rest cleared.
                let seen = answer.bytes()?;
                let right = |index: usize, byte: u8| byte == seen[index] || (index > 0 && seen[index] == 0);
                let holds = seen.len() == text.len() && (0..).zip(&text).all(|(index, byte)| right(index, *byte));
                lab.must(holds, "the first byte arrives", || Excerpt(&seen).to_string())
            })?;
            file_must_hold(lab, path, &text.string().to_vec()[..1])
        })
        .one_in(16)
}

fn anonymous_string() -> Claim {
    claim("program.anonymous-string")
        .states("Parent and child pass a string on through an anonymous mapping, in either direction.")
        .documents([IPC.at("anonymous"), MAPIO.at("anonymous")])
        .holds()
        .basis([linux("mmap(2), MAP_ANONYMOUS"), posix("fork, DESCRIPTION, memory mappings")])
        .for_all(talks(), |lab, (talk, spare)| {
            let len = talk.iter().map(|(_, text)| text.size()).max().unwrap_or_default() + spare;
            let map = lab.map(anonymous(len, READ_WRITE, SHARED))?;
            let (parent, child) = (lab.worker(), lab.fork()?);
            lab.load(map.start(), len).must_hold(&Data::zeros(len))?;
            for (down, text) in talk {
                let (from, to) = if down { (parent, child) } else { (child, parent) };
                from.store(map.start(), &text.string()).prepared()?;
                to.load(map.start(), text.size()).must_hold(&text.string())?;
            }
            child.unmap(map)?;
            ends(child)?;
            lab.munmap(map.start(), len).must_succeed()
        })
        .one_in(4)
}

fn two_programs() -> Claim {
    claim("program.two-programs")
        .states("One program gives a file its size and stores text; another, started by itself, prints it.")
        .documents([IPC.at("independent processes")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, MAP_SHARED"), linux("mmap(2), MAP_SHARED")])
        .part("one after the other", notes().also([Note::of("ni hao", 128)]), |lab, note| {
            let path = note.old_file(lab)?;
            let (first, second) = (lab.peer()?, lab.peer()?);
            let fd = first.open(path, O_RDWR)?;
            first.truncate(path, note.size).must_succeed()?;
            first.write(fd, &"1".into()).must_return(1_u64)?;
            first.lseek(fd, 0, SEEK_END).must_return(note.size.get() as u64)?;
            let map = first.map(request(note.size, READ_WRITE, SHARED, fd))?;
            first.store(map.start(), &note.text.string()).must_succeed()?;
            prints_it(second, path, &note)?;
            first.close(fd).must_succeed()?;
            first.unmap(map)?;
            ends(first)?;
            prints_it(lab.peer()?, path, &note)?;
            file_must_hold(lab, path, &note.new_file())
        })
        .one_in(8)
        .part("with no file there", once(), |lab, ()| {
            let (answer, _) = lab.peer()?.try_open(lab.new_path(), O_RDWR, 0);
            answer.must_fail(ENOENT)
        })
}

/// A string for a file of this size, and what is in the file before.
#[derive(Clone, Copy)]
struct Note {
    text: Text,
    size: Size,
    before: Size,
}

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} bytes where {} were", self.text, self.size, self.before)
    }
}

impl Note {
    const OLD: u32 = 2;

    fn of(text: &'static str, size: usize) -> Note {
        Note { text: Text::Said(text), size: Size(size), before: Size::ZERO }
    }

    /// The file as it was; none, if it was empty, for a program that creates it.
    fn file_or_none(&self, lab: &Lab) -> Verdict<Path> {
        if self.before == Size::ZERO { Ok(lab.new_path()) } else { self.old_file(lab) }
    }

    fn old_file(&self, lab: &Lab) -> Verdict<Path> {
        lab.file(&Data::pattern(Note::OLD, self.before))
    }

    /// The string and its NUL, behind them what was there, cut or filled up with zeros to the size.
    fn new_file(&self) -> Vec<u8> {
        let mut file = Data::pattern(Note::OLD, self.before).to_vec();
        file.resize(self.size.get(), 0);
        self.text.string().fill(&mut file[..self.text.size().get()]);
        file
    }
}

/// Strings of up to so many pages, files with room for them.
fn any_note(most: usize) -> BoxedStrategy<Note> {
    let spare = prop_oneof![2 => Just(Size::ZERO), 1 => Just(Size(1)), 4 => any_size(0, most)];
    let before = prop_oneof![3 => Just(Size::ZERO), 4 => any_size(0, most + 2)];
    (any_text(most), spare, before)
        .prop_map(|(text, spare, before)| Note { text, size: text.size() + spare, before })
        .boxed()
}

fn notes() -> Gen<Note> {
    drawn("strings, files with room for them, and what these held before", any_note(5))
}

/// Strings that go down to the child or up to the parent, in turns.
fn talks() -> Gen<(Vec<(bool, Text)>, Size)> {
    let turn = (any::<bool>(), any_text(5));
    drawn(
        "strings down to the child and up to the parent; room behind them",
        (prop::collection::vec(turn, 1..5), any_size(0, 3)),
    )
    .also([
        (vec![(true, Text::Said("hello, world"))], Size(100)),
        (vec![(false, Text::Said("hello, world"))], Size::ZERO),
    ])
}

fn ends(process: Actor<'_>) -> Verdict {
    process.call(Call::Exit { status: 0 }).must_exit(0)
}

fn file_must_hold(lab: &Lab, path: Path, bytes: &[u8]) -> Verdict {
    let fd = lab.open(path, O_RDONLY)?;
    lab.read(fd, bytes.len() + 1).must_equal(bytes)
}

/// The program of the documents: open, ftruncate, mmap, strcpy, munmap, close.
fn stores_a_string(process: Actor<'_>, path: Path, text: Text, size: Size) -> Verdict {
    let fd = process.open(path, O_CREAT | O_RDWR)?;
    process.ftruncate(fd, size).must_succeed()?;
    let map = process.map(request(size, READ_WRITE, SHARED, fd))?;
    process.store(map.start(), &text.string()).must_succeed()?;
    process.munmap(map.start(), size).must_succeed()?;
    process.close(fd).must_succeed()
}

fn prints_it(process: Actor<'_>, path: Path, note: &Note) -> Verdict {
    let fd = process.open(path, O_RDWR)?;
    process.lseek(fd, 0, SEEK_END).must_return(note.size.get() as u64)?;
    let map = process.map(request(note.size, READ_WRITE, SHARED, fd))?;
    process.load(map.start(), note.text.size()).must_hold(&note.text.string())?;
    process.munmap(map.start(), note.size).must_succeed()
}

/// The values of a variable before and after, of an int in a mapping before and after.
#[derive(Clone, Copy)]
struct Values {
    values: [u32; 4],
    sharing: Flags,
    at: usize,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [var, new_var, int, new_int] = self.values;
        write!(f, "var {var} to {new_var}, int at {} from {int} to {new_int}, {:?}", Size(self.at), self.sharing)
    }
}

fn a_variable_and_a_mapping(lab: &Lab, input: &Values) -> Verdict {
    let [var, new_var, int, new_int] = input.values.map(u64::from);
    let path = lab.new_path();
    let fd = lab.open(path, O_RDWR | O_CREAT | O_TRUNC)?;
    lab.unlink(path).must_succeed()?;
    lab.ftruncate(fd, input.at + 4).must_succeed()?;
    let map = lab.map(request(input.at + 4, READ_WRITE, input.sharing, fd))?;
    lab.close(fd).must_succeed()?;
    let (variable, place) = (At::Variable(Segment::Data, 0), map.at(input.at));
    let see = |who: Actor<'_>, variables: u64, mapping: u64| {
        who.load_word(variable, Width::Four).must_be(variables)?;
        who.load_word(place, Width::Four).must_be(mapping)
    };
    lab.store_word(variable, Width::Four, var).prepared()?;
    lab.store_word(place, Width::Four, int).prepared()?;
    let child = lab.fork()?;
    child.store_word(place, Width::Four, new_int).prepared()?;
    child.store_word(variable, Width::Four, new_var).prepared()?;
    see(child, new_var, new_int)?;
    let left = if input.sharing == SHARED { new_int } else { int };
    see(lab.worker(), var, left)?;
    ends(child)?;
    see(lab.worker(), var, left)?;
    see(lab.fork()?, var, left)?;
    lab.munmap(map.start(), map.len).must_succeed()
}

/// What server and client both do first: open, ftruncate, mmap, close.
fn shares_memory<'l>(process: Actor<'l>, path: Path, len: Size, flags: i32) -> Verdict<Map> {
    let fd = process.open(path, O_RDWR | O_CREAT | flags)?;
    process.ftruncate(fd, len).must_succeed()?;
    let map = process.map(request(len, READ_WRITE, SHARED, fd))?;
    process.close(fd).must_succeed()?;
    Ok(map)
}

/// The server ends without munmap. Clients find the greeting, whatever length they ask for, until one opens with O_TRUNC.
fn greets_and_ends(lab: &Lab, note: &Note) -> Verdict {
    let (path, greeting) = (note.file_or_none(lab)?, note.text.string());
    let server = lab.peer()?;
    let map = shares_memory(server, path, note.size, 0)?;
    server.store(map.start(), &greeting).must_succeed()?;
    ends(server)?;
    for longer in [0, 0, 1] {
        let client = lab.peer()?;
        let map = shares_memory(client, path, note.size + pages(longer), 0)?;
        client.load(map.start(), greeting.len()).must_hold(&greeting)?;
        client.munmap(map.start(), map.len).must_succeed()?;
        ends(client)?;
    }
    let client = lab.peer()?;
    let map = shares_memory(client, path, note.size, O_TRUNC)?;
    client.load(map.start(), note.size).must_hold(&Data::zeros(note.size))
}

/// The parent maps the file as long as it is and forks; the child stores and unmaps; the parent waits and looks.
fn child_tells_parent(lab: &Lab, path: Path, text: Text, judge: impl Fn(Answer<'_>, Vec<u8>) -> Verdict) -> Verdict {
    let fd = lab.open(path, O_RDWR)?;
    let size = lab.lseek(fd, 0, SEEK_END).value()? as usize;
    let map = lab.map(request(size, READ_WRITE, SHARED, fd))?;
    let child = lab.fork()?;
    child.store(map.start(), &text.string()).must_succeed()?;
    child.munmap(map.start(), size).must_succeed()?;
    child.close(fd).must_succeed()?;
    ends(child)?;
    judge(lab.load(map.start(), text.size()), text.string().to_vec())?;
    lab.munmap(map.start(), size).must_succeed()
}
