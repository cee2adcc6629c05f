//! What makes a file longer or shorter, and what does not.

use libc::EINVAL;
use proptest::prelude::*;

use super::each_number::{self, each_number};
use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, claim, linux, posix};
use crate::input::{Backing, Edit, Gen, any_size, content_seed, drawn, each, edit_within, file_backing, many_pages};
use crate::kernel::call::{Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![extend_with_truncate(), extend_with_lseek()]
}

fn extend_with_truncate() -> Claim {
    claim("file.extend-with-truncate")
        .states("truncate and ftruncate set the size, and the bytes that they add read as zero.")
        .documents([
            DAY8.at("listing 1"),
            IPC.at("question 5"),
            IPC.at("copy, listing"),
            IPC.at("independent processes, first listing"),
            MAPIO.at("first listing"),
            MAPIO.at("copy, listing"),
            SHM.at("steps"),
        ])
        .holds()
        .basis([
            posix("ftruncate, DESCRIPTION"),
            posix("truncate, DESCRIPTION"),
            linux("truncate(2), DESCRIPTION: the extended part reads as null bytes"),
            linux("truncate(2), VERSIONS: some file systems do not extend"),
        ])
        .for_all(resizings().also_long([growing_by_many_pages()]), sizes_are_set)
        .part("each number of pages", each_number(), each_number::resized)
        .part("under a mapping", resizings(), mappings_follow_the_size)
        .part("a descriptor that is not open for writing", once_sized(), not_by_a_reader)
}

fn extend_with_lseek() -> Claim {
    claim("file.extend-with-lseek")
        .states("lseek makes a new file longer.")
        .documents([IPC.at("question 5"), MAPIO.at("notes")])
        .refuted(
            "Seeking past the end changes nothing; only a byte written there makes the file longer, and the gap then reads \
             as zero.",
        )
        .basis([
            posix("lseek, DESCRIPTION: lseek by itself does not extend the file"),
            posix("lseek, RATIONALE: write, truncate and ftruncate do"),
            linux("lseek(2), DESCRIPTION"),
        ])
        .part("lseek alone", seeks(), seeking_changes_nothing)
        .part("and a write", seeks(), writing_there_does)
}

/// What makes a file longer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Means {
    Ftruncate,
    Truncate,
    FtruncateBySecondDescriptor,
    WriteLastByte,
}

pub(super) fn means() -> BoxedStrategy<Means> {
    use Means::*;
    prop::sample::select(vec![Ftruncate, Truncate, FtruncateBySecondDescriptor, WriteLastByte]).boxed()
}

/// A file with its name, if it has one.
#[derive(Clone, Copy)]
pub(super) struct Named {
    path: Option<Path>,
    /// Open for reading and writing.
    pub(super) fd: Fd,
}

impl Named {
    pub(super) fn open(lab: &Lab, backing: Backing, contents: &Data) -> Verdict<Named> {
        match backing {
            Backing::File => lab.new_file(contents).map(|(path, fd)| Named { path: Some(path), fd }),
            other => other.open(lab, contents).map(|fd| Named { path: None, fd }),
        }
    }

    /// Gives the file this size; the bytes that it gets by it are zero.
    pub(super) fn resize(self, lab: &Lab, means: Means, size: Size) -> Verdict {
        match (means, self.path) {
            (Means::Truncate, Some(path)) => lab.truncate(path, size).must_succeed(),
            (Means::FtruncateBySecondDescriptor, Some(path)) => {
                let fd = lab.open(path, libc::O_WRONLY)?;
                lab.ftruncate(fd, size).must_succeed()?;
                lab.close(fd).prepared()
            }
            (Means::WriteLastByte, _) if size.get() > 0 && lab.size(self.fd)? < size => {
                lab.pwrite(self.fd, &Data::zeros(1), size - 1).must_return(1_u64)
            }
            _ => lab.ftruncate(self.fd, size).must_succeed(),
        }
    }
}

/// Memory behind a hole of a file is got when it is touched, and its want is a SIGBUS: so it is tried beforehand.
pub(super) fn must_have_room(lab: &Lab, backing: Backing, size: Size) -> Verdict {
    let fd = backing.open(lab, &Data::repeat(1, size))?;
    lab.ftruncate(fd, 0).prepared()?;
    lab.close(fd).prepared()
}

/// A file, and one size after the other that it is given, with an edit inside each.
type Resizings = (Backing, u32, Size, Vec<(Means, Size, Option<Edit>)>);

fn resizings() -> Gen<Resizings> {
    let means = prop::sample::select(vec![Means::Ftruncate, Means::Truncate, Means::FtruncateBySecondDescriptor]);
    let step = (means, any_size(0, 12)).prop_flat_map(|(means, size)| {
        let edit = match size.get() {
            0 => Just(None).boxed(),
            _ => prop::option::of(edit_within(size)).boxed(),
        };
        (Just(means), Just(size), edit)
    });
    drawn(
        "files with contents, and one to five sizes, larger and smaller, with an edit inside each",
        (file_backing(), content_seed(), any_size(0, 12), prop::collection::vec(step, 1..=5)),
    )
}

fn growing_by_many_pages() -> Resizings {
    let sizes = [pages(many_pages()) + 9, pages(2)].map(|size| (Means::Ftruncate, size, None));
    (Backing::File, 2, pages(1) - 5, sizes.to_vec())
}

fn sizes_are_set(lab: &Lab, (backing, contents, size, steps): Resizings) -> Verdict {
    let file = Named::open(lab, backing, &Data::pattern(contents, size))?;
    let mut model = Data::pattern(contents, size).to_vec();
    for (means, size, edit) in steps {
        let position = lab.lseek(file.fd, 0, libc::SEEK_CUR).value()?;
        file.resize(lab, means, size)?;
        model.resize(size.get(), 0);
        if !matches!(means, Means::WriteLastByte) {
            lab.lseek(file.fd, 0, libc::SEEK_CUR).must_return(position)?;
        }
        lab.must(lab.size(file.fd)? == size, "st_size is the size given", || "it is another".into())?;
        lab.pread(file.fd, size + 1, 0).must_equal(&model)?;
        if !model.is_empty() {
            let map = lab.map(request(size, READ, SHARED, file.fd))?;
            lab.load(map.start(), size).must_equal(&model)?;
            lab.unmap(map)?;
        }
        if let Some(edit) = edit {
            lab.pwrite(file.fd, &edit.data, edit.at).prepared()?;
            edit.apply(&mut model);
        }
    }
    Ok(())
}

/// The same through a mapping that was there before: it is cut and grows with the file, and what was cut off does not come back.
fn mappings_follow_the_size(lab: &Lab, (backing, contents, size, steps): Resizings) -> Verdict {
    must_have_room(lab, backing, pages(12))?;
    let file = Named::open(lab, backing, &Data::pattern(contents, size))?;
    let map = lab.map(request(pages(13), READ_WRITE, SHARED, file.fd))?;
    let mut model = Data::pattern(contents, size).to_vec();
    lab.load(map.start(), size).must_equal(&model)?;
    for (means, size, edit) in steps {
        file.resize(lab, means, size)?;
        model.resize(size.get(), 0);
        lab.load(map.start(), size).must_equal(&model)?;
        for page in size.in_pages()..map.len.in_pages() {
            lab.load(map.at(pages(page)), 1).must_be_beyond_the_file(0)?;
        }
        if let Some(edit) = edit {
            lab.store(map.at(edit.at), &edit.data).prepared()?;
            edit.apply(&mut model);
        }
        lab.pread(file.fd, size + 1, 0).must_equal(&model)?;
    }
    Ok(())
}

fn once_sized() -> Gen<(Size, Size)> {
    each(
        "sizes before and asked for",
        [(Size::ZERO, pages(1)), (pages(1), pages(2) + 1), (pages(2) + 1, Size::ZERO), (pages(1), pages(1))],
    )
}

/// Which of two errnos is left open by POSIX; the size stays in either case.
fn not_by_a_reader(lab: &Lab, (before, size): (Size, Size)) -> Verdict {
    let path = lab.file(&Data::pattern(2, before))?;
    let reader = lab.open(path, libc::O_RDONLY)?;
    lab.ftruncate(reader, size).must_fail_with_any(&[EINVAL, libc::EBADF])?;
    lab.pread(reader, before + 1, 0).must_hold(&Data::pattern(2, before))
}

/// Where a seek goes from.
#[derive(Clone, Copy, Debug)]
enum From {
    Set,
    Current,
    End,
}

/// A file, and a seek to so many bytes past its end.
type Seek = (Backing, u32, Size, From, Size);

fn seeks() -> Gen<Seek> {
    let from = prop::sample::select(vec![From::Set, From::Current, From::End]);
    drawn(
        "files of 0 bytes to 8 pages, and seeks to one byte to 20 pages past their end",
        (file_backing(), content_seed(), any_size(0, 8), from, any_size(1, 20)),
    )
}

/// Seeks past the end; where to.
fn seek(lab: &Lab, fd: Fd, size: Size, from: From, past: Size) -> Verdict<Size> {
    let (whence, offset) = match from {
        From::Set => (libc::SEEK_SET, size + past),
        From::Current => (libc::SEEK_CUR, size + past - lab.lseek(fd, 0, libc::SEEK_CUR).value()? as usize),
        From::End => (libc::SEEK_END, past),
    };
    lab.lseek(fd, offset.get() as i64, whence).must_return((size + past).get() as u64)?;
    Ok(size + past)
}

fn seeking_changes_nothing(lab: &Lab, (backing, contents, size, from, past): Seek) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(contents, size))?;
    let place = seek(lab, fd, size, from, past)?;
    lab.must(lab.size(fd)? == size, "the size is what it was", || "it is another".into())?;
    lab.read(fd, 1).must_equal(&[])?;
    let back = past.min(size);
    lab.lseek(fd, -(back.get() as i64), libc::SEEK_END).must_return((size - back).get() as u64)?;
    lab.read(fd, back + 1).must_hold(&Data::at(contents, size - back, back))?;
    lab.pread(fd, place + 1, 0).must_hold(&Data::pattern(contents, size))?;
    let map = lab.map(request(place, READ, SHARED, fd))?;
    for page in size.in_pages()..place.in_pages() {
        lab.load(map.at(pages(page)), 1).must_be_beyond_the_file(0)?;
    }
    Ok(())
}

fn writing_there_does(lab: &Lab, (backing, contents, size, from, past): Seek) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(contents, size))?;
    let map = lab.map(request(size + past + 1, READ, SHARED, fd))?;
    let place = seek(lab, fd, size, from, past)?;
    lab.write(fd, &Data::pattern(1, 1)).must_return(1_u64)?;
    let mut model = Data::pattern(contents, size).to_vec();
    model.resize(place.get(), 0);
    model.extend(Data::pattern(1, 1).to_vec());
    lab.pread(fd, place + 2, 0).must_equal(&model)?;
    lab.load(map.start(), place + 1).must_equal(&model)
}
