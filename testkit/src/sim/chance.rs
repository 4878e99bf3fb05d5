//! The source of a simulation's decisions: a seed's pseudorandom numbers, or a fuzzer's bytes.

/// A seed, or the bytes that a fuzzer chose.
pub(super) enum Chance<'a> {
    Seed(u64),
    /// Once the bytes are used up, every decision is 0.
    Bytes(&'a [u8]),
}

impl Chance<'_> {
    /// Whether the fuzzer's bytes are used up.
    pub(super) fn is_used_up(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// A number less than `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let number = match self {
            // SplitMix64.
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Self::Bytes(bytes) => {
                let len = if bound > 256 { 3 } else { 1 }.min(bytes.len());
                let (taken, rest) = bytes.split_at(len);
                *bytes = rest;
                taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
        };
        (number % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number up to `bound`, log-uniform: each power of two below `bound` is as likely as any other.
    pub(super) fn size(&mut self, bound: usize) -> usize {
        let magnitude = self.below(bound.max(1).ilog2() as usize + 2);
        self.below((1 << magnitude).min(bound + 1))
    }
}
