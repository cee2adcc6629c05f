//! What a claim asks of the outcome of a call.

use super::Lab;
use super::expect::Expect;
use super::trace::Verdict;
use crate::kernel::data::Data;
use crate::kernel::outcome::{Fault, Outcome, Stat};
use crate::kernel::page::Size;

/// The outcome of a call, to be judged.
#[must_use = "an outcome that nothing is asked of proves nothing"]
#[derive(Debug)]
pub struct Answer<'l> {
    pub(super) lab: &'l Lab,
    pub(super) step: usize,
    pub(super) outcome: Outcome,
}

impl Answer<'_> {
    /// The outcome itself, unjudged.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Asks for one of what is allowed; the snapshot shows which it was.
    pub fn must(self, expect: &Expect) -> Verdict {
        self.judge(expect).map(|_| ())
    }

    fn judge(self, expect: &Expect) -> Verdict<Outcome> {
        self.lab.judge(self.step, expect, &self.outcome)?;
        self.lab.note(&self.outcome, expect);
        Ok(self.outcome)
    }

    /// As [`Answer::must`], but what the machine lacks for a success is a skip.
    pub fn wanted(self, expect: &Expect) -> Verdict {
        if !expect.allows(&self.outcome) {
            self.lab.excuse(self.step, &self.outcome)?;
        }
        self.must(expect)
    }

    /// As [`Answer::must`], for one of many of its like: the snapshot does not speak of it.
    pub fn checked(self, expect: &Expect) -> Verdict {
        self.lab.judge(self.step, expect, &self.outcome)
    }

    /// The call is refused with this errno, and has changed nothing.
    pub fn must_fail(self, errno: i32) -> Verdict {
        self.must(&Expect::Refused(errno))
    }

    /// The call is refused with one of these; which, is left open by the rule and does not show in the snapshot.
    pub fn must_fail_with_any(self, errnos: &[i32]) -> Verdict {
        self.may(&errnos.iter().map(|errno| Expect::Refused(*errno)).collect::<Vec<_>>())
    }

    /// One of what the rule leaves open happens; the main snapshot does not show which.
    pub fn may(self, allowed: &[Expect]) -> Verdict {
        self.lab.judge(self.step, &Expect::AnyOf(allowed.to_vec()), &self.outcome)
    }

    /// Asks for one of what is allowed, without a word in the snapshot: for what differs between correct systems.
    ///
    /// # Errors
    /// A violation where it is something else.
    pub fn quietly(self, expect: &Expect) -> Verdict {
        if !expect.allows(&self.outcome) {
            self.lab.excuse(self.step, &self.outcome)?;
        }
        self.lab.judge(self.step, expect, &self.outcome)?;
        self.lab.agree(self.step);
        Ok(())
    }

    /// The call succeeds, whatever its value. What a machine lacks is a skip.
    pub fn must_succeed(self) -> Verdict {
        self.lab.excuse(self.step, &self.outcome)?;
        self.must(&Expect::Success)
    }

    /// The call succeeds as part of the preparations: the snapshot does not speak of it.
    pub fn prepared(self) -> Verdict {
        self.succeeded().map(|_| ())
    }

    /// The call succeeds with this value: a count, a position, a byte of memory.
    pub fn must_return(self, value: impl Into<u64>) -> Verdict {
        self.lab.excuse(self.step, &self.outcome)?;
        self.must(&Expect::Value(value.into()))
    }

    /// The call yields this number, which counts no bytes: what a word of memory holds.
    pub fn must_be(self, number: u64) -> Verdict {
        self.lab.excuse(self.step, &self.outcome)?;
        self.must(&Expect::Number(number))
    }

    /// The call yields exactly these bytes.
    pub fn must_hold(self, data: &Data) -> Verdict {
        self.must_equal(&data.to_vec())
    }

    /// The call yields exactly these bytes.
    pub fn must_equal(self, bytes: &[u8]) -> Verdict {
        self.lab.excuse(self.step, &self.outcome)?;
        match &self.outcome {
            Outcome::Bytes(seen) if seen == bytes => {
                self.lab.agree(self.step);
                self.lab.say_contents(bytes);
                Ok(())
            }
            _ => self.must(&Expect::Bytes(bytes.to_vec())),
        }
    }

    /// The access ends in this signal with this si_code, `at` bytes beyond the address that it named, and not elsewhere.
    pub fn must_fault(self, signal: i32, code: i32, at: impl Into<Size>) -> Verdict {
        let at = at.into().get() as isize;
        self.must(&Expect::Fault { signal, code, at })
    }

    /// The access hits an address where nothing is mapped: SIGSEGV, SEGV_MAPERR (sigaction(2)).
    pub fn must_be_unmapped(self, at: impl Into<Size>) -> Verdict {
        self.must_fault(libc::SIGSEGV, super::SEGV_MAPERR, at)
    }

    /// The access is against the rights of the mapping: SIGSEGV, SEGV_ACCERR (sigaction(2)).
    pub fn must_be_forbidden(self, at: impl Into<Size>) -> Verdict {
        self.must_fault(libc::SIGSEGV, super::SEGV_ACCERR, at)
    }

    /// The access hits a page wholly beyond the end of the file: SIGBUS, BUS_ADRERR (sigaction(2), mmap(2)).
    pub fn must_be_beyond_the_file(self, at: impl Into<Size>) -> Verdict {
        self.must_fault(libc::SIGBUS, super::BUS_ADRERR, at)
    }

    /// The call kills the process by this signal.
    pub fn must_die_of(self, signal: i32) -> Verdict {
        self.must(&Expect::Died(signal))
    }

    /// The process ends with this status.
    pub fn must_exit(self, status: i32) -> Verdict {
        self.must(&Expect::Exited(status))
    }

    /// The outcome of a preparation that has succeeded.
    pub fn succeeded(self) -> Verdict<Outcome> {
        self.lab.excuse(self.step, &self.outcome)?;
        self.lab.judge(self.step, &Expect::Success, &self.outcome)?;
        Ok(self.outcome)
    }

    /// The value of a call that must have succeeded.
    pub fn value(self) -> Verdict<u64> {
        let (lab, step) = (self.lab, self.step);
        match self.succeeded()? {
            Outcome::Value(value) => Ok(value),
            other => Err(lab.departure(step, "a value".into(), other.to_string())),
        }
    }

    /// The bytes of a call that must have succeeded.
    pub fn bytes(self) -> Verdict<Vec<u8>> {
        let (lab, step) = (self.lab, self.step);
        match self.succeeded()? {
            Outcome::Bytes(bytes) => Ok(bytes),
            other => Err(lab.departure(step, "bytes".into(), other.to_string())),
        }
    }

    /// The address that mmap or mremap gave.
    pub fn address(self) -> Verdict<usize> {
        let (lab, step) = (self.lab, self.step);
        match self.succeeded()? {
            Outcome::Mapped(address) => Ok(address),
            other => Err(lab.departure(step, "an address".into(), other.to_string())),
        }
    }

    /// What stat said.
    pub fn stat(self) -> Verdict<Stat> {
        let (lab, step) = (self.lab, self.step);
        match self.succeeded()? {
            Outcome::Stat(stat) => Ok(stat),
            other => Err(lab.departure(step, "struct stat".into(), other.to_string())),
        }
    }

    /// The fault that the access ended in, if it did.
    pub fn fault(&self) -> Option<Fault> {
        match self.outcome {
            Outcome::Fault(fault) => Some(fault),
            _ => None,
        }
    }

    /// A relation that the claim computed: `words` say what should be the case, `seen` what is.
    pub fn must_satisfy(self, holds: bool, words: &str, seen: impl FnOnce(&Outcome) -> String) -> Verdict {
        self.lab.relation(self.step, holds, words, || seen(&self.outcome))
    }
}
