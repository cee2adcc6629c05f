//! Where the documents contradict each other: no kernel can please both.

/// Two claims of the documents that cannot both be so.
#[derive(Clone, Copy, Debug)]
pub struct Contradiction {
    /// The id of one.
    pub one: &'static str,
    /// The id of the other.
    pub other: &'static str,
    /// What they disagree about, and who is nearer the truth.
    pub about: &'static str,
}

const fn between(one: &'static str, other: &'static str, about: &'static str) -> Contradiction {
    Contradiction { one, other, about }
}

/// All that were found.
pub const CONTRADICTIONS: &[Contradiction] = &[
    between(
        "perm.private-write-over-rdonly",
        "perm.rdonly-read-write-refused",
        "A private writable mapping of a file opened O_RDONLY: one has it made and then end in a bus error, the other has it \
         refused. It is made, and works.",
    ),
    between(
        "perm.write-only-prot",
        "perm.prot-write",
        "PROT_WRITE by itself: one has mmap fail, the other has contents changed. mmap succeeds, and stores are allowed.",
    ),
    between(
        "perm.read-needed-to-operate",
        "perm.prot-write",
        "Whether memory can be used without the right to read it: a store asks for PROT_WRITE alone.",
    ),
    between("anon.mapping-needs-file", "anon.no-file", "Whether a mapping needs a file: anonymous memory has none."),
    between(
        "shared.written-back-at-munmap",
        "shared.store-reaches-file",
        "When a store is in the file: at once for whoever reads the file, whenever the kernel writes it to the disk.",
    ),
    between(
        "shared.written-back-at-munmap",
        "lifetime.data-survives-exit",
        "Whether munmap is what saves stores: they are in the file without it, too.",
    ),
    between(
        "file.extend-with-lseek",
        "file.must-be-sized-first",
        "How a new file gets its size: lseek alone moves an offset and leaves the size; a write behind it, or truncate, extends.",
    ),
    between(
        "file.empty-refused",
        "file.must-be-sized-first",
        "What happens with an empty file: one has mmap fail, the other has the mapping be of no use. It is made, and an \
         access to it is SIGBUS.",
    ),
    between(
        "mmap.fd.kind",
        "anon.dev-zero",
        "Which descriptors can be mapped: files on disk and some devices, /dev/zero among them.",
    ),
    between(
        "munmap.length-must-match",
        "munmap.releases",
        "Whether munmap takes whole mappings or any pages: any range of pages.",
    ),
    between(
        "fork.mapping-after-fork",
        "peer.same-file",
        "Whether processes that map after fork can share: by the same file they can.",
    ),
    between(
        "file.related-beyond-size",
        "fault.beyond-end-of-file",
        "What is behind the end of the file: the rest of its last page can be used; beyond it is SIGBUS, for related processes too.",
    ),
];
