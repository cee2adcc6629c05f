//! What a process of a case can be told to do: each verb is one call, or the few that its name says.

use super::answer::Answer;
use super::trace::Verdict;
use super::{Lab, Map};
use crate::kernel::call::{ActorId, At, Below, Call, Disposition, Fd, MapId, MmapArgs, Path, Special, Width};
use crate::kernel::data::Data;
use crate::kernel::names::{ANONYMOUS, FIXED, Flags, Prot};
use crate::kernel::outcome::Lack;
use crate::kernel::page::Size;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// No descriptor: what anonymous memory is mapped with.
pub const NO_FD: Fd = Fd::Number(-1);

/// A mapping to ask for, in the order of mmap's arguments; address NULL and offset 0 until said otherwise.
pub fn request(len: impl Into<Size>, prot: Prot, flags: Flags, fd: Fd) -> MmapArgs {
    MmapArgs { at: At::Null, len: len.into(), prot, flags, fd, offset: Size::ZERO }
}

/// Anonymous memory to ask for, with descriptor -1 and offset 0.
pub fn anonymous(len: impl Into<Size>, prot: Prot, sharing: Flags) -> MmapArgs {
    request(len, prot, sharing | ANONYMOUS, NO_FD)
}

impl MmapArgs {
    /// The same with this length.
    pub fn length(self, len: impl Into<Size>) -> MmapArgs {
        MmapArgs { len: len.into(), ..self }
    }

    /// The same with this offset.
    pub fn offset(self, offset: impl Into<Size>) -> MmapArgs {
        MmapArgs { offset: offset.into(), ..self }
    }

    /// The same with this protection.
    pub fn prot(self, prot: Prot) -> MmapArgs {
        MmapArgs { prot, ..self }
    }

    /// The same with these flags besides.
    pub fn and(self, flags: Flags) -> MmapArgs {
        MmapArgs { flags: self.flags | flags, ..self }
    }

    /// The same with this sharing type.
    pub fn sharing(self, sharing: Flags) -> MmapArgs {
        MmapArgs { flags: self.flags.with_sharing(sharing), ..self }
    }

    /// The same with this descriptor.
    pub fn fd(self, fd: Fd) -> MmapArgs {
        MmapArgs { fd, ..self }
    }

    /// The same with this address, as a hint.
    pub fn hint(self, at: At) -> MmapArgs {
        MmapArgs { at, ..self }
    }

    /// The same at this address and no other (MAP_FIXED).
    pub fn fixed(self, at: At) -> MmapArgs {
        self.hint(at).and(FIXED)
    }
}

impl<'l> Calls<'l> for &'l Lab {
    fn place(self) -> (&'l Lab, ActorId) {
        (self, ActorId(0))
    }
}

/// Whoever it is, by name: what [`Calls::place`] gives.
impl<'l> Calls<'l> for (&'l Lab, ActorId) {
    fn place(self) -> (&'l Lab, ActorId) {
        self
    }
}

/// The verbs of the worker (`lab`) and of every actor.
pub trait Calls<'l>: Copy {
    /// The lab, and who acts.
    fn place(self) -> (&'l Lab, ActorId);

    /// Any call.
    fn call(self, call: Call) -> Answer<'l> {
        let (lab, actor) = self.place();
        lab.call(actor, call)
    }

    /// A new file that holds these bytes, closed again.
    fn file(self, data: &Data) -> Verdict<Path> {
        let (path, fd) = self.new_file(data)?;
        self.close(fd).prepared()?;
        Ok(path)
    }

    /// A new file that holds these bytes, still open with O_RDWR.
    fn new_file(self, data: &Data) -> Verdict<(Path, Fd)> {
        let (lab, actor) = self.place();
        // Another actor may be another user by now, and then has to have a file of its own.
        let (path, flags) = match actor {
            ActorId(0) => (lab.new_file_path(), 0),
            _ => (lab.new_path(), libc::O_EXCL),
        };
        let fd = self.open(path, libc::O_RDWR | libc::O_CREAT | flags)?;
        self.write_all(fd, data)?;
        Ok((path, fd))
    }

    /// A new memfd that holds these bytes.
    fn memfd(self, data: &Data) -> Verdict<Fd> {
        let fd = self.place().0.new_fd();
        self.call(Call::Memfd { fd }).prepared()?;
        self.write_all(fd, data)?;
        Ok(fd)
    }

    /// Writes all of the bytes, as the first write of an open file.
    fn write_all(self, fd: Fd, data: &Data) -> Verdict {
        if data.is_empty() {
            return Ok(());
        }
        let (lab, _) = self.place();
        let count = self.write(fd, data).value()?;
        if count == data.len() as u64 {
            return Ok(());
        }
        // A limit or a full disk cuts a write short, and refuses the next one: then that is the reason for a skip.
        let rest = Data::from(data.to_vec().split_off(count as usize));
        self.write(fd, &rest).prepared()?;
        lab.must(false, "a write to a regular file takes all of the bytes", || format!("{count} of {}", data.len()))
    }

    /// open(2), which must succeed; files are made with mode 0600.
    fn open(self, path: Path, flags: i32) -> Verdict<Fd> {
        let (answer, fd) = self.try_open(path, flags, 0o600);
        answer.prepared()?;
        Ok(fd)
    }

    /// open(2), to be judged.
    fn try_open(self, path: Path, flags: i32, mode: u32) -> (Answer<'l>, Fd) {
        let fd = self.place().0.new_fd();
        (self.call(Call::Open { path, flags: flags as u32, mode, fd }), fd)
    }

    /// open(2) of an absolute path, which must succeed.
    fn open_device(self, path: &str, flags: i32) -> Verdict<Fd> {
        let fd = self.place().0.new_fd();
        self.call(Call::OpenPath { path: path.into(), flags: flags as u32, fd }).prepared()?;
        Ok(fd)
    }

    /// close(2).
    fn close(self, fd: Fd) -> Answer<'l> {
        self.call(Call::Close { fd })
    }

    /// dup(2), which must succeed.
    fn dup(self, of: Fd) -> Verdict<Fd> {
        let fd = self.place().0.new_fd();
        self.call(Call::Dup { of, fd }).prepared()?;
        Ok(fd)
    }

    /// dup2(2), or dup3(2) with O_CLOEXEC, which must succeed: `onto` names the same open file description from here on.
    fn dup_onto(self, of: Fd, onto: Fd, cloexec: bool) -> Verdict {
        self.call(Call::Dup2 { of, onto, cloexec }).prepared()
    }

    /// lseek(2).
    fn lseek(self, fd: Fd, offset: i64, whence: i32) -> Answer<'l> {
        self.call(Call::Lseek { fd, offset, whence })
    }

    /// read(2).
    fn read(self, fd: Fd, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Read { fd, len: len.into().get() })
    }

    /// write(2).
    fn write(self, fd: Fd, data: &Data) -> Answer<'l> {
        self.call(Call::Write { fd, data: data.clone() })
    }

    /// pread(2).
    fn pread(self, fd: Fd, len: impl Into<Size>, offset: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Pread { fd, len: len.into().get(), offset: offset.into() })
    }

    /// pwrite(2).
    fn pwrite(self, fd: Fd, data: &Data, offset: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Pwrite { fd, data: data.clone(), offset: offset.into() })
    }

    /// ftruncate(2).
    fn ftruncate(self, fd: Fd, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Ftruncate { fd, len: len.into() })
    }

    /// truncate(2).
    fn truncate(self, path: Path, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Truncate { path, len: len.into() })
    }

    /// st_size as fstat(2) gives it.
    fn size(self, fd: Fd) -> Verdict<Size> {
        Ok(Size(self.call(Call::Fstat { fd }).stat()?.size as usize))
    }

    /// stat(2).
    fn stat(self, path: Path) -> Answer<'l> {
        self.call(Call::Stat { path })
    }

    /// unlink(2).
    fn unlink(self, path: Path) -> Answer<'l> {
        self.call(Call::Unlink { path })
    }

    /// rename(2).
    fn rename(self, from: Path, to: Path) -> Answer<'l> {
        self.call(Call::Rename { from, to })
    }

    /// link(2).
    fn link(self, from: Path, to: Path) -> Answer<'l> {
        self.call(Call::Link { from, to })
    }

    /// fcntl(2).
    fn fcntl(self, fd: Fd, command: i32, argument: u64) -> Answer<'l> {
        self.call(Call::Fcntl { fd, command, argument })
    }

    /// mmap(2), to be judged; for one that must succeed use [`Calls::map`].
    fn mmap(self, args: MmapArgs) -> Answer<'l> {
        let map = self.place().0.new_map();
        self.call(Call::Mmap { args, map })
    }

    /// mmap(2), which must succeed.
    fn map(self, args: MmapArgs) -> Verdict<Map> {
        let id = self.place().0.new_map();
        let address = self.call(Call::Mmap { args, map: id }).address()?;
        Ok(Map { id, address, len: args.len })
    }

    /// mmap(2) whose outcome is looked at: the answer, and the mapping if there is one.
    fn try_map(self, args: MmapArgs) -> (Answer<'l>, Option<Map>) {
        let id: MapId = self.place().0.new_map();
        let answer = self.call(Call::Mmap { args, map: id });
        let map = match answer.outcome() {
            crate::kernel::outcome::Outcome::Mapped(address) => Some(Map { id, address: *address, len: args.len }),
            _ => None,
        };
        (answer, map)
    }

    /// munmap(2).
    fn munmap(self, at: At, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Munmap { at, len: len.into() })
    }

    /// munmap(2) of a whole mapping, which must succeed.
    fn unmap(self, map: Map) -> Verdict {
        self.munmap(map.start(), map.len).prepared()
    }

    /// mremap(2) of a whole mapping with MREMAP_MAYMOVE, which must succeed: the mapping with this length, wherever it is now.
    fn remap(self, map: Map, len: impl Into<Size>) -> Verdict<Map> {
        let (id, new) = (self.place().0.new_map(), len.into());
        let flags = libc::MREMAP_MAYMOVE as u32;
        let call = Call::Mremap { at: map.start(), old: map.len, new, flags, to: At::Null, map: id };
        Ok(Map { id, address: self.call(call).address()?, len: new })
    }

    /// mprotect(2).
    fn mprotect(self, at: At, len: impl Into<Size>, prot: Prot) -> Answer<'l> {
        self.call(Call::Mprotect { at, len: len.into(), prot })
    }

    /// msync(2).
    fn msync(self, at: At, len: impl Into<Size>, flags: i32) -> Answer<'l> {
        self.call(Call::Msync { at, len: len.into(), flags: flags as u32 })
    }

    /// madvise(2).
    fn madvise(self, at: At, len: impl Into<Size>, advice: i32) -> Answer<'l> {
        self.call(Call::Madvise { at, len: len.into(), advice: advice as u32 })
    }

    /// mincore(2): a byte for each page, 1 where it is resident.
    fn mincore(self, at: At, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Mincore { at, len: len.into() })
    }

    /// munlock(2).
    fn munlock(self, at: At, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Munlock { at, len: len.into() })
    }

    /// One load or store to each page of a range: how many page faults they take.
    fn touch(self, at: At, len: impl Into<Size>, store: bool) -> Answer<'l> {
        self.call(Call::Touch { at, len: len.into(), store })
    }

    /// What /proc/self/smaps says under a key of the mapping at an address.
    fn smaps(self, at: At, key: &str) -> Verdict<String> {
        self.call(Call::Smaps { at, key: key.into() }).bytes().map(|bytes| text(&bytes))
    }

    /// What /proc/self/status says under a key.
    fn status(self, key: &str) -> Verdict<String> {
        self.call(Call::Status { key: key.into() }).bytes().map(|bytes| text(&bytes))
    }

    /// setrlimit(2), soft limit: what it is afterwards, which is not above the hard limit.
    fn limit(self, resource: u32, soft: u64) -> Verdict<u64> {
        self.call(Call::Limit { resource, soft }).value()
    }

    /// Stores the return instruction of this machine.
    ///
    /// # Errors
    /// A skip where it is not known.
    fn store_return(self, at: At) -> Verdict {
        if crate::kernel::guard::RETURN.is_empty() {
            return self.place().0.lacking(Lack::Machine);
        }
        self.call(Call::StoreReturn { at }).prepared()
    }

    /// Loads bytes from memory.
    fn load(self, at: At, len: impl Into<Size>) -> Answer<'l> {
        self.call(Call::Load { at, len: len.into().get() })
    }

    /// Stores bytes to memory.
    fn store(self, at: At, data: &Data) -> Answer<'l> {
        self.call(Call::Store { at, data: data.clone() })
    }

    /// One load of this width; the value is the outcome.
    fn load_word(self, at: At, width: Width) -> Answer<'l> {
        self.call(Call::LoadWord { at, width })
    }

    /// One store of this width.
    fn store_word(self, at: At, width: Width, value: u64) -> Answer<'l> {
        self.call(Call::StoreWord { at, width, value })
    }

    /// Calls the code at an address.
    fn execute(self, at: At) -> Answer<'l> {
        self.call(Call::Execute { at })
    }

    /// pipe2(2), which must succeed: the read end and the write end.
    fn pipe(self, flags: i32) -> Verdict<(Fd, Fd)> {
        let lab = self.place().0;
        let (read, write) = (lab.new_fd(), lab.new_fd());
        self.call(Call::Pipe { read, write, flags: flags as u32 }).prepared()?;
        Ok((read, write))
    }

    /// mkfifo(3) at a new path, mode 0600, which must succeed.
    fn new_fifo(self) -> Verdict<Path> {
        let path = self.place().0.new_path();
        self.mkfifo(path, 0o600).prepared()?;
        Ok(path)
    }

    /// mkfifo(3).
    fn mkfifo(self, path: Path, mode: u32) -> Answer<'l> {
        self.call(Call::Mkfifo { path, mode, below: Below::Nothing })
    }

    /// ioctl_pipe(2), FIONREAD: how many bytes there are to read.
    fn unread(self, fd: Fd) -> Answer<'l> {
        self.call(Call::Fionread { fd })
    }

    /// poll(2) without waiting: the events that are reported.
    fn poll(self, fd: Fd, events: i16) -> Answer<'l> {
        self.call(Call::Poll { fd, events })
    }

    /// socketpair(2), which must succeed.
    fn socketpair(self) -> Verdict<(Fd, Fd)> {
        let lab = self.place().0;
        let (one, two) = (lab.new_fd(), lab.new_fd());
        self.call(Call::Socketpair { one, two }).prepared()?;
        Ok((one, two))
    }

    /// A descriptor of another kind, which must be had.
    fn special(self, kind: Special) -> Verdict<Fd> {
        let fd = self.place().0.new_fd();
        self.call(Call::Special { kind, fd }).prepared()?;
        Ok(fd)
    }

    /// sigaction(2) and sigprocmask(2) for one signal, which must succeed.
    fn signal(self, signal: i32, disposition: Disposition) -> Verdict {
        self.call(Call::Signal { signal, disposition }).prepared()
    }

    /// Gives up user, group and capabilities, which must be possible.
    fn drop_privileges(self) -> Verdict {
        self.call(Call::DropPrivileges).prepared()
    }

    /// From here on a fault kills the process by its signal, as it does any program; until then the actor survives it.
    fn unguarded(self) -> Verdict {
        self.signal(libc::SIGSEGV, Disposition::Default)?;
        self.signal(libc::SIGBUS, Disposition::Default)
    }
}
