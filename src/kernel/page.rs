//! Sizes and positions in the unit that the running kernel maps by.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};

use serde::{Deserialize, Serialize};

/// The page size of the running kernel, in bytes, as it tells every program (getauxval(3), AT_PAGESZ).
pub fn page() -> usize {
    rustix::param::page_size()
}

/// A number of bytes: a length, an offset in a file, a distance from an address.
///
/// It is written in pages and the bytes to the nearest page boundary (`2p+17`, `1p-1`), so that
/// kernels with pages of other sizes answer in the same words. Arithmetic wraps, as addresses do.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Size(pub usize);

/// `n` pages.
pub fn pages(n: usize) -> Size {
    Size(n.wrapping_mul(page()))
}

/// `n` bytes.
pub fn bytes(n: usize) -> Size {
    Size(n)
}

impl Size {
    /// Nothing.
    pub const ZERO: Size = Size(0);

    /// The number of bytes.
    pub fn get(self) -> usize {
        self.0
    }

    /// The whole pages that hold this many bytes: the rounding that mmap applies to its length.
    pub fn round_up(self) -> Size {
        Size(self.0.div_ceil(page()).wrapping_mul(page()))
    }

    /// The page boundary at or below.
    pub fn round_down(self) -> Size {
        Size(self.0 / page() * page())
    }

    /// How many pages hold this many bytes.
    pub fn in_pages(self) -> usize {
        self.0.div_ceil(page())
    }

    /// Whether it is a whole number of pages.
    pub fn is_whole(self) -> bool {
        self.0.is_multiple_of(page())
    }

    /// The difference, 0 where `other` is larger.
    pub fn less(self, other: Size) -> Size {
        Size(self.0.saturating_sub(other.0))
    }
}

impl<N: Into<Size>> Add<N> for Size {
    type Output = Size;
    fn add(self, other: N) -> Size {
        Size(self.0.wrapping_add(other.into().0))
    }
}

impl<N: Into<Size>> Sub<N> for Size {
    type Output = Size;
    fn sub(self, other: N) -> Size {
        Size(self.0.wrapping_sub(other.into().0))
    }
}

impl Mul<usize> for Size {
    type Output = Size;
    fn mul(self, times: usize) -> Size {
        Size(self.0.wrapping_mul(times))
    }
}

impl AddAssign<Size> for Size {
    fn add_assign(&mut self, other: Size) {
        *self = *self + other;
    }
}

impl From<usize> for Size {
    fn from(bytes: usize) -> Size {
        Size(bytes)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: u32 = 32;
        let near = |value: usize, base: usize| value.wrapping_sub(base) as isize;
        if self.0 >> (NAMED - 1) != 0 {
            for power in NAMED - 1..=64 {
                let base = 1usize.checked_shl(power).unwrap_or(0);
                let distance = near(self.0, base);
                if distance.unsigned_abs() <= 1024 * page() {
                    write!(f, "2^{power}")?;
                    return signed(distance, f);
                }
            }
        }
        match self.0 {
            n if n <= page() / 2 => write!(f, "{n}"),
            n => {
                let whole = n / page() + usize::from(n % page() > page() / 2);
                write!(f, "{whole}p")?;
                rest(near(n, whole.wrapping_mul(page())), f)
            }
        }
    }
}

/// A distance with its sign, nothing for none: what follows a name or a power of two.
pub fn signed(distance: isize, f: &mut impl fmt::Write) -> fmt::Result {
    match distance {
        0 => Ok(()),
        d if d > 0 => write!(f, "+{}", Size(d.unsigned_abs())),
        d => write!(f, "-{}", Size(d.unsigned_abs())),
    }
}

fn rest(bytes: isize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if bytes == 0 { Ok(()) } else { write!(f, "{bytes:+}") }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
