//! The descriptor of a mapping: one that is open, and of something that can be mapped.

use libc::{EACCES, EBADF, ENODEV, EPERM};
use proptest::prelude::*;

use super::arguments::must_behave;
use crate::claim::{Claim, DAY8, Depends, IPC, claim, linux, posix};
use crate::input::{
    Backing, Gen, Request, all_prots, any_mapping, any_prot, any_sharing, any_size, drawn, each, off_boundary,
};
use crate::kernel::call::{At, Below, Call, Fd, MmapArgs, Special};
use crate::kernel::data::Data;
use crate::kernel::names::{EXEC, FIXED_NOREPLACE, Flags, PRIVATE, Prot, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, anonymous, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![invalid(), kind()]
}

/// A descriptor that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    /// It was open and has been closed.
    Closed,
    /// It was a second descriptor of the file, which is still open.
    ClosedDuplicate,
    /// No descriptor ever had the number.
    Number(i32),
    /// It names a place in the file system and no open file (open(2), O_PATH).
    Path,
}

impl Bad {
    fn make(self, lab: &Lab, contents: &Data) -> Verdict<Fd> {
        match self {
            Bad::Number(number) => Ok(Fd::Number(number)),
            Bad::Path => {
                let path = lab.file(contents)?;
                lab.open(path, libc::O_PATH)
            }
            Bad::Closed => {
                let (_, fd) = lab.new_file(contents)?;
                lab.close(fd).prepared()?;
                Ok(fd)
            }
            Bad::ClosedDuplicate => {
                let (_, open) = lab.new_file(contents)?;
                let fd = lab.dup(open)?;
                lab.close(fd).prepared()?;
                Ok(fd)
            }
        }
    }
}

fn any_bad() -> BoxedStrategy<Bad> {
    /// More descriptors than the suite ever has.
    const MANY: i32 = 1 << 20;
    prop_oneof![
        3 => Just(Bad::Closed),
        2 => Just(Bad::ClosedDuplicate),
        2 => Just(Bad::Path),
        2 => Just(Bad::Number(-1)),
        1 => prop::sample::select(vec![-2, libc::AT_FDCWD, i32::MIN, i32::MAX]).prop_map(Bad::Number),
        1 => (MANY..i32::MAX).prop_map(Bad::Number),
    ]
    .boxed()
}

/// What else is wrong, or unusual, with a call whose descriptor is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Besides {
    NoLength,
    /// So many bytes are left to the largest number.
    LengthOverflows(Size),
    Sharing(Flags),
    /// MAP_FIXED, so many bytes into a mapping.
    FixedOver(Size),
    NoReplace(Size),
    Hint(Size),
    /// So many pages are left to the largest number.
    FarOffset(usize),
}

impl Besides {
    fn put_into(self, args: MmapArgs) -> MmapArgs {
        let taken = |at: Size| At::Arena((pages(2) + at).get());
        match self {
            Besides::NoLength => args.length(0),
            Besides::LengthOverflows(left) => args.length(Size::ZERO - left),
            Besides::Sharing(sharing) => args.sharing(sharing),
            Besides::FixedOver(at) => args.fixed(taken(at)),
            Besides::NoReplace(at) => args.hint(taken(at)).and(FIXED_NOREPLACE),
            Besides::Hint(at) => args.hint(taken(at)),
            Besides::FarOffset(left) => args.offset(Size::ZERO - pages(left)),
        }
    }
}

fn any_besides() -> BoxedStrategy<Besides> {
    prop_oneof![
        2 => Just(Besides::NoLength),
        1 => off_boundary().prop_map(Besides::LengthOverflows),
        1 => prop::sample::select(vec![Flags::default(), Flags(3), Flags(5)]).prop_map(Besides::Sharing),
        2 => any_size(0, 3).prop_map(Besides::FixedOver),
        1 => any_size(0, 3).prop_map(Besides::NoReplace),
        1 => any_size(0, 3).prop_map(Besides::Hint),
        1 => (1_usize..1000).prop_map(Besides::FarOffset),
    ]
    .boxed()
}

/// Numbers beyond those of any descriptor that a case makes, next to where tables of them grow.
fn numbers() -> BoxedStrategy<i32> {
    prop_oneof![1 => prop::sample::select(vec![63, 64, 65, 127, 128, 255, 256, 511, 512, 1023]), 1 => 60..1024].boxed()
}

/// The first number from this one on that is no descriptor: those of the suite itself may be anywhere.
fn free_from(lab: &Lab, number: i32) -> Fd {
    let is_free = |fd: &Fd| lab.aside(|| Ok(lab.fcntl(*fd, libc::F_GETFD, 0).outcome().errno() == Some(EBADF)));
    (number..).map(Fd::Number).find(|fd| is_free(fd).unwrap_or(true)).unwrap_or(NO_FD)
}

/// Mappings of a file.
fn file_mapping() -> BoxedStrategy<Request> {
    any_mapping().prop_map(|mapping| mapping.of(Backing::File)).boxed()
}

fn invalid() -> Claim {
    claim("mmap.fd.invalid")
        .states("A mapping of a file takes a descriptor of an open file.")
        .documents([DAY8.at("mmap, fd")])
        .holds()
        .basis([
            posix("mmap, ERRORS, [EBADF]"),
            linux("mmap(2), ERRORS, EBADF"),
            linux("open(2), O_PATH"),
            linux("linux 7.2, mm/mmap.c, ksys_mmap_pgoff(): before the length and all that follows"),
        ])
        .for_all(
            drawn("mappings of files, and descriptors that are none", (file_mapping(), any_bad())),
            |lab, (mapping, bad)| {
                let contents = Data::pattern(mapping.contents, mapping.size);
                let args = mapping.prepare(lab)?;
                let second = lab.dup(args.fd)?;
                must_behave(lab, &mapping, lab.map(args)?)?;
                let fd = bad.make(lab, &contents)?;
                lab.mmap(args.fd(fd)).must_fail(EBADF)?;
                lab.close(args.fd).prepared()?;
                lab.mmap(args).must_fail(EBADF)?;
                must_behave(lab, &mapping, lab.map(args.fd(second))?)
            },
        )
        .part(
            "of any number",
            drawn("mappings of files, and numbers of descriptors", (file_mapping(), numbers())),
            |lab, (mapping, number)| {
                let args = mapping.prepare(lab)?;
                let other = free_from(lab, number);
                lab.dup_onto(args.fd, other, false)?;
                lab.close(args.fd).prepared()?;
                must_behave(lab, &mapping, lab.map(args.fd(other))?)?;
                // It is good for everything else as well.
                let byte = Data::repeat(1, 1);
                lab.pwrite(other, &byte, mapping.size).must_return(1_u64)?;
                lab.pread(other, 1, mapping.size).must_hold(&byte)?;
                lab.lseek(other, 0, libc::SEEK_SET).must_return(0_u64)?;
                lab.write(other, &byte).must_return(1_u64)?;
                lab.lseek(other, 0, libc::SEEK_SET).must_return(0_u64)?;
                lab.read(other, 1).must_hold(&byte)?;
                lab.close(other).must_succeed()?;
                lab.mmap(args.fd(other)).must_fail(EBADF)
            },
        )
        .one_in(4)
        .depends_on([Depends::Privilege])
        .part("whatever else is wrong", everything_wrong(), |lab, (mapping, bad, besides)| {
            let taken = lab.map(anonymous(pages(3), READ_WRITE, PRIVATE).fixed(At::Arena(pages(2).get())))?;
            lab.store(taken.start(), &Data::pattern(0, taken.len)).prepared()?;
            let fd = bad.make(lab, &Data::pattern(mapping.contents, mapping.size))?;
            let args = request(mapping.len, mapping.prot, mapping.sharing, fd).offset(mapping.offset);
            lab.mmap(besides.put_into(args)).must_fail(EBADF)?;
            lab.load(taken.start(), taken.len).must_hold(&Data::pattern(0, taken.len))
        })
}

fn everything_wrong() -> Gen<(Request, Bad, Besides)> {
    drawn("descriptors that are none, and something else that is wrong", (any_mapping(), any_bad(), any_besides()))
}

/// What a descriptor can be of, other than a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    PipeRead,
    PipeWrite,
    FifoRead,
    Fifo,
    Socket,
    Eventfd,
    Epoll,
    DevNull,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Directory,
        Kind::PipeRead,
        Kind::PipeWrite,
        Kind::FifoRead,
        Kind::Fifo,
        Kind::Socket,
        Kind::Eventfd,
        Kind::Epoll,
        Kind::DevNull,
    ];

    fn open(self, lab: &Lab) -> Verdict<Fd> {
        match self {
            Kind::Directory => lab.open_device(".", libc::O_RDONLY | libc::O_DIRECTORY),
            Kind::PipeRead => Ok(lab.pipe(0)?.0),
            Kind::PipeWrite => Ok(lab.pipe(0)?.1),
            Kind::FifoRead | Kind::Fifo => {
                let path = lab.new_path();
                Calls::call(lab, Call::Mkfifo { path, mode: 0o600, below: Below::Nothing }).prepared()?;
                let access = if self == Kind::Fifo { libc::O_RDWR } else { libc::O_RDONLY };
                lab.open(path, access | libc::O_NONBLOCK)
            }
            Kind::Socket => lab.special(Special::Socket),
            Kind::Eventfd => lab.special(Special::Eventfd),
            Kind::Epoll => lab.special(Special::Epoll),
            Kind::DevNull => lab.open_device("/dev/null", libc::O_RDWR),
        }
    }

    /// Access is looked at before anything else: for writing where stores are shared, for reading always.
    fn lacks_access(self, prot: Prot, sharing: Flags) -> bool {
        let reads = self != Kind::PipeWrite;
        let writes = !matches!(self, Kind::Directory | Kind::PipeRead | Kind::FifoRead);
        !reads || (!writes && prot.has(WRITE) && sharing == SHARED)
    }
}

/// A kind, and the length, protection, sharing type and offset to ask for.
type Unmappable = (Kind, Size, Prot, Flags, Size);

fn unmappable() -> Gen<Unmappable> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for prot in all_prots() {
            for sharing in [SHARED, PRIVATE] {
                all.push((kind, pages(1), prot, sharing, Size::ZERO));
            }
        }
    }
    let kinds = prop::sample::select(Kind::ALL.to_vec());
    let offset = (0_usize..4).prop_map(pages);
    drawn(
        "descriptors of what is no file, with every protection and sharing type",
        (kinds, any_size(1, 6), any_prot(), any_sharing(), offset),
    )
    .also(all)
}

/// Files that lie nowhere, or have no name any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mappable {
    Backed,
    Unlinked,
    Renamed,
    Reopened,
    Duplicate,
}

fn kind() -> Claim {
    claim("mmap.fd.kind")
        .states("mmap maps files or devices, and the descriptor is one of a file on disk.")
        .documents([IPC.at("mmap, purpose"), IPC.at("mmap, fd")])
        .qualified(
            "No disk is needed (memfd, tmpfs, /dev/zero), and not every file or device will do: directories, pipes, \
             sockets, eventfd, epoll and /dev/null are refused.",
        )
        .basis([
            posix("mmap, DESCRIPTION, first list"),
            posix("mmap, ERRORS, [ENODEV]"),
            linux("mmap(2), ERRORS, ENODEV"),
            linux("mmap(2), ERRORS, EACCES"),
            linux("linux 7.2, mm/mmap.c, do_mmap(): access before kind"),
            linux("memfd_create(2), DESCRIPTION"),
        ])
        .part("files and devices", mappable(), |lab, (mapping, which)| {
            let args = mapping.prepare(lab)?;
            let fd = match which {
                Mappable::Backed => args.fd,
                Mappable::Duplicate if mapping.backing != Backing::Anonymous => lab.dup(args.fd)?,
                Mappable::Duplicate => args.fd,
                Mappable::Unlinked | Mappable::Renamed | Mappable::Reopened => {
                    let path = lab.file(&Data::pattern(mapping.contents, mapping.size))?;
                    let fd = lab.open(path, libc::O_RDWR)?;
                    match which {
                        Mappable::Unlinked => lab.unlink(path).prepared()?,
                        Mappable::Renamed => {
                            let to = lab.new_path();
                            lab.rename(path, to).prepared()?;
                        }
                        _ => {}
                    }
                    fd
                }
            };
            must_behave(lab, &mapping, lab.map(args.fd(fd))?)
        })
        .part("no files", unmappable(), |lab, (kind, len, prot, sharing, offset)| {
            let answer = lab.mmap(request(len, prot, sharing, kind.open(lab)?).offset(offset));
            if kind.lacks_access(prot, sharing) {
                answer.must_fail(EACCES)
            } else if prot.has(EXEC) {
                // Where it lies may be mounted noexec, which is looked at before the kind; newer kernels have
                // pipes, sockets and the like lie in such places.
                answer.must_fail_with_any(&[ENODEV, EPERM])
            } else {
                answer.must_fail(ENODEV)
            }
        })
        .part("O_PATH", named_only(), |lab, (directory, len, prot, sharing)| {
            let fd = if directory {
                lab.open_device(".", libc::O_PATH | libc::O_DIRECTORY)?
            } else {
                let path = lab.file(&Data::pattern(0, len))?;
                lab.open(path, libc::O_PATH)?
            };
            lab.mmap(request(len, prot, sharing, fd)).must_fail(EBADF)
        })
}

fn named_only() -> Gen<(bool, Size, Prot, Flags)> {
    let kinds = each("files and directories opened with O_PATH", [false, true]);
    let rights = each("every protection", all_prots()).and(each("both sharing types", [SHARED, PRIVATE]));
    let lengths = each("one byte to three pages", [Size(1), pages(1), pages(3)]);
    kinds.and(lengths.and(rights)).map(|(directory, (len, (prot, sharing)))| (directory, len, prot, sharing))
}

fn mappable() -> Gen<(Request, Mappable)> {
    use Mappable::*;
    let which = prop_oneof![3 => Just(Backed), 1 => Just(Unlinked), 1 => Just(Renamed), 1 => Just(Reopened), 1 => Just(Duplicate)];
    let strategy = (any_mapping(), which).prop_map(|(mapping, which)| match which {
        Unlinked | Renamed | Reopened => (mapping.of(Backing::File), which),
        _ => (mapping, which),
    });
    drawn("mappings of files with and without a name, memory files, /dev/zero and no file", strategy)
}
