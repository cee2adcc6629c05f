//! How much a pipe is given at first, and at most.

use libc::{EAGAIN, EPERM, F_GETPIPE_SZ, F_SETPIPE_SZ};

use super::streams::require;
use crate::kernel::call::Call;
use crate::kernel::data::Data;
use crate::kernel::lock;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// A stream as the kernel gives it, and its capacity: 16 pages, unless the user's pipes have too many already; then no more
/// can be had by asking either.
pub(super) fn by_default(lab: &Lab, kind: Kind) -> Verdict<(Stream, Size)> {
    const DEFAULT: usize = 16;
    const TRIES: usize = 8;
    let mut seen = Size::ZERO;
    for _ in 0..TRIES {
        let stream = kind.open_nonblocking(lab)?;
        seen = stream.capacity(lab)?;
        if seen == pages(DEFAULT) {
            return Ok((stream, seen));
        }
        let asked = lab.fcntl(stream.write, F_SETPIPE_SZ, pages(DEFAULT).get() as u64);
        let refused = asked.outcome().errno() == Some(EPERM);
        lab.by_chance();
        if refused {
            return Ok((stream, seen));
        }
        // Other processes of the user come and go: what was refused a moment ago may be had now.
        lab.repeats();
        lab.close(stream.read).prepared()?;
        lab.close(stream.write).prepared()?;
    }
    let known = seen == pages(DEFAULT);
    lab.must(known, "16 pages, or a limit that keeps from asking for them", || seen.to_string())?;
    lab.lacking(Lack::PipePages)
}

pub(super) fn default_capacity(lab: &Lab, kind: Kind, (): &()) -> Verdict {
    let (_, capacity) = by_default(lab, kind)?;
    lab.fact("default capacity", capacity);
    lab.must(true, "16 pages, or fewer where a limit keeps from asking for them", String::new)
}

/// Without the capability the largest size is refused above a limit, which is found by asking.
pub(super) fn limit_of_one_pipe(lab: &Lab, (): ()) -> Verdict {
    const FAR: usize = 1 << 24;
    let child = lab.fork()?;
    child.call(Call::DropPrivileges).prepared()?;
    let stream = Kind::Pipe.open_nonblocking(child)?;
    let mut capacity = stream.capacity(child)?;
    child.write(stream.write, &Data::pattern(2, 5)).must_take(5)?;
    while capacity.get() <= FAR {
        let more = capacity * 2;
        let answer = child.fcntl(stream.write, F_SETPIPE_SZ, more.get() as u64);
        if answer.outcome().errno() == Some(EPERM) {
            lab.by_chance();
            child.fcntl(stream.write, F_GETPIPE_SZ, 0).must_take(capacity.get())?;
            lab.by_chance();
            child.read(stream.read, 9).must_yield(&Data::pattern(2, 5))?;
            // As much as was granted can be used.
            child.write(stream.write, &Data::pattern(2, capacity)).must_take(capacity.get())?;
            lab.by_chance();
            child.write(stream.write, &Data::pattern(2, 1)).must_fail(EAGAIN)?;
            lab.must(true, "EPERM above the limits, and the pipe is as before", String::new)?;
            return above_the_limit(lab, more);
        }
        answer.must_take(more.get())?;
        lab.by_chance();
        capacity = more;
    }
    lab.lacking(Lack::PipePages)
}

/// Who may exceed the limit gets what was asked for.
fn above_the_limit(lab: &Lab, size: Size) -> Verdict {
    let stream = Kind::Pipe.open_nonblocking(lab)?;
    let granted = lab.fcntl(stream.write, F_SETPIPE_SZ, size.get() as u64).outcome().clone();
    lab.by_chance();
    let capacity = stream.capacity(lab)?;
    lab.by_chance();
    let right = match granted {
        Outcome::Value(value) => value as usize == size.get() && capacity == size,
        outcome => outcome == Outcome::Refused(EPERM) && capacity < size,
    };
    require(lab, right, "the size asked for, or EPERM", || format!("a capacity of {capacity}"))?;
    let data = Data::pattern(2, capacity);
    lab.write(stream.write, &data).must_take(data.len())?;
    lab.by_chance();
    lab.write(stream.write, &Data::pattern(2, 1)).must_fail(EAGAIN)?;
    lab.read(stream.read, capacity).must_yield(&data)?;
    lab.by_chance();
    Ok(())
}

/// A user with too many pipe pages gets pipes of two pages, or of one (Linux before 5.14), and no larger ones.
pub(super) fn limit_of_the_user(lab: &Lab, (): ()) -> Verdict {
    const MANY: usize = 400;
    const CHANCES: usize = 8;
    let mut granted = 0;
    let _turn = lock::turn();
    let child = lab.fork()?;
    child.call(Call::DropPrivileges).prepared()?;
    for _ in 0..MANY {
        let (read, write) = (lab.new_fd(), lab.new_fd());
        let made = child.call(Call::Pipe { read, write, flags: libc::O_NONBLOCK as u32 });
        if matches!(made.outcome(), Outcome::Refused(libc::EMFILE | libc::ENFILE)) {
            return lab.lacking(Lack::Descriptors);
        }
        made.prepared()?;
        lab.by_chance();
        let capacity = Size(child.fcntl(write, F_GETPIPE_SZ, 0).value()? as usize);
        lab.by_chance();
        if capacity < pages(16) {
            let few = [pages(1), pages(2)].contains(&capacity);
            lab.must(few, "two pages, or one", || capacity.to_string())?;
            lab.fact("capacity above the soft limit", capacity);
            let asked = child.fcntl(write, F_SETPIPE_SZ, pages(16).get() as u64);
            if asked.outcome().is_success() && granted < CHANCES {
                // Another process of the user has given pages back in this very moment: the limit is approached once more.
                granted += 1;
                lab.repeats();
                continue;
            }
            asked.must_fail(EPERM)?;
            child.fcntl(write, F_GETPIPE_SZ, 0).must_take(capacity.get())?;
            let data = Data::pattern(2, capacity);
            child.write(write, &data).must_take(data.len())?;
            lab.by_chance();
            child.write(write, &Data::pattern(2, 1)).must_fail(EAGAIN)?;
            child.read(read, capacity).must_yield(&data)?;
            lab.by_chance();
            return lab.must(true, "a user above the soft limit gets small pipes, which work", String::new);
        }
        // One large pipe counts for many.
        let mut size = capacity * 2;
        let mut larger = true;
        while larger && size.get() <= 1 << 20 {
            larger = child.fcntl(write, F_SETPIPE_SZ, size.get() as u64).outcome().is_success();
            lab.by_chance();
            size = size * 2;
        }
    }
    lab.lacking(Lack::PipePages)
}
