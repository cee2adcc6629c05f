//! Claims that no defect singles out, and why.

/// Why every defect that a claim finds is found by another one too, and the claims of which that is so.
pub const NOT_SINGLED_OUT: &[(&str, &[&str])] = &[
    (
        "A program of the documents, whole: a kernel on which it goes wrong is wrong in one of its calls, and each of those is the matter of another claim.",
        &[
            "program.anonymous-string",
            "program.counter-records",
            "program.fifo-chat",
            "program.fifo-chat-forked",
            "program.fifo-stream",
            "program.file-copy",
            "program.fork-variable",
            "program.parent-child-string",
            "program.pipe-message",
            "program.pipeline-output-after-end",
            "program.two-programs",
            "program.write-string",
        ],
    ),
    (
        "Where a mapping lies, how long it is and which part of the file it shows is looked at by every claim that loads a byte of one.",
        &["mmap.addr.null", "mmap.addr.start-returned", "mmap.result.address"],
    ),
    (
        "malloc is the C library's; what it asks of the kernel is the matter of mmap.length.zero.",
        &["mmap.length.malloc-zero"],
    ),
    (
        "One table of rights, modes of opening and sharing types: the documents' sentences name overlapping parts of it, and each claim tries the rows around its own.",
        &[
            "perm.mapping-implies-read",
            "perm.private-write-over-rdonly",
            "perm.rdonly-read-write-refused",
            "perm.read-needed-to-operate",
            "perm.shared-write-needs-write",
            "perm.write-only-prot",
        ],
    ),
    (
        "What a right permits is relied on by every claim that loads, stores, or expects a fault of it.",
        &["perm.prot-read", "perm.prot-write"],
    ),
    (
        "That a shared mapping, the file and every other mapping of it are the same bytes is what most claims on files, fork and peers stand on.",
        &[
            "fork.mapping-after-fork",
            "fork.shared-file-mapping",
            "lifetime.data-survives-exit",
            "lifetime.unlinked-file",
            "peer.no-synchronisation",
            "peer.non-blocking",
            "peer.reader-rdonly",
            "shared.no-read-write-needed",
            "shared.same-memory-two-addresses",
            "shared.store-reaches-file",
            "shared.store-visible-to-peers",
            "shared.transfer-without-kernel",
        ],
    ),
    (
        "Several sentences say that private stores stay private: to the file, to other mappings, to peers, to children. A kernel that leaks them leaks to more than one.",
        &["fork.global-variable", "peer.private-does-not-reach", "private.invisible-to-peers"],
    ),
    (
        "The size of a file and the page around its end are the matter of several sentences, which differ in who looks: the same process, a child, a peer, or read.",
        &[
            "file.empty-refused",
            "file.extend-with-lseek",
            "file.larger-than-data",
            "file.must-be-sized-first",
            "file.peer-limited-by-size",
            "file.related-beyond-size",
            "file.store-does-not-extend",
            "file.tail-is-zero",
        ],
    ),
    (
        "Which signal answers an access to what is not there is asked wherever something is unmapped, cut off, or protected.",
        &["fault.after-munmap", "fault.beyond-mapping", "fault.core-dump-death"],
    ),
    (
        "munmap ends what most cases make, and several sentences state its one rule: the whole pages of the range, and nothing else.",
        &[
            "fork.munmap-is-local",
            "munmap.address-must-match",
            "munmap.moved-pointer-stores",
            "munmap.result",
            "munmap.saved-pointer",
        ],
    ),
    (
        "msync's arguments and flags are checked before anything else is done: the claims about it overlap in what they have refused and taken.",
        &["msync.invalidate"],
    ),
    (
        "Anonymous memory, zeroed and shared or private by its type, is what cases are made of; the sentences differ in how it is asked for.",
        &[
            "anon.map-anon-alias",
            "anon.mapping-needs-file",
            "anon.related-only",
            "anon.shared-with-child",
            "anon.zeroed",
            "flag.anonymous-only-with-sharing",
        ],
    ),
    (
        "A child has what its parent had, at the same addresses: every claim with a child begins with that.",
        &["fork.user-space-3gib"],
    ),
    (
        "Pipes and FIFOs are one stream with one set of rules; each claim puts its rule to both, and all of them move bytes.",
        &[
            "fifo.first-in-first-out",
            "fifo.unrelated",
            "pipe.consumed-once",
            "pipe.overflow-overwrites",
            "pipe.read-count",
            "pipe.size-4096",
            "pipe.write-count",
        ],
    ),
    (
        "Blocking, its end, and O_NONBLOCK are the same states of a stream, for pipes and FIFOs alike: each claim passes through the others' states.",
        &["fifo.full-blocks", "fifo.read-eof", "pipe.read-eof", "pipe.write-blocks"],
    ),
    (
        "Descriptors without a name, passed on by fork: every claim on pipes makes them so.",
        &["pipe.before-fork", "pipe.related-only"],
    ),
    ("What a FIFO looks like in its directory is told by the same stat to several claims.", &["fifo.listed-as-file"]),
];
