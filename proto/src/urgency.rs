//! Urgency: which queued call or stream is sent first.

/// A priority class (RFC 9218), from 0, the most urgent, to 7, the least urgent. Default: 3.
///
/// There are no values outside this range: a peer would have to treat them as a protocol violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urgency(u8);

impl Urgency {
    /// The most urgent class, 0.
    pub const MOST: Self = Self(0);
    /// The class of calls that don't set one, 3.
    pub const DEFAULT: Self = Self(3);
    /// The least urgent class, 7.
    pub const LEAST: Self = Self(7);
    /// Number of classes.
    pub(crate) const CLASSES: usize = Self::LEAST.0 as usize + 1;

    /// The class with this number; `None` if it is over 7.
    pub const fn new(class: u8) -> Option<Self> {
        if class <= Self::LEAST.0 { Some(Self(class)) } else { None }
    }

    /// All classes, most urgent first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (Self::MOST.0..=Self::LEAST.0).map(Self)
    }

    /// The number of the class, from 0 to 7.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Urgency {
    fn default() -> Self {
        Self::DEFAULT
    }
}
